"""How reports look: one screen on a terminal, the same lines in a pipe, JSON for scripts."""

from __future__ import annotations

from cni_repair.base.columns import Line, Row, with_reasons
from cni_repair.base.names import short_id
from cni_repair.base.strictjson import dumps
from cni_repair.cli.advice import advice
from cni_repair.cli.common import DAMAGED
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.table import print_table
from cni_repair.node.report import Report, document, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.adoption.uncovered import Uncovered
    from cni_repair.cli.coverage import WithoutRecord
    from cni_repair.cli.scope import Scope

_JSON_VERSION = "1.0.0"
_ADDRESSES_SHOWN = 6
_COLUMNS = ("STATE", "POD", "CONTAINER", "IFNAME", "MASTER", "ADDRESSES")


def json(reports: list[Report], bare: Uncovered | None = None) -> None:
    """The same document that the REPAIR verb prints; with `bare`, pods without a record, too."""
    found = document(reports, _JSON_VERSION)
    print(dumps(found if bare is None else bare.added_to(found)))


def status_of(reports: list[Report]) -> int:
    """The exit status that fits."""
    return DAMAGED if any(report.damaged for report in reports) else 0


def table(reports: list[Report], scope: Scope, everything: bool, bare: WithoutRecord) -> None:
    """Damaged attachments, each with its reason; healthy ones only if `everything` is asked for, or
    something is to be said of what is around them. Then pods without a record (`bare`), the totals,
    and what to do next."""
    rows = [_row(one) for one in reports if everything or one.notes or not one.healthy]
    rows += bare.rows
    if rows:
        print_table(_COLUMNS, rows)
    if reports or not bare.rows:
        say(_totals(reports, scope))
    for text in (*bare.totals, *advice(reports, scope), *bare.advice):
        say(text)


def commands(reports: list[Report], scope: Scope) -> None:
    """A shell script that does what a repair would; nothing to do is a comment."""
    for report in reports:
        if report.notes or not report.healthy:
            say(f"# {one_line(report.title)}: {report.state}: {_reason(report)}")
        for action in report.actions:
            say(action)
    say(f"# {_totals(reports, scope)}")


def repaired(reports: list[Report], scope: Scope) -> None:
    """What was done and what is left, a line an attachment; healthy ones are only counted."""
    told = [one for one in reports if one.actions or one.notes or not one.healthy]
    for line in with_reasons((_done(report), _reason(report)) for report in told):
        say(line.text)
    say(_totals(reports, scope))
    for text in advice(reports, scope, repaired=True):
        say(text)


def _done(report: Report) -> Line:
    state = "repaired" if report.healthy and report.actions else report.state
    return Line(f"{state:10} {one_line(report.title)} ({_steps(report)})", state)


def _steps(report: Report) -> str:
    count = len(report.actions)
    if report.error is not None:
        return "failed" if count else "nothing done"
    return f"{count} step{'' if count == 1 else 's'}" if count else "nothing done"


def shown_reason(reason: str, netns: str) -> str:
    """A reason, for a table. The path of the pod's own namespace goes without saying: many pods
    whose namespaces are gone have one reason then, which is told once."""
    return one_line(reason.replace(f"netns {netns} is ", "its network namespace is "))


def _reason(report: Report) -> str:
    return shown_reason(report.reason, report.netns)


def _totals(reports: list[Report], scope: Scope) -> str:
    counts = summary(reports)
    if not reports:
        return scope.nothing
    states = ", ".join(
        f"{count} {state}"
        for state, count in counts.items()
        if count and state not in ("attachments", "failed")
    )
    plural = "" if len(reports) == 1 else "s"
    return f"{len(reports)} attachment{plural}: {states}"


def _row(report: Report) -> Row:
    checkpoint = report.checkpoint
    master = checkpoint.attachment.parents[0].name if checkpoint else "?"
    addresses = [a.address for a in checkpoint.attachment.addresses] if checkpoint else ["?"]
    if len(addresses) > _ADDRESSES_SHOWN:
        addresses[_ADDRESSES_SHOWN:] = ["…"]
    cells = (
        report.pod or "-",
        short_id(report.key.container_id),
        report.key.ifname,
        master,
        " ".join(addresses),
    )
    return Row(report.state, tuple(map(one_line, cells)), _reason(report))
