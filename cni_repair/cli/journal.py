"""cni-repair's lines in systemd's journal, read by journalctl: there is no other reader of it.

What comes back is believed only of root: anybody may write to the journal, under any name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import deque

from cni_repair.base.errors import ENVIRONMENT, IO, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.log import IDENTIFIER
from cni_repair.cli.common import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Where journald keeps its files (systemd-journald.service(8)): for ever, or until the next boot.
_PLACES = ("/var/log/journal", "/run/log/journal")
_MATCHES = (f"SYSLOG_IDENTIFIER={IDENTIFIER}", "_UID=0")
_LONGEST_COMPLAINT = 300


@frozen
class Entry:
    """One event as it was written."""

    at: float  # Unix time in seconds
    fields: dict[str, str]

    def field(self, name: str) -> str:
        """A field's value; empty where the event has none of that name."""
        return self.fields.get(name, "")

    @property
    def outage_ms(self) -> int | None:
        text = self.field("OUTAGE_MS")
        return int(text) if text.isascii() and text.isdigit() else None


@frozen
class Query:
    """Which events are asked for."""

    since: float | None = None  # Unix time in seconds
    most: int | None = None  # only so many, the newest
    directory: str = ""  # of journal files; empty: this machine's journal


def read(query: Query, is_wanted: Callable[[Entry], bool]) -> list[Entry]:
    """The events, oldest first. Raises CniError where the journal cannot be read."""
    _check_journal(query.directory)
    command = ["journalctl", "--output=json", "--all", "--no-pager", "--quiet"]
    command += [f"--since=@{int(query.since)}"] if query.since is not None else []
    command += [f"--directory={query.directory}"] if query.directory else []
    with (
        tempfile.TemporaryFile() as complaint,
        subprocess.Popen(
            [*command, *_MATCHES],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaint,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            found = deque(filter(is_wanted, entries_in(process.stdout)), query.most)
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        if status != 0:
            complaint.seek(0)
            said = complaint.read(_LONGEST_COMPLAINT).decode("utf-8", "replace")
            raise CniError(IO, f"journalctl ended with status {status}", " ".join(said.split()))
    return [*found]


def _check_journal(directory: str) -> None:
    """Say what is missing: journalctl shows an empty journal and none at all alike."""
    if shutil.which("journalctl") is None:
        raise CniError(
            ENVIRONMENT,
            "there is no journalctl here",
            "cni-repair tells systemd's journal what it does, and keeps it nowhere else",
        )
    if directory:
        if not os.path.isdir(directory):
            raise UsageError(ENVIRONMENT, f"{directory} is no directory", "correct --directory")
        return
    there = [place for place in _PLACES if os.path.isdir(place)]
    if not there:
        raise CniError(
            ENVIRONMENT,
            f"this machine keeps no journal: there is no {' and no '.join(_PLACES)}",
            "in a container, name the node's: --directory /host/var/log/journal",
        )
    if os.geteuid() != 0 and not any(map(_may_read, there)):
        raise CniError(
            ENVIRONMENT,
            f"you may not read the journal in {there[0]}",
            "use sudo, or have yourself put into the group systemd-journal",
        )


def _may_read(place: str) -> bool:
    """Whether one of the machines' journals there can be read."""
    try:
        with os.scandir(place) as machines:
            return any(os.access(one.path, os.R_OK | os.X_OK) for one in machines)
    except OSError:
        return False


def entries_in(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The events in what journalctl prints, an object a line. Pure."""
    for line in lines:
        try:
            document = json.loads(line)
            at = int(document["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a line that was cut off
        fields = {name: _text(value) for name, value in document.items()}
        yield Entry(at, fields)


def _text(value: object) -> str:
    """A value as text: journalctl prints what is not plain text as its bytes, and a field that is
    there twice as a list."""
    if isinstance(value, list) and value:
        if all(isinstance(one, int) and 0 <= one < 256 for one in value):
            return bytes(value).decode("utf-8", "replace")
        return _text(value[0])
    return value if isinstance(value, str) else ""
