"""The screen of `watch --status`, and its one line in `status`."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cni_repair.cli.watch.view import lines
from cni_repair.watch.pausing import Pause
from cni_repair.watch.status import DEAD, HUNG, NONE, RUNNING, Standing
from tests.unit.watching import NOON, STATUS

BOOT_NOW = 100.0
PAUSE = Pause(BOOT_NOW + 600, "bob", "new cable at the far end")
REFUSED: dict[str, Any] = {
    "containerID": "c" * 64,
    "ifname": "eth0",
    "pod": "shop/web-1",
    "state": "foreign",
    "reason": "eth0 is a bridge",
}
MASTER: dict[str, Any] = {
    "name": "eth0",
    "up": True,
    "carrier": True,
    "awaySince": None,
    "attachments": 3,
    "armed": 0,
}


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def document(**changes: Any) -> dict[str, Any]:
    return {"schemaVersion": 1, "updated": 90.0, **copy.deepcopy(STATUS), **changes}


def screen(name: str = RUNNING, pause: Pause | None = None, **changes: Any) -> list[str]:
    standing = Standing(name, document(**changes), 45.0)
    return list(lines(standing, pause, NOON + 64, BOOT_NOW))


def fits(shown: list[str]) -> bool:
    """On a serial console, whose lines wrap."""
    return sum(1 + (len(line) - 1) // 80 for line in shown) <= 24


def test_a_node_with_troubles() -> None:
    assert screen() == [
        "251 attachments: 2 lost, 1 stale, 248 healthy",
        "watch: heals what an uplink takes with it (heal: uplink)",
        "  since 2023-11-14 22:13:20Z (PID 812), all pods looked at 4s ago",
        "  heals: 3 pods back, 1 not; the last 2023-11-14 22:13:50Z, after 2212 ms",
        "  restorable: 250 of 251 pod interfaces; the others: cni-repair snapshot --check",
        "MASTER   STATE         PODS  ARMED",
        "eth1     away for 16s  2     2",
        "bond4.3  up            249   0",
        "refused, and not tried again until something about them changes:",
        "  foreign shop/web-1 eth0:",
        "    eth0 is a bridge",
        "next: do what the reason says (all of it: cni-repair log shop/web-1),",
        "      then cni-repair repair --all",
        "next: cni-repair status, which says which other pods, why, and what to do",
    ]
    assert all(len(line) <= 80 for line in screen())


def well() -> dict[str, Any]:
    return {
        "attachments": {"healthy": 1, "lost": 0},
        "masters": [MASTER],
        "heals": {"total": 0, "failed": 0, "lastAt": None, "lastOutageMs": None},
        "refused": [],
        "unmanaged": 0,
        "coverage": {"restorable": 1, "interfaces": 1},
    }


def test_a_node_that_is_well() -> None:
    assert screen(**well(), heal="drift", lastLook=None) == [
        "1 attachment: 1 healthy",
        "watch: heals whatever a pod loses (heal: drift)",
        "  since 2023-11-14 22:13:20Z (PID 812), has not looked at all pods yet",
        "MASTER  STATE  PODS  ARMED",
        "eth0    up     3     0",
    ]


def test_a_node_without_pods() -> None:
    nothing: dict[str, Any] = {**well(), "attachments": {}, "masters": []}
    assert screen(**nothing)[0] == "0 attachments"
    assert len(screen(**nothing)) == 3


@pytest.mark.parametrize("state", ["lost", "degraded", "foreign", "released", "unreadable"])
def test_pods_that_are_not_well_are_said_first_with_what_to_do(state: str) -> None:
    shown = screen(**{**well(), "attachments": {"healthy": 7, state: 1}})
    assert shown[0] == f"8 attachments: 1 {state}, 7 healthy"
    assert shown[-1].startswith("next: cni-repair status")


@pytest.mark.parametrize(
    ("pod", "name"), [("n" * 30 + "/x", "c" * 12), ("", "c" * 12), ("shop/web-1", "shop/web-1")]
)
def test_what_was_refused_is_not_sent_round_in_a_circle(pod: str, name: str) -> None:
    """`status` would only name the repair that is refused."""
    shown = screen(**{**well(), "attachments": {"lost": 1}, "refused": [{**REFUSED, "pod": pod}]})
    assert shown[-2:] == [
        f"next: do what the reason says (all of it: cni-repair log {name}),",
        "      then cni-repair repair --all",
    ]
    assert all(len(line) <= 80 for line in shown)


def test_during_an_upgrade_nobody_is_told_to_repair() -> None:
    shown = screen(mode="upgrading", reason="cni-repair upgrade is at work")
    (step,) = [line for line in shown if line.startswith("next: ")]
    assert (
        step == "next: cni-repair upgrade --status, which says where it stands; leave it its work"
    )
    assert len(step) <= 80


@pytest.mark.parametrize("state", ["stale", "renamed"])
def test_what_is_no_failure_asks_for_nothing(state: str) -> None:
    shown = screen(**{**well(), "attachments": {"healthy": 7, state: 1}})
    assert not any("next:" in line for line in shown)


@pytest.mark.parametrize(
    ("mode", "reason", "pause", "line"),
    [
        ("looking", "heal: off in its configuration", None,
         "watch: looking, heals nothing: heal: off in its configuration"),
        ("upgrading", "upgrade is at work", None, "watch: upgrading, heals nothing: upgrade is at"),
        ("healing", "", PAUSE, "watch: paused by bob for another 10m: new cable at the far end"),
        ("paused", "x", PAUSE, "watch: paused by bob for another 10m: new cable at the far end"),
    ],
)  # fmt: skip
def test_what_it_does(mode: str, reason: str, pause: Pause | None, line: str) -> None:
    shown = screen(pause=pause, mode=mode, reason=reason)
    assert shown[1].startswith(line)
    assert ("  to end that: cni-repair watch --resume" in shown) == bool(pause)


@pytest.mark.parametrize("name", [RUNNING, NONE, DEAD, HUNG])
def test_a_mistake_in_its_file_is_told_before_a_start_that_would_fail(name: str) -> None:
    path = "/etc/cni-repair/watch.yaml"
    standing = Standing(name, None if name == NONE else document(), 45.0)
    shown = list(lines(standing, None, NOON + 64, BOOT_NOW, path))
    at = next(number for number, line in enumerate(shown) if f"cni-repair validate {path}" in line)
    starts = [number for number, line in enumerate(shown) if "start cni-repair-watch" in line]
    assert len(starts) == (name != RUNNING) and all(at < start for start in starts)
    assert all(len(line) <= 80 for line in shown)


def test_a_held_kubelet_is_told() -> None:
    assert "  kubelet is held for 1m 4s" in screen(kubelet={"held": True, "since": NOON})


@pytest.mark.parametrize(
    ("name", "first", "next_step"),
    [
        (DEAD, "watch: DOES NOT RUN: nothing is healed by itself", "start"),
        (HUNG, "watch: HANGS: nothing is healed by itself", "restart"),
    ],
)
def test_one_that_heals_nothing_says_so_first(name: str, first: str, next_step: str) -> None:
    shown = screen(name)
    assert shown[0] == f"{first}; what follows is 45s old"
    assert shown[1] == f"  next: systemctl {next_step} cni-repair-watch"
    assert shown[3] == "        what is lost now: cni-repair status"
    assert "251 attachments: 2 lost, 1 stale, 248 healthy" in shown
    assert not any("PID" in line for line in shown)
    assert all(len(line) <= 80 for line in shown)


@pytest.mark.parametrize("name", [NONE, DEAD, HUNG, RUNNING])
@pytest.mark.parametrize("pause", [None, PAUSE])
def test_one_that_has_told_nothing_yet(name: str, pause: Pause | None) -> None:
    shown = list(lines(Standing(name, None, 0.0), pause, NOON, BOOT_NOW))
    assert shown[0].startswith("watch: ")
    assert ("paused by bob for another 10m: new cable at the far end" in shown) == bool(pause)
    assert ("just started" in shown[0]) == (name == RUNNING)


def test_masters_that_are_not_up_come_first() -> None:
    masters = [
        {**MASTER, "name": "a"},
        {**MASTER, "name": "b", "carrier": False},
        {**MASTER, "name": "c", "up": False, "carrier": False},
        {**MASTER, "name": "d", "up": False, "carrier": False, "awaySince": NOON},
    ]
    shown = screen(**{**well(), "masters": masters})
    assert [line.split("  ")[0] for line in shown[4:]] == ["b", "c", "d", "a"]
    assert [line[8:21].strip() for line in shown[4:]] == [
        "no carrier", "down", "away for 1m 4s"[:13], "up",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("away", "last"),
    [
        (0, "… and 96 more, all up (-o json: all)"),
        (9, "… and 96 more, 5 of them not up (-o json: all)"),
    ],
)
def test_a_hundred_vlans_are_told_in_part(away: int, last: str) -> None:
    masters = [
        {**MASTER, "name": f"eth0.{number}", "awaySince": NOON if number < away else None}
        for number in range(100)
    ]
    assert screen(**{**well(), "masters": masters})[-1] == last


def test_the_worst_node_fits_on_the_screen() -> None:
    """Whatever pods call themselves, and however long a reason is."""
    worst: dict[str, Any] = {
        "masters": [
            {**MASTER, "name": f"eth{number}" + "x" * 11, "up": False} for number in range(200)
        ],
        "refused": [{**REFUSED, "reason": f"{number} " + "why " * 99} for number in range(200)],
        "kubelet": {"held": True, "since": NOON},
    }
    pause = Pause(BOOT_NOW + 86_000, "b" * 64, "r" * 200)
    for name in (RUNNING, DEAD, HUNG):
        standing = Standing(name, document(**worst), 45.0)
        for in_force, mistaken in ((None, ""), (pause, "/etc/cni-repair/watch.yaml")):
            shown = list(lines(standing, in_force, NOON + 64, BOOT_NOW, mistaken))
            assert fits(shown), "\n".join(shown)
            assert any(f"… and {199 if in_force else 198} more" in line for line in shown)


@pytest.mark.parametrize(("times", "last"), [(1, "end"), (2, "end"), (9, "…")])
def test_a_long_reason_has_two_lines(times: int, last: str) -> None:
    reason = "address 10.9.0.50 is in use by 02:00:00:00:00:66, " * times + "end"
    shown = screen(refused=[{**REFUSED, "reason": reason}])
    at = shown.index("  foreign shop/web-1 eth0:")
    told = shown[at + 1 : -3]
    assert len(told) == min(times, 2)
    assert told[0].startswith("    address 10.9.0.50 is in use by 02:00:00:00:00:66")
    assert told[-1].endswith(last)
    assert all(len(line) <= 80 for line in told)


def test_heals_of_which_none_worked() -> None:
    heals = {"total": 0, "failed": 2, "lastAt": None, "lastOutageMs": None}
    assert "  heals: 0 pods back, 2 not" in screen(heals=heals)


def test_a_pods_words_are_one_line() -> None:
    """What steers a terminal is taken out where a line is printed."""
    odd = [{**REFUSED, "reason": "a\n\tb"}, {**REFUSED, "pod": ""}]
    shown = screen(refused=odd)
    assert shown[-6:-2] == [
        "  foreign shop/web-1 eth0:", "    a b",
        "  foreign cccccccccccc eth0:", "    eth0 is a bridge",
    ]  # fmt: skip


# --- the cluster ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (None, []),
        ({}, []),
        (
            {"node": "node-1", "condition": "False", "at": NOON + 54},
            ["  kubernetes: PodNetworkLost=False of node node-1, told 10s ago"],
        ),
        (
            {"trouble": "the kubeconfig /x is not used: its server '' is none of https"},
            ["  kubernetes: the kubeconfig /x is not used: its server '' is none of https"],
        ),
        (
            {"node": "n", "condition": "True", "at": NOON + 4, "trouble": "the API server slept"},
            [
                "  kubernetes: PodNetworkLost=True of node n, told 1m ago",
                "  kubernetes: the API server slept",
            ],
        ),
    ],
    ids=["older version", "nobody", "told", "not told", "not any more"],
)
def test_what_the_cluster_was_told(told: dict[str, Any] | None, shown: list[str]) -> None:
    nobody = {"node": "", "condition": None, "at": None, "trouble": ""}
    document = None if told is None else {**nobody, **told}
    lines_shown = screen(**well(), kubernetes=document)
    assert lines_shown[3:-2] == shown


def test_a_cluster_with_long_names_still_fits() -> None:
    told = {"node": "n" * 253, "condition": "Unknown", "at": NOON, "trouble": "why " * 100}
    shown = screen(**well(), kubernetes=told)
    assert len(shown) == 9
    assert fits(shown)
