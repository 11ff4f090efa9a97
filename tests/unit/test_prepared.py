"""Messages that are encoded beforehand."""

from __future__ import annotations

import pytest

from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.prepared import place_in_link, prepared, renumbered
from cni_repair.repair.armed.ready import _COUNT_BITS, _ranges

_LINK = nl.link_body(7, 0, 0, nl.text(rt.IFLA_IFNAME, "eth0") + nl.u32(rt.IFLA_LINK, 5))
_NEW = nl.Message(rt.RTM_NEWLINK, rt.NLM_F_CREATE | rt.NLM_F_EXCL, _LINK)


def headers(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Flags and number of each message."""
    return [(flags, number) for _, flags, number, _ in nl.messages_in(bytes(data))]


def test_numbers_begin_with_one_and_the_last_is_answered() -> None:
    flags = rt.NLM_F_REQUEST | _NEW.flags
    assert headers(prepared([_NEW, _NEW])) == [(flags, 1), (flags | rt.NLM_F_ACK, 2)]


def test_a_value_is_found_and_replaced() -> None:
    data = bytearray(prepared([_NEW]))
    at = place_in_link(bytes(data), rt.IFLA_LINK)
    assert data[at : at + 4] == b"\5\0\0\0"
    data[at : at + 4] = b"\x09\0\0\0"
    ((_, _, _, body),) = nl.messages_in(bytes(data))
    assert nl.unpack_link(body)[2][rt.IFLA_LINK] == b"\x09\0\0\0"


def test_a_value_that_is_not_there() -> None:
    with pytest.raises(LookupError):
        place_in_link(prepared([_NEW]), rt.IFLA_NET_NS_FD)


def test_one_of_several() -> None:
    data = prepared([_NEW])
    assert headers(renumbered(data, 3, is_last=False)) == [(rt.NLM_F_REQUEST | _NEW.flags, 3)]
    assert headers(renumbered(data, 1, is_last=True)) == headers(data)


@pytest.mark.parametrize(
    ("numbers", "most", "ranges"),
    [
        ([], 4, []),
        ([0, 1, 2], 4, [(0, 3)]),
        ([0, 1, 2, 3, 4], 2, [(0, 2), (2, 2), (4, 1)]),
        ([1, 3, 4], 4, [(1, 1), (3, 2)]),
    ],
)
def test_ranges(numbers: list[int], most: int, ranges: list[tuple[int, int]]) -> None:
    assert [divmod(one, 1 << _COUNT_BITS) for one in _ranges(numbers, most)] == ranges
