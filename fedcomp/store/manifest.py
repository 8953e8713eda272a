"""What is known of a stored model beside its bytes: small JSON, by which it is listed, chosen and checked."""

from __future__ import annotations

import json
from datetime import datetime  # noqa: TC003 - pydantic looks at it
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fedcomp.errors import ArtifactError, UsageError
from fedcomp.store.names import check_name

MAX_MANIFEST_BYTES = 1 << 16
"""Longest manifest that is read or written."""

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Length = Annotated[int, Field(ge=1, le=1 << 16)]
_Accuracy = Annotated[float, Field(ge=0, le=1)]


class Manifest(BaseModel):
    """What a stored model is.

    Args:
        name: Of the model; see `check_name`.
        artifact: SHA-256 of the artifact.
        artifact_bytes: Its length.
        weights: SHA-256 of the ONNX model that it decodes to.
        model_bytes: Length of that.
        original_bytes: Length of the ONNX file that it was made from.
        image_shape: Channels, height, width; pixels are float32 in [0, 1].
        num_classes: Length of a row of logits.
        codec: Of the weights, as text.
        accuracy: Shares of images by what was measured, 0 to 1: ``float_validation``, ``stored_validation``, ...
        card: What the run that made it tells; of no importance here.
        created: When it was stored, with a time zone.
        fedcomp: The version that stored it.
        parent: SHA-256 of the manifest before it under this name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    name: str
    artifact: _Digest
    artifact_bytes: Annotated[int, Field(ge=1)]
    weights: _Digest
    model_bytes: Annotated[int, Field(ge=1)]
    original_bytes: Annotated[int, Field(ge=1)]
    image_shape: tuple[_Length, _Length, _Length]
    num_classes: Annotated[int, Field(ge=1, le=1 << 20)]
    codec: str
    accuracy: dict[str, _Accuracy] = {}
    card: dict[str, Any] = {}
    created: datetime
    fedcomp: str
    parent: _Digest | None = None

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        try:
            return check_name(name)
        except UsageError as error:
            raise ValueError(str(error)) from None

    def to_bytes(self) -> bytes:
        """Return its JSON; equal manifests have equal bytes.

        Raises:
            UsageError: It is too long: the card is.
        """
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()
        if len(content) > MAX_MANIFEST_BYTES:
            raise UsageError(
                f"manifest has {len(content)} bytes, at most {MAX_MANIFEST_BYTES} are allowed: cut the card"
            )
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Read what `to_bytes` wrote.

        Raises:
            ArtifactError: It is something else.
        """
        if len(content) > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"manifest has {len(content)} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
        try:
            return cls.model_validate_json(content)
        except (ValidationError, RecursionError) as error:
            raise ArtifactError(f"manifest can not be read: {str(error).splitlines()[0]}") from None
