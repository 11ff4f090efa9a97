"""`log`: what cni-repair did on this node, to whom, why, and how it ended."""

from __future__ import annotations

import textwrap
import time

from cni_repair.base.columns import Row, table_of
from cni_repair.base.names import bare_id, short_id
from cni_repair.base.strictjson import dumps
from cni_repair.cli.arguments import columns
from cni_repair.cli.journal import Query, read
from cni_repair.cli.printable import one_line, say
from cni_repair.node.report import DOCUMENT_VERSION
from cni_repair.upgrade.times import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from cni_repair.cli.journal import Entry

_MOST = 100  # where neither a time nor a pod is named
_COLUMNS = ("EVENT", "POD", "IFNAME", "OUTAGE")
_INDENT = " " * 4
# By key of the document.
_FIELDS = {
    "event": "EVENT",
    "message": "MESSAGE",
    "command": "COMMAND",
    "caller": "CALLER",
    "containerID": "CNI_CONTAINERID",
    "ifname": "IFNAME",
    "pod": "POD",
    "network": "NETWORK",
    "master": "MASTER",
    "state": "STATE",
    "cause": "CAUSE",
    "reason": "REASON",
}
# Those of the journal itself, and of ours what says nothing more.
_NOT_MORE = {*_FIELDS.values(), "OUTAGE_MS", "MESSAGE_ID", "SYSLOG_IDENTIFIER"}


def run(options: argparse.Namespace) -> int:
    """Print the events; 0 also where there are none."""
    pods = tuple(options.pods)
    most = options.lines or (None if pods or options.since is not None else _MOST)
    query = Query(options.since, most, options.directory)
    entries = read(query, lambda entry: is_about(entry, pods))
    if options.output == "json":
        print(dumps(document(entries)))
    else:
        for line in shown(entries, columns()):
            say(line)
        if not entries:
            say(_none(options, pods))
    return 0


def is_about(entry: Entry, pods: Sequence[str]) -> bool:
    """Whether an event is about one of the pods; all are where none is named. Pure."""
    if not pods:
        return True
    name, container_id = entry.field("POD"), entry.field("CNI_CONTAINERID")
    ids = (container_id, bare_id(container_id))
    return any(
        pod in (name, name.rpartition("/")[2]) or any(one.startswith(pod) for one in ids)
        for pod in pods
    )


def document(entries: Sequence[Entry]) -> dict[str, Any]:
    """As `log -o json` prints them. Pure."""
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "events": [_document(entry) for entry in entries],
        "summary": {"events": len(entries)},
    }


def _document(entry: Entry) -> dict[str, Any]:
    more = {
        name: value
        for name, value in sorted(entry.fields.items())
        if name not in _NOT_MORE and not name.startswith("_")
    }
    return {
        "at": entry.at,
        "when": clock(entry.at),
        **{key: entry.field(name) for key, name in _FIELDS.items()},
        "outageMs": entry.outage_ms,
        "more": more,
    }


def shown(entries: Sequence[Entry], width: int) -> list[str]:
    """The events as a screen of that width holds them, each with its words below it: the day where
    it changes, then times of it. Pure."""
    if not entries:
        return []
    header, *rows = (line.text for line in table_of(_COLUMNS, [_row(entry) for entry in entries]))
    lines = [f"{'TIME':12}  {header}"]
    day = ""
    for entry, row in zip(entries, rows):
        when = time.localtime(entry.at)
        if time.strftime("%Y-%m-%d %z", when) != day:
            day = time.strftime("%Y-%m-%d %z", when)
            lines.append(day)
        milliseconds = int(entry.at * 1000) % 1000
        lines.append(f"{time.strftime('%H:%M:%S', when)}.{milliseconds:03}  {row}")
        lines += _wrapped(_words(entry), width)
    return lines


def _row(entry: Entry) -> Row:
    outage = entry.outage_ms
    cells = (
        entry.field("POD") or short_id(entry.field("CNI_CONTAINERID")) or "-",
        entry.field("IFNAME") or "-",
        "-" if outage is None else f"{outage} ms",
    )
    return Row(one_line(entry.field("EVENT") or "-"), tuple(map(one_line, cells)))


def _words(entry: Entry) -> str:
    """What the row does not say: of a pod why, and how it ended; of anything else, what it was."""
    if not entry.field("CNI_CONTAINERID"):
        return one_line(entry.field("MESSAGE"))
    by, cause, reason = entry.field("COMMAND"), entry.field("CAUSE"), entry.field("REASON")
    told = filter(None, [cause, _news(reason, cause)])
    words = "; ".join(told) or entry.field("ADDRESSES")
    return one_line(": ".join(filter(None, [by, words])))


def _news(reason: str, cause: str) -> str:
    """What a reason says beyond its cause, such as `lost: the pod's eth0 is gone`."""
    known = cause.partition(": ")[2] or cause
    return reason[len(known) :].lstrip(";: ") if known and reason.startswith(known) else reason


def _wrapped(words: str, width: int) -> list[str]:
    # A pod's name must stay one piece, to be copied.
    return textwrap.wrap(
        words,
        max(width, 40),
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _none(options: argparse.Namespace, pods: Sequence[str]) -> str:
    about = f" about {one_line(', '.join(pods))}" if pods else ""
    since = f" since {clock(options.since)}" if options.since is not None else ""
    return f"the journal has no event of cni-repair{about}{since}"
