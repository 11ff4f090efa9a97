"""`verify`: do the pods reach the network now."""

from __future__ import annotations

from cni_repair.base.columns import Row
from cni_repair.base.frozen import replace
from cni_repair.base.names import short_id
from cni_repair.base.strictjson import dumps
from cni_repair.cli.advice import of_node, of_pods, troubles_of, unwell
from cni_repair.cli.common import DAMAGED, INTERRUPTED, print_error
from cni_repair.cli.coverage import shown, uncovered_beside
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.render import shown_reason
from cni_repair.cli.scope import check_place, scope_of, with_entries
from cni_repair.cli.table import print_table
from cni_repair.network.reachability.gateways import DOUBTFUL
from cni_repair.node.asking import VerifyOptions
from cni_repair.node.verify import (
    CONFLICT,
    NOT_VERIFIED,
    UNREACHABLE,
    Verdict,
    counts_of,
    document,
    verify,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.cli.coverage import WithoutRecord
    from cni_repair.cli.scope import Scope
    from cni_repair.network.reachability.gateways import Gateway
    from cni_repair.node.context import Node
    from cni_repair.node.masters import MasterTroubles
    from cni_repair.node.report import Report

_OF_POD = 3  # of the columns of `status` that are the same here
_COLUMNS = ("VERDICT", "POD", "CONTAINER", "IFNAME", "GATEWAYS")
_WHY_NOT_VERIFIED = f"{NOT_VERIFIED}: nobody to ask; --all says why"


def run(options: argparse.Namespace) -> int:
    """Ask every gateway from inside the pods; 0 if nothing is wrong."""
    scope = scope_of(options)
    how = VerifyOptions(options.timeout, options.duplicates)

    def work(node: Node, _: Store, entries: list[Entry]) -> list[Verdict]:
        verdicts = verify(node, entries, how)
        check_place(node, [verdict.report for verdict in verdicts])
        return verdicts

    try:
        verdicts = with_entries(scope, work)
    except KeyboardInterrupt:
        print_error("interrupted; nothing was changed, call again")
        return INTERRUPTED
    bare = uncovered_beside(scope, [verdict.report for verdict in verdicts])
    if scope.json:
        print(dumps(bare.added_to(document(verdicts))))
    else:
        show(verdicts, scope, options.all, shown(bare, scope, "verify"))
    return DAMAGED if bare.failed or any(verdict.failed for verdict in verdicts) else 0


def show(verdicts: list[Verdict], scope: Scope, everything: bool, bare: WithoutRecord) -> None:
    """What did not pass, each with its reason; the others only if `everything` is asked for."""
    rows = [_row(verdict) for verdict in verdicts if everything or not verdict.passed]
    rows += [replace(row, cells=(*row.cells[:_OF_POD], "-")) for row in bare.rows]
    if rows:
        print_table(_COLUMNS, rows)
    if verdicts or not bare.rows:
        say(_totals(verdicts, scope))
    for line in bare.totals:
        say(line)
    if not everything and any(one.passed and one.verdict == NOT_VERIFIED for one in verdicts):
        say(_WHY_NOT_VERIFIED)
    for line in (*_advice(verdicts, scope), *bare.advice):
        say(line)


def _advice(verdicts: list[Verdict], scope: Scope) -> list[str]:
    """The node's own links first: while one is down, nobody beyond it can answer."""
    verify = f"cni-repair verify{scope.again}"
    unreachable = [one.report for one in verdicts if one.verdict == UNREACHABLE]
    others = [one.report for one in verdicts if one.verdict not in (UNREACHABLE, CONFLICT)]
    troubles = troubles_of([*unreachable, *unwell(others)])
    lines = of_node(troubles, others, scope)
    if any(_is_beyond(report, troubles) for report in unreachable):
        lines += [
            "unreachable: the node's links are up, and the pods' as recorded",
            "  next: see to the switch port (is the VLAN allowed there?) and to the gateway,",
            f"        then {verify} (--timeout 40 if the port has just come up)",
        ]
    if any(one.verdict == CONFLICT for one in verdicts):
        lines += [
            "conflict: somebody else has a pod's address, or answers for its gateway",
            "  next: look for the MAC in the switches' tables, have one of the two give it up,",
            f"        then {verify} --duplicates",
        ]
    return [*lines, *of_pods(troubles, others, scope)]


def _is_beyond(report: Report, troubles: MasterTroubles | None) -> bool:
    """Whether no link of the node is the cause."""
    return troubles is None or report.checkpoint is None or not troubles.of(report.checkpoint)


def _row(verdict: Verdict) -> Row:
    reason = shown_reason(verdict.reason, verdict.report.netns)
    cells = (
        verdict.pod or "-",
        short_id(verdict.key.container_id),
        verdict.key.ifname,
        ", ".join(_gateway(gateway) for gateway in verdict.gateways) or "-",
    )
    return Row(verdict.verdict, tuple(map(one_line, cells)), reason)


def _gateway(gateway: Gateway) -> str:
    if gateway.milliseconds is None or gateway.state == DOUBTFUL:
        return f"{gateway.address} {gateway.state}"
    return f"{gateway.address} {gateway.milliseconds:.0f} ms"


def _totals(verdicts: list[Verdict], scope: Scope) -> str:
    if not verdicts:
        return scope.nothing
    each = [f"{count} {verdict}" for verdict, count in counts_of(verdicts).items() if count]
    return f"{len(verdicts)} attachment{'' if len(verdicts) == 1 else 's'}: {', '.join(each)}"
