"""What several scenarios check."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cni_repair.repair.scheduler import SETTLE_SECONDS
from integration.driver.checks import Checks, said, states
from integration.driver.node import LabError, Netns, Node, Outcome, Wire, poll_until

Json = dict[str, Any]

CHECKPOINTS = Path("/var/lib/cni-repair/checkpoints")
RUN_DIR = Path("/run/cni-repair")
# To wait for what will come: generous, the guest is emulated.
ANSWER_SECONDS = 60.0

_SAME = {
    "ifindex": "ifindex",
    "MAC": "MAC",
    "addresses": "addresses",
    "routes": "routes",
    "rest": "MTU, mode and flags",
}
_PATIENT_SECONDS = 60


def by_pod(outcome: Outcome, pods: list[Netns]) -> list[Json]:
    """The attachments of an answer in the order of `pods`; they were made in any order."""
    found = {one["containerID"]: one for one in outcome.document["attachments"]}
    return [found[pod.name] for pod in pods]


@contextlib.contextmanager
def repairing(node: Node) -> Iterator[concurrent.futures.Future[Outcome]]:
    """Context: REPAIR is at work, and takes its first look at the masters when the body begins.

    It waits for them longer than the body takes, on a slow machine, too.
    """
    for lock in RUN_DIR.iterdir():  # ADD has left them: now they show that REPAIR has begun
        lock.unlink()
    conf = node.netconf(masterTimeout=_PATIENT_SECONDS)
    with node.meanwhile(lambda: node.cni("REPAIR", conf=conf)) as repair:
        begun = ANSWER_SECONDS, "REPAIR to begin"
        poll_until(lambda: any(RUN_DIR.iterdir()) or _repair_sleeps(), *begun)
        yield repair


def _repair_sleeps() -> bool:
    """Whether one waits; where nothing is to be changed meanwhile, it takes no lock."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_repair = b"CNI_COMMAND=REPAIR" in (process / "environ").read_bytes().split(b"\0")
            if is_repair and "nanosleep" in (process / "wchan").read_text():
                return True
        except OSError:  # it has ended
            continue
    return False


def check_repaired(check: Checks, node: Node, outcome: Outcome) -> None:
    """REPAIR has done all that there was to do.

    How long carrier takes, and then duplicate detection, is the machine's affair: an answer that
    has waited for them as long as REPAIR ever does may say so. Once they are there, the next one
    must find nothing to do.
    """
    holds = outcome.returncode == 0 and set(states(outcome)) == {"healthy"}
    seen = said(outcome)
    if outcome.seconds >= SETTLE_SECONDS and set(states(outcome)) <= {"healthy", "degraded"}:
        with contextlib.suppress(LabError):
            poll_until(lambda: node.cli("status").returncode == 0, ANSWER_SECONDS, "status 0")
        again = node.cni("REPAIR")
        idle = not any(one["actions"] for one in again.document["attachments"])
        holds = again.returncode == 0 and set(states(again)) == {"healthy"} and idle
        seen = f"{seen}; then {said(again)}"
    check("REPAIR: exit 0, every pod healthy", holds, seen)


def check_same(check: Checks, node: Node, before: Json) -> None:
    """Every pod's eth0 is what it was, once its addresses are probed for."""
    with contextlib.suppress(LabError):
        poll_until(lambda: node.interfaces() == before, ANSWER_SECONDS, "the pods as before")
    now = node.interfaces()
    for key, words in _SAME.items():
        changed = [
            f"{pod}: {was[key]} became {now[pod][key]}"
            for pod, was in before.items()
            if was[key] != now[pod][key] or not was[key]
        ]
        check(f"every pod's eth0 has the same {words} as before", not changed, "; ".join(changed))


def check_pings(check: Checks, wire: Wire, eth0s: Json, since: float) -> None:
    """The network works, and over VLAN 3."""
    now = time.monotonic()
    answered = wire.answered(now, ANSWER_SECONDS)
    check("pings of every pod pass, IPv4 and IPv6", answered, wire.silent(now))
    # Some frames after the repair, and since the reload none without the tag.
    macs = [eth0["MAC"] for eth0 in eth0s.values()]
    with contextlib.suppress(LabError):  # a reply may have been one to an earlier frame
        poll_until(lambda: all(wire.vlans(mac, now) for mac in macs), ANSWER_SECONDS, "frames")
    seen = [(wire.vlans(mac, now), wire.vlans(mac, since)) for mac in macs]
    tagged = all(set(late) == set(all_of_them) == {3} for late, all_of_them in seen)
    check("the pods' frames on the wire are tagged with VLAN 3, all of them", tagged, seen)


def check_pod_pings(check: Checks, wire: Wire, pod: Netns) -> None:
    """The network of one pod works."""
    now = time.monotonic()
    answered = wire.answered(now, ANSWER_SECONDS, pod)
    check("pings of that pod pass, IPv4 and IPv6", answered, wire.silent(now))


def check_vlan(check: Checks, node: Node, name: str, below: str) -> None:
    link = node.link(name)
    check(f"{name} is VLAN 3 over {below}, and up", is_vlan(link, 3, below), link)


def is_vlan(link: Json, number: int, below: str) -> bool:
    info = link.get("linkinfo", {})
    return bool(
        info.get("info_kind") == "vlan"
        and info["info_data"]["id"] == number
        and link["link"] == below
        and "UP" in link["flags"]
    )


def without_eth0(node: Node) -> list[str]:
    return [pod.name for pod in node.pods if not node.link("eth0", pod)]


def check_lost(check: Checks, what: str, node: Node) -> None:
    """The reload did its work: else all that follows would prove nothing."""
    gone = without_eth0(node)
    left = sorted(node.links() & {"eth0", "eth0.3", "bond4", "bond4.3"})
    lost = len(gone) == len(node.pods) and not left
    check(f"{what}: gone with every pod's eth0", lost, f"{left}, pods without eth0: {gone}")


def errors(outcome: Outcome) -> list[Json]:
    """The error of each attachment in an answer."""
    return [error_of(one) for one in outcome.document["attachments"]]


def error_of(attachment: Json) -> Json:
    """Its error; an empty one where there is none."""
    error: Json = attachment.get("error", {"code": 0, "msg": "", "details": ""})
    return error
