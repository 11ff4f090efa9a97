"""How reports look: one screen on a terminal, the same lines in a pipe, JSON for scripts."""

from __future__ import annotations

import sys

from cni_repair.cli.printable import printable
from cni_repair.node.report import Report, document, summary
from cni_repair.strictjson import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cli.scope import Scope

_COLUMNS = ("STATE", "POD", "CONTAINER", "IFNAME", "MASTER", "ADDRESSES")
_ADVICE = {
    "lost": "cni-repair repair --all{again} brings them back; plan, instead, shows how",
    "degraded": "cni-repair repair --all{again} puts back what is missing, nothing else",
    "stale": "never repaired; the runtime's DEL or GC of the old pod removes the record",
    "foreign": "never touched",
    "unreadable": "do as the reason says, or restore the file in {directory}; else delete the pod",
}
_COLOURS = {"healthy": "green", "lost": "red", "degraded": "yellow"}


def json(reports: list[Report], cni_version: str) -> None:
    """The same document that the REPAIR verb prints."""
    print(dumps(document(reports, cni_version)))


def table(reports: list[Report], scope: Scope, everything: bool) -> None:
    """Damaged attachments, each with its reason; healthy ones only if `everything` is asked for.

    A reason that all of them share is said once: 200 pods that lost one master fit on fewer
    screens.
    """
    shown = [report for report in reports if everything or not report.healthy]
    damaged = [report for report in shown if not report.healthy]
    reasons = {_reason(report) for report in damaged}
    shared = len(damaged) > 1 and len(reasons) == 1
    if shown:
        _table(shown, with_reasons=not shared)
    if shared:
        print(f"    all {len(damaged)}: {reasons.pop()}")
    print(_totals(reports, scope))
    for state, advice in _ADVICE.items():
        if any(_is_for(state, report) for report in reports):
            words = advice.format(again=scope.again, directory=scope.checkpoint_dir)
            print(f"{state}: {words}")


def _is_for(state: str, report: Report) -> bool:
    """Whether a state's advice is of use: what a repair cannot mend, its reason speaks of."""
    return report.state == state and (state != "degraded" or bool(report.actions))


def _table(reports: list[Report], with_reasons: bool) -> None:
    rows = [_COLUMNS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    show = _on_terminal if sys.stdout.isatty() else _in_pipe
    for row, report in zip(rows, [None, *reports]):
        state, *cells = (cell.ljust(width) for cell, width in zip(row, widths))
        show(state, f"  {'  '.join(cells)}".rstrip(), report.state if report else "")
        if with_reasons and report is not None and not report.healthy:
            print(f"    {_reason(report)}")


def _in_pipe(state: str, rest: str, _: str) -> None:
    print(f"{state}{rest}")


def _on_terminal(state: str, rest: str, colour_of: str) -> None:
    """Long lines run over the edge as they are: a pod's name must stay one piece, to be copied."""
    from rich.console import Console
    from rich.text import Text

    colour = _COLOURS.get(colour_of, "magenta") if colour_of else "bold"
    Console(highlight=False, soft_wrap=True).print(Text.assemble((state, colour), rest))


def commands(reports: list[Report], scope: Scope) -> None:
    """A shell script that does what a repair would; nothing to do is a comment."""
    for report in reports:
        if not report.healthy:
            print(f"# {title(report)}: {report.state}: {_reason(report)}")
        for action in report.actions:
            print(printable(action))
    print(f"# {_totals(reports, scope)}")


def repaired(reports: list[Report], scope: Scope) -> None:
    """What was done and what is left, a line an attachment; healthy ones are only counted."""
    for report in reports:
        if report.actions or not report.healthy:
            state = "repaired" if report.healthy else report.state
            reason = f": {_reason(report)}" if report.reason else ""
            print(f"{state:10} {title(report)} ({_steps(report)}){reason}")
    print(_totals(reports, scope))
    if any(not report.healthy for report in reports):
        print(f"next: cni-repair status{scope.again}")


def _steps(report: Report) -> str:
    count = len(report.actions)
    if report.error is not None:
        return "failed" if count else "nothing done"
    return f"{count} step{'' if count == 1 else 's'}" if count else "nothing done"


def title(report: Report) -> str:
    """Which attachment a line is about."""
    parts = (report.pod, report.key.container_id[:12], report.key.ifname)
    return one_line(" ".join(part for part in parts if part))


def _reason(report: Report) -> str:
    look = f" (look inside: nsenter --net={report.netns} ip -d link)"
    return one_line(report.reason + (look if report.state == "foreign" else ""))


def _totals(reports: list[Report], scope: Scope) -> str:
    counts = summary(reports)
    if not reports:
        return f"no attachments in {scope.checkpoint_dir}"
    states = ", ".join(
        f"{count} {state}"
        for state, count in counts.items()
        if count and state not in ("attachments", "failed")
    )
    plural = "" if len(reports) == 1 else "s"
    return f"{len(reports)} attachment{plural}: {states}"


def _row(report: Report) -> tuple[str, ...]:
    checkpoint = report.checkpoint
    master = checkpoint.attachment.parents[0].name if checkpoint else "?"
    addresses = [a.address for a in checkpoint.attachment.addresses] if checkpoint else ["?"]
    cells = (
        report.state,
        report.pod or "-",
        report.key.container_id[:12],
        report.key.ifname,
        master,
        " ".join(addresses),
    )
    return tuple(one_line(cell) for cell in cells)


def one_line(text: str) -> str:
    """Text from elsewhere as one line that a terminal can show."""
    return printable(" ".join(text.split()))
