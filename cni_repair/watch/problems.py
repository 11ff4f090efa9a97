"""What is wrong with a node, in one line: for node-problem-detector, and other probes. Pure."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.network.planning.plan import DEGRADED, FOREIGN, LOST, RELEASED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# What is looked at, the worst first.
PODS, UPLINKS, RECORDS = SUBJECTS = ("pods", "uplinks", "records")
MOST_BYTES = 80  # node-problem-detector cuts what is longer
# The pod lacks its network, or a part of it. (A stale record has no pod, a renamed interface works,
# an unreadable record is one of RECORDS.)
WITHOUT_NETWORK = (LOST, DEGRADED, FOREIGN, RELEASED)
_NAMED = 3  # uplinks


@frozen
class Problems:
    """What is wrong; and, where nothing is, of how many interfaces that is known."""

    interfaces: int
    pods: int = 0  # interfaces lost or damaged, though their master is up
    uplinks: tuple[str, ...] = ()  # names of links that are missing, down, or without carrier
    on_uplinks: int = 0  # interfaces over those
    records: int = 0  # interfaces that could not be restored


def problems_in(status: Mapping[str, Any]) -> Problems:
    """Those that a watcher's status document tells of."""
    away = [
        master
        for master in status["masters"]
        if master["attachments"] and not (master["up"] and master["carrier"])
    ]
    damaged, coverage = status["damaged"], status["coverage"]
    # (A VLAN's pods stand on its NIC, too, and may not have been looked at yet.)
    on_away = max([damaged["uplinkDown"], *(master["attachments"] for master in away)])
    return Problems(
        interfaces=sum(status["attachments"].values()),
        pods=damaged["uplinkUp"],
        uplinks=tuple(master["name"] for master in away),
        on_uplinks=on_away,
        records=max(status["unmanaged"], coverage["interfaces"] - coverage["restorable"]),
    )


def lines_of(problems: Problems, subjects: Sequence[str]) -> list[str]:
    """What is wrong with the subjects that are asked about, the worst first; empty: nothing."""
    lines = {}
    if problems.pods:
        lost = "lost or damaged, uplink up"
        lines[PODS] = f"{_interfaces(problems.pods)} {lost}: cni-repair status"
    if problems.uplinks:
        on_it = f"{_interfaces(problems.on_uplinks)} on it"
        lines[UPLINKS] = f"{_named(problems.uplinks)} down, {on_it}: cni-repair status"
    if problems.records:
        lines[RECORDS] = f"{_interfaces(problems.records)} not restorable: cni-repair snapshot"
    return [lines[subject] for subject in SUBJECTS if subject in subjects and subject in lines]


def fitted(text: str) -> str:
    """As much of a line as is told; ASCII, which no cut and no terminal spoils."""
    text = text.encode("ascii", "replace").decode()
    return text if len(text) <= MOST_BYTES else f"{text[: MOST_BYTES - 3]}..."


def _interfaces(count: int) -> str:
    return f"{count} pod interface{'' if count == 1 else 's'}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
