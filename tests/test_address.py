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
