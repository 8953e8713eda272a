"""Every error that fedcomp raises on purpose.

::

    FedcompError
    ├── UsageError            the caller asked for something impossible: exit code 2
    │   ├── ConfigError       a run configuration: unknown key, wrong type, impossible pair
    │   └── CodecSpecError    a codec text that does not parse, with the place in the text
    ├── DataError             a data set that is missing, malformed or too small
    ├── RunError              a run that could not be finished
    ├── CheckpointError       a checkpoint that is damaged, or could not be written
    ├── CredentialError       a key or certificate that is missing, damaged or of the wrong kind
    ├── EncodeError           an update that can not be encoded (not finite, not the model's)
    ├── StoreError            a model store that can not be read or written
    │   ├── UnknownModel      it has no model of that name or digest
    │   └── ArtifactError     a stored model that is damaged, too large, or none
    ├── ServingError          a model service that can not be reached, or that refuses
    │   └── OverLimit         a request that asks for more than the service bears
    └── FrameError            a frame that was refused; `reason` is a stable word for counting
        ├── FrameTooLarge     over a cap, before anything was allocated for it
        ├── FrameMalformed    not a frame: magic, version, lengths, header, section contents
        ├── ChecksumMismatch  the bytes were damaged on the way
        ├── SpecMismatch      made for a model of other names, types or shapes
        ├── WrongCodec        written by another codec than was ordered
        ├── StaleFrame        made for another run, round, sender or global model
        ├── MissingContext    made with the help of models that the receiver was not given
        └── InvalidValues     decodes to values that no honest update has (NaN, infinite, over the norm)

`fedcomp.flower` adds frame errors of a round: who is not asked, has answered, is not authenticated, or lost a model.
"""

from __future__ import annotations

from typing import ClassVar


class FedcompError(Exception):
    """Root of all errors that fedcomp raises on purpose."""


class UsageError(FedcompError):
    """The caller asked for something impossible; the command line exits with code 2."""


class ConfigError(UsageError):
    """A run configuration with an unknown key, a wrong type, a value out of range or an impossible pair."""


class CodecSpecError(UsageError):
    """A codec text that does not parse.

    Args:
        message: What was found and what was expected.
        text: The whole codec text.
        position: Index of the first character that is wrong.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(f"{message}\n  {text}\n  {' ' * position}^")
        self.text = text
        self.position = position


class DataError(FedcompError):
    """A data set that is missing, malformed or too small for what was asked of it."""


class RunError(FedcompError):
    """A run that could not be finished."""


class CheckpointError(FedcompError):
    """A checkpoint that is damaged, of another run, or can not be written."""


class CredentialError(FedcompError):
    """A key or certificate that is missing, damaged, of the wrong kind, or can not be written."""


class EncodeError(FedcompError):
    """An update that can not be encoded: not finite, or not of the model's names and shapes."""


class StoreError(FedcompError):
    """A model store that can not be read or written."""


class UnknownModel(StoreError):
    """A store has no model of that name or digest."""


class ArtifactError(StoreError):
    """A stored model that is damaged, too large, or none."""


class ServingError(FedcompError):
    """A model service that can not be reached, or that refuses."""


class OverLimit(ServingError):
    """A request that asks for more than the service bears, now or ever."""


class FrameError(FedcompError):
    """A frame that was refused.

    Attributes:
        reason: A stable word under which refusals are counted and reported.
    """

    reason: ClassVar[str] = "refused"


class FrameTooLarge(FrameError):
    """A frame, or what it claims to decode to, is over a cap. Nothing was allocated for it."""

    reason = "too-large"


class FrameMalformed(FrameError):
    """Bytes that are not a frame: magic, version, lengths, header or section contents are wrong."""

    reason = "malformed"


class ChecksumMismatch(FrameError):
    """A frame whose bytes were damaged on the way."""

    reason = "checksum"


class SpecMismatch(FrameError):
    """A frame made for a model with other names, types or shapes."""

    reason = "wrong-model"


class WrongCodec(FrameError):
    """The frame was written by another codec than the one that was asked for."""

    reason = "wrong-codec"


class StaleFrame(FrameError):
    """A frame made for another run, round, sender or global model: late, replayed or misdirected."""

    reason = "stale"


class MissingContext(FrameError):
    """A frame that was made with the help of earlier models, which the receiver was not given."""

    reason = "missing-context"


class InvalidValues(FrameError):
    """A frame that decodes to values no honest update has: NaN, infinite, or over the norm limit."""

    reason = "invalid-values"
