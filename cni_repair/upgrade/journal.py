"""The upgrade's journal: what was begun and done, so that a killed upgrade can be gone on with.

One JSON object a line, only ever appended; events that a resume builds on are on disk before the
next step is taken. A line that is torn (by a power cut, by a full disk) ends nothing but itself.
"""

from __future__ import annotations

import errno
import os
import time

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import IO, CniError
from cni_repair.base.files import (
    Untrusted,
    open_private,
    open_trusted,
    read_all,
    unlink_if_there,
)
from cni_repair.base.strictjson import dumps, load_object
from cni_repair.upgrade.times import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")
    Event = dict[str, Any]

STATE_DIR = "/var/lib/cni-repair/upgrade"
VERSION = 1  # of what the events say
_NAME = "journal"
_MAX_BYTES = 64 << 20  # of a line, too: it may tell of thousands of pods
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# What each event tells beside its time; one that lacks it was written by nobody of ours.
_KEYS = {
    "begin": {"version", "plan", "planFile", "options", "bootId", "pid"},
    "resume": {"bootId", "pid"},
    "phase": {"phase"},
    "done": {"phase", "ok", "words", "data"},
    "before": {"links", "attachments"},
    "kubelet": {"unit", "active", "masked"},
    "deadman": {"until"},
    "driver": {"pid", "start", "deadline"},
    "output": {"line"},
    "word": {"text"},
    "lost": {"link"},
    "back": {"link"},
    "damaged": {"todo", "attachments"},
    "restored": {"attachment"},
    "end": {"status"},
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("phase", "words", "link", "bootId", "unit"), str),
    **dict.fromkeys(("at", "until"), (int, float)),
    **dict.fromkeys(("pid", "version"), int),
    **dict.fromkeys(("data", "plan", "options"), dict),
    "ok": bool,
}


class Journal(Closeable):
    """An open journal, at its end."""

    def __init__(self, fd: int, why_not: str = "", whole: bool = False) -> None:
        self._fd = fd  # -1: it cannot be written to
        self._why_not = why_not
        self._whole = whole  # whether the last line is known to be; blank ones are no events
        self.trouble = why_not  # why events are missing on disk

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def append(self, event: Event, durable: bool = True) -> Event:
        """Write an event with its time (Unix, in seconds; and for people); the event as written.

        A disk that fills up meanwhile must not end an upgrade whose pods are without a network:
        the trouble is remembered, and the upgrade goes on.
        """
        at = round(time.time(), 3)
        event = {"at": at, "when": clock(at), **event}
        try:
            self._write(event, durable)
        except OSError as error:
            self.trouble = error.strerror or str(error)
        return event

    def commit(self, event: Event) -> Event:
        """As :meth:`append`, for what must not be done unless it was noted. Raises CniError."""
        before, self.trouble = self.trouble, ""
        event = self.append(event)
        if self.trouble:
            raise CniError(IO, "cannot write the upgrade's journal", self.trouble)
        self.trouble = before
        return event

    def _write(self, event: Event, durable: bool) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, self._why_not)
        line = ("" if self._whole else "\n") + dumps(event) + "\n"
        raw = line.encode("ascii")
        self._whole = False
        if os.write(self._fd, raw) < len(raw):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._whole = True
        if durable:
            os.fsync(self._fd)


def journal_path(directory: str) -> str:
    return f"{directory}/{_NAME}"


def begin(directory: str, event: Event) -> tuple[Journal, Event]:
    """A new journal, and its first event as written; the last upgrade's is put aside.

    Raises CniError (I/O); the last one stays then.
    """
    try:
        fd = open_private(directory, create=True)
        try:
            return _begin(fd, event)
        finally:
            os.close(fd)
    except (OSError, Untrusted) as error:
        raise CniError(IO, f"cannot keep a journal in {directory}", _words(error)) from error


def _begin(directory: int, event: Event) -> tuple[Journal, Event]:
    new = f"{_NAME}.new"
    unlink_if_there(new, directory)  # of a start that was killed
    fd = os.open(new, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    journal = Journal(fd, whole=True)
    event = journal.commit({"event": "begin", "version": VERSION, **event})
    within = {"src_dir_fd": directory, "dst_dir_fd": directory}
    try:
        os.rename(_NAME, f"{_NAME}.last", **within)
    except FileNotFoundError:
        pass  # the first upgrade
    os.rename(new, _NAME, **within)
    os.fsync(directory)
    return journal, event


def _words(error: OSError | Untrusted) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _open(directory: str, open_it: Callable[[int], T]) -> T:
    """What `open_it` opens of the directory's. Raises OSError, or Untrusted."""
    fd = open_private(directory)
    try:
        return open_it(fd)
    finally:
        os.close(fd)


def go_on(directory: str) -> Journal:
    """The last upgrade's journal, to append to. Where that cannot be (the disk has become
    read-only), it has `trouble`: the pods are to be repaired all the same."""
    try:
        return Journal(_open(directory, lambda fd: os.open(_NAME, _FLAGS, dir_fd=fd)))
    except (OSError, Untrusted) as error:
        return Journal(-1, _words(error))


def read(directory: str) -> list[Event]:
    """The events of the last upgrade, begun or ended; none where there was none."""
    return Reader(directory).fresh()


class Reader:
    """A journal as it grows."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._inode = self._offset = 0
        self._rest = b""

    def fresh(self) -> list[Event]:
        """The events since the last call; all, if another upgrade was begun since.

        Raises CniError where there is a journal that cannot be read, or that is not to be trusted
        or understood: a resume runs commands that it finds there.
        """
        try:
            data = self._read()
        except FileNotFoundError:
            return []
        except Untrusted as error:
            raise self._refused(str(error)) from error
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = list(events_in(lines))
        if any(event["event"] == "begin" and event["version"] != VERSION for event in events):
            raise self._refused(
                "it is of another version of cni-repair: end that upgrade with the version that"
                " began it (upgrade --release), then move the file away"
            )
        return events

    def _read(self) -> bytes:
        fd, status = _open(self._directory, lambda directory: open_trusted(_NAME, directory))
        try:
            if status.st_ino != self._inode:
                self._inode, self._offset, self._rest = status.st_ino, 0, b""
            os.lseek(fd, self._offset, os.SEEK_SET)
            return read_all(fd, _MAX_BYTES)
        finally:
            os.close(fd)

    def _refused(self, why: str) -> CniError:
        return CniError(IO, f"the journal {journal_path(self._directory)} is not used", why)


def events_in(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of the lines that hold one."""
    for line in lines:
        try:
            event = load_object(line, "a line of the journal", _MAX_BYTES)
        except CniError:
            continue
        kind = event.get("event")
        keys = _KEYS.get(kind) if isinstance(kind, str) else None
        if keys is not None and all(_holds(event, key) for key in ("at", *keys)):
            yield event


def _holds(event: Event, key: str) -> bool:
    """Whether an event has the key, and of those that are reckoned with, a value of its type."""
    return key in event and isinstance(event[key], _TYPES.get(key, object))
