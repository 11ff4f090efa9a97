"""`verify`: do the pods reach the network now."""

from __future__ import annotations

from cni_repair.base.columns import Row
from cni_repair.base.strictjson import dumps
from cni_repair.cli.common import DAMAGED, INTERRUPTED, print_error
from cni_repair.cli.render import one_line
from cni_repair.cli.scope import scope_of, with_entries
from cni_repair.cli.table import print_table
from cni_repair.node.verify import (
    CONFLICT,
    NOT_VERIFIED,
    UNREACHABLE,
    Verdict,
    VerifyOptions,
    counts_of,
    document,
    verify,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni_repair.cli.scope import Scope
    from cni_repair.network.reachability.gateways import Gateway

_COLUMNS = ("VERDICT", "POD", "CONTAINER", "IFNAME", "GATEWAYS")
_ADVICE = {
    UNREACHABLE: "the interface is as recorded, the way from it is not: look at the switch port"
    " (is the VLAN allowed there?) and at the gateway itself",
    CONFLICT: "look for the MAC in the switches' tables; one of the two has to give the address up",
}
_WHY_NOT_VERIFIED = f"{NOT_VERIFIED}: nobody to ask; --all says why"
_SEE_STATUS = "{states}: cni-repair status{again} says what to do"


def run(options: argparse.Namespace) -> int:
    """Ask every gateway from inside the pods; 0 if nothing is wrong."""
    scope = scope_of(options)
    how = VerifyOptions(options.timeout, options.duplicates)
    try:
        verdicts = with_entries(scope, lambda node, _, entries: verify(node, entries, how))
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    if scope.json:
        print(dumps(document(verdicts)))
    else:
        show(verdicts, scope, options.all)
    return DAMAGED if any(verdict.failed for verdict in verdicts) else 0


def show(verdicts: list[Verdict], scope: Scope, everything: bool) -> None:
    """What did not pass, each with its reason; the others only if `everything` is asked for."""
    rows = [_row(verdict) for verdict in verdicts if everything or not verdict.passed]
    if rows:
        print_table(_COLUMNS, rows)
    print(_totals(verdicts, scope))
    if not everything and any(one.passed and one.verdict == NOT_VERIFIED for one in verdicts):
        print(_WHY_NOT_VERIFIED)
    found = {verdict.verdict for verdict in verdicts if not verdict.passed}
    for verdict, advice in _ADVICE.items():
        if verdict in found:
            print(f"{verdict}: {advice}")
    states = ", ".join(sorted(found - {*_ADVICE, NOT_VERIFIED}))
    if states:
        print(_SEE_STATUS.format(states=states, again=scope.again))


def _row(verdict: Verdict) -> Row:
    cells = (
        verdict.pod or "-",
        verdict.key.container_id[:12],
        verdict.key.ifname,
        ", ".join(_gateway(gateway) for gateway in verdict.gateways) or "-",
    )
    return Row(verdict.verdict, tuple(map(one_line, cells)), one_line(verdict.reason))


def _gateway(gateway: Gateway) -> str:
    if gateway.milliseconds is None:
        return f"{gateway.address} {gateway.state}"
    return f"{gateway.address} {gateway.milliseconds:.0f} ms"


def _totals(verdicts: list[Verdict], scope: Scope) -> str:
    if not verdicts:
        return scope.nothing
    each = [f"{count} {verdict}" for verdict, count in counts_of(verdicts).items() if count]
    return f"{len(verdicts)} attachment{'' if len(verdicts) == 1 else 's'}: {', '.join(each)}"
