"""What the kernel is about to change by itself, seen in what `ip -d -j addr show` prints."""

from __future__ import annotations

from typing import Any

import pytest

from cni_repair.demo.lab import unsettled

Json = dict[str, Any]


def link(state: str = "UP", flags: str = "UP,LOWER_UP", **more: Any) -> Json:
    given = {"flags": flags.split(","), "operstate": state, "addr_info": []}
    return {**given, "linkinfo": {"info_kind": "macvlan"}, **more}


def address(**flags: bool) -> Json:
    return {"addr_info": [{"local": "10.9.0.2"}, {"local": "fe80::1", **flags}]}


STAYS: dict[str, Json] = {
    "no link": {},
    "up": link(**address()),
    "down": link("DOWN", "BROADCAST", **address(tentative=True)),
    "without carrier": link("LOWERLAYERDOWN", "NO-CARRIER,UP", **address(tentative=True)),
    "a duplicate was found": link(**address(tentative=True, dadfailed=True)),
    "lo": link("UNKNOWN", linkinfo={}),
    "dummy": link("UNKNOWN", linkinfo={"info_kind": "dummy"}),
}
CHANGES: dict[str, tuple[Json, str]] = {
    "detection is at work": (link(**address(tentative=True)), "fe80::1"),
    "linkwatch has not looked at a new link": (link("UNKNOWN"), "its operational state"),
    "nor at one whose carrier came": (link("DOWN"), "its carrier"),
    "nor since that of its master came": (link("LOWERLAYERDOWN"), "its carrier"),
    "nor since it went": (link("UP", "UP"), "its carrier"),
}


@pytest.mark.parametrize("case", STAYS)
def test_nothing_is_waited_for(case: str) -> None:
    assert unsettled(STAYS[case]) == ""


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_waited_for(case: str) -> None:
    found, why = CHANGES[case]
    assert unsettled(found) == why
