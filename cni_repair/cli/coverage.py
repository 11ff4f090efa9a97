"""What a command that is about the whole node says of pods without a record.

Records are read in `node`, what runtimes remember in `adoption`, which is above it: they meet here.
"""

from __future__ import annotations

from cni_repair.adoption.uncovered import Uncovered, uncovered
from cni_repair.base.columns import Row
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import short_id
from cni_repair.checkpoint.store import Store
from cni_repair.cli.printable import one_line
from cni_repair.cni import netconf
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.planning.plan import LOST
from cni_repair.node.context import Node
from cni_repair.node.discovery import covered, unmanaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cni_repair.cli.scope import Scope
    from cni_repair.node.discovery import Covered, Unmanaged
    from cni_repair.node.report import Report

UNMANAGED = "unmanaged"


def uncovered_beside(
    scope: Scope, reports: Sequence[Report], attached: Sequence[Unmanaged] | None = None
) -> Uncovered:
    """The interfaces without a record, where the command is about all pods of the node; `attached`
    are those that are there, where somebody has looked already."""
    if not scope.whole_node:
        return Uncovered()
    with Node() as node:
        if attached is None:
            attached = unmanaged(node, _covered(scope, reports))
        return uncovered(node, attached, reports, _other_than(scope.checkpoint_dir))


def uncovered_by_all(looks: Sequence[tuple[Scope, Sequence[Report]]]) -> Uncovered:
    """The interfaces that have a record in none of several directories, each of which is looked
    at as a whole."""
    covered_places = [place for scope, reports in looks for place in _covered(scope, reports)]
    everything = [report for _, reports in looks for report in reports]
    own = [scope.checkpoint_dir for scope, _ in looks]
    with Node() as node:
        return uncovered(node, unmanaged(node, covered_places), everything, _other_than(*own))


def _other_than(*own: str) -> Callable[[dict[str, Any]], str]:
    """The directory of a plugin's records, by its configuration; empty for one of our own."""

    def directory_of(plugin: dict[str, Any]) -> str:
        try:
            directory = netconf.check(plugin).checkpoint_dir
        except CniError:
            return ""
        return directory if directory not in own else ""

    return directory_of


def lost_beside(scope: Scope, reports: Sequence[Report]) -> list[str]:
    """The interfaces that are lost, and that a runtime alone remembers: how to name them."""
    # All namespaces are walked only where a cache has one: a pod may have renamed it.
    for attached in ((), None):
        found = uncovered_beside(scope, reports, attached).unmanaged
        lost = [one for one in found if one.state == LOST and one.counts]
        if not lost:
            return []
    return [one_line(f"{one.pod or one.netns} {one.ifname}") for one in lost]


def _covered(scope: Scope, reports: Sequence[Report]) -> list[Covered]:
    try:
        with Store(scope.checkpoint_dir) as store:
            return covered(store, reports)
    except FileNotFoundError:
        return []


@frozen
class WithoutRecord:
    """How they look below a command's own lines."""

    rows: tuple[Row, ...] = ()  # in the columns of `status`
    totals: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def shown(found: Uncovered, scope: Scope, command: str) -> WithoutRecord:
    """What to print of them; `command` is what was asked."""
    lost = sum(one.state == LOST for one in found.unmanaged)
    counts = [(len(found.unmanaged) - lost, "there"), (lost, "lost")]
    words = ", ".join(f"{count} {how}" for count, how in counts if count)
    advice = []
    if found.failed:
        advice += [
            "unmanaged: no repair brings back what has no record",
            f"  next: cni-repair adopt --write{scope.again}",
            "        (from what the runtimes remember; of others it says why not)",
        ]
    for directory in found.elsewhere:
        where = f"--checkpoint-dir {quoted(directory)}"
        advice += [
            "the records of some pods are in another directory",
            f"  next: cni-repair {command} {where}",
        ]
    return WithoutRecord(
        tuple(map(_row, found.unmanaged)),
        (f"{len(found.unmanaged)} without a record: {words}",) if words else (),
        tuple(advice),
    )


def _row(one: Unmanaged) -> Row:
    # (One that no runtime names is known by its namespace alone.)
    cells = (one.pod or one.netns, short_id(one.container_id), one.ifname, one.master, "")
    return Row(UNMANAGED, tuple(one_line(cell) or "-" for cell in cells), _reason(one))


def _reason(one: Unmanaged) -> str:
    if one.owner:
        return f"of a network of {one.owner}'s own, not a pod's: no record can be made of it"
    if one.state == LOST:
        return f"the pod's {one.ifname} is gone, and has no record; its runtime remembers it"
    return "no record: once it is lost, no repair brings it back"
