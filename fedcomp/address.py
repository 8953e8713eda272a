"""Network addresses as people write them."""

from __future__ import annotations

from typing import NamedTuple

from fedcomp.errors import UsageError

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """Where to listen, or what to call."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``PORT``, which is on loopback, ``HOST:PORT`` or ``[IPV6]:PORT``. Port 0 takes a free one.

        Raises:
            UsageError: It is none of these.

        Example:
            >>> Address.parse("9100"), str(Address.parse("[::1]:9100"))
            (Address(host='127.0.0.1', port=9100), '[::1]:9100')
        """
        host, _, port = text.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if not (port.isascii() and port.isdigit() and int(port) < 2**16) or (":" in host and not is_bracketed):
            raise UsageError(f"address is {text!r}, expected PORT, HOST:PORT or [IPV6]:PORT")
        return cls(host.strip("[]") or LOOPBACK, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in {LOOPBACK, "localhost", "::1"} or self.host.startswith("127.")

    def require_tls(self, *, has_tls: bool, insecure: bool, hint: str) -> None:
        """Refuse plain text beyond this machine, unless somebody asks for it.

        Args:
            has_tls: Whether TLS is used.
            insecure: Whether ``--insecure`` was given.
            hint: The option that gives TLS, with its value.

        Raises:
            UsageError: It is not on loopback, and there is neither.
        """
        if not (has_tls or insecure or self.is_loopback):
            raise UsageError(f"{self} is not on loopback: give {hint}, or --insecure to go without TLS")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
