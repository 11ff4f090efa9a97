"""The witness of trust/crowded: who speaks for which address."""

from __future__ import annotations

import pytest

from cni_repair.network.reachability.frames import (
    arp_probe,
    dad_solicitation,
    gratuitous_arp,
    unsolicited_na,
)
from integration.trust.watched.wire import Speakers, claims

A, B = b"\x02" + bytes(5), b"\x06" + bytes(5)
IPV4, IPV6 = "10.9.0.2", "fd00:9::2"


def said(*speakers: bytes) -> list[str]:
    heard = Speakers()
    for at, mac in enumerate(speakers):
        heard.saw(IPV4, mac, float(at))
    return heard.twice


def test_an_address_that_is_given_on_is_on_the_wire_once() -> None:
    assert said(A, A, B, B) == []


def test_taking_turns_is_twice() -> None:
    (words,) = said(A, B, A)
    assert words.startswith(f"{IPV4} was {A.hex(':')}'s until 1.000 s ago")


@pytest.mark.parametrize(
    ("frame", "claimed"),
    [
        (gratuitous_arp(A, IPV4), [(IPV4, A)]),
        (arp_probe(A, IPV4), []),
        # The frame's source says so, and so does what is in it.
        (unsolicited_na(A, IPV6), [(IPV6, A), (IPV6, A)]),
        (dad_solicitation(A, IPV6), []),
        (bytes(6) + A + b"\x08\x00" + bytes(12) + bytes([10, 9, 0, 2, 10, 9, 0, 1]), [(IPV4, A)]),
        (bytes(6) + A + b"\x86\xdd", []),
    ],
    ids=["announcement", "probe", "advertisement", "detection", "packet", "cut off"],
)
def test_who_claims_an_address_by_a_frame(frame: bytes, claimed: list[tuple[str, bytes]]) -> None:
    assert [*claims(frame)] == claimed
