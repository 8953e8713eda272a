"""The nodes that a SuperLink knows, by Flower's command line: ``flwr supernode list, register, unregister``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, Field

from fedcomp.errors import RunError

if TYPE_CHECKING:
    from fedcomp.deployment.node_keys import NodeKey

_UNREGISTERED = "unregistered"
_KEY_IN_USE = "[code: 23]"  # Flower's ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE
_LAST_CHARACTERS = 300


class RunFlwr(Protocol):
    """Runs ``flwr ARGUMENTS...`` with the SuperLink as its default connection and returns what it wrote to stdout."""

    def __call__(self, *arguments: str) -> str:
        """Run one command."""


class _Node(BaseModel):
    node_id: int = Field(alias="node-id")
    status: str


class _Reply(BaseModel):
    success: bool
    error: str = Field(default="", alias="error-message")
    node_id: int = Field(default=0, alias="node-id")
    nodes: list[_Node] = []


class FlwrNodes:
    """The nodes of one SuperLink. Each call is a process of about a second.

    Args:
        run_flwr: Runs Flower's command line.
    """

    def __init__(self, run_flwr: RunFlwr) -> None:
        self._run_flwr = run_flwr

    def known(self) -> tuple[set[int], set[int]]:
        """Return the ids that are registered, and those that were unregistered.

        Raises:
            RunError: Flower refuses.
        """
        nodes = self._succeed("list", "--verbose").nodes
        dead = {node.node_id for node in nodes if node.status == _UNREGISTERED}
        return {node.node_id for node in nodes} - dead, dead

    def register(self, key: NodeKey) -> int | None:
        """Register a key and return its node id; None if the SuperLink knows the key, or has unregistered it.

        Raises:
            RunError: Flower refuses for another reason.
        """
        reply = self._call("register", str(key.path), "--name", key.name)
        if not reply.success and _KEY_IN_USE in reply.error:
            return None
        return _checked(reply, f"register {key.path}").node_id

    def unregister(self, node_id: int) -> None:
        """Unregister a node, for good: its process ends, and the SuperLink never takes its key again.

        Raises:
            RunError: Flower refuses.
        """
        self._succeed("unregister", str(node_id))

    def _succeed(self, *arguments: str) -> _Reply:
        return _checked(self._call(*arguments), " ".join(arguments))

    def _call(self, *arguments: str) -> _Reply:
        # With --format json Flower exits with 0 even when it fails, and says so in what it prints.
        printed = self._run_flwr("supernode", *arguments, "--format", "json")
        try:
            return _Reply.model_validate_json(printed[printed.index("{") :])
        except ValueError:  # no brace, no JSON, or not Flower's
            said = printed.strip()[-_LAST_CHARACTERS:]
            raise RunError(f"flwr supernode {' '.join(arguments)} printed no JSON of its own: {said!r}") from None


def _checked(reply: _Reply, command: str) -> _Reply:
    if not reply.success:
        raise RunError(f"flwr supernode {command} failed: {' '.join(reply.error.split())[-_LAST_CHARACTERS:]}")
    return reply
