"""Addresses as people write them."""

import pytest

from fedcomp.address import Address
from fedcomp.errors import UsageError


def test_it_listens_on_loopback_unless_told_otherwise():
    assert Address.parse("9100") == ("127.0.0.1", 9100)
    assert Address.parse(":9100") == ("127.0.0.1", 9100)
    assert Address.parse("0.0.0.0:9100") == ("0.0.0.0", 9100)
    assert Address.parse("metrics.example:9100") == ("metrics.example", 9100)
    assert Address.parse("[::1]:0") == ("::1", 0)
    for wrong in ("", "host", "host:", "host:99999", "::1:9100", "1:2:3", "host:٣"):
        with pytest.raises(UsageError, match="expected PORT, HOST:PORT or"):
            Address.parse(wrong)


def test_plain_text_beyond_this_machine_has_to_be_asked_for():
    for host in ("0.0.0.0", "192.0.2.1", "metrics.example", "::"):
        address = Address(host, 9100)
        with pytest.raises(UsageError, match="is not on loopback: give --tls DIR, or --insecure"):
            address.require_tls(has_tls=False, insecure=False, hint="--tls DIR")
        address.require_tls(has_tls=True, insecure=False, hint="--tls DIR")
        address.require_tls(has_tls=False, insecure=True, hint="--tls DIR")
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1"):
        Address(host, 9100).require_tls(has_tls=False, insecure=False, hint="--tls DIR")
