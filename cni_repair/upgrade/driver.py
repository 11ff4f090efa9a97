"""The driver command: run to its end or its deadline, whatever becomes of us meanwhile.

It writes to a file and leaves its exit status in another, both in /run: killed together with the
terminal, we neither stop it (SIGPIPE) nor lose what came of it, and a resume goes on watching.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.procfs import process_ids, start_of, stat_of
from cni_repair.checkpoint.locks import open_run_dir
from cni_repair.upgrade.drivercommand import SEARCH_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, BinaryIO

# $0 is the file for the exit status, "$@" the command. It begins with our word only: should we die
# before its PID is noted, a resume would start it again beside the first.
_WRAPPER = 'read -r go || exit; "$@" </dev/null; status=$?; echo $status >"$0"; exit $status'
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.05
# What is shown of the output: its beginning, and its last lines, where the error is.
_SHOWN_BYTES = 1 << 20
_LAST_LINES = 50
_TAIL_BYTES = _CHUNK_BYTES = 64 << 10
_MAX_LINE = 4096
_PER_LINE = 64  # what a line costs beside its text
# The file may not fill /run, which is memory.
_KEPT_BYTES = 4 << 20
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


@frozen
class Running:
    """The command's process, and what tells it from a later one of the same PID."""

    pid: int  # and its session
    start: int  # clock ticks since boot
    deadline: float  # monotonic; the same clock for all processes of a boot
    child: subprocess.Popen[bytes] | None = None  # None: of an upgrade that was killed


def noted(event: Mapping[str, Any]) -> Running:
    """The command that the journal tells of."""
    return Running(event["pid"], event["start"], event["deadline"])


@frozen
class Ended:
    """What came of the command."""

    status: int | None  # None: killed at its deadline, or nobody knows
    timed_out: bool


class Prepared(Closeable):
    """The command, ready to begin; closed before :meth:`go`, it never does."""

    def __init__(self, command: tuple[str, ...], run_dir: str, seconds: float) -> None:
        """In a session of its own. Raises CniError where it cannot be started."""
        try:
            self._child = _spawn(command, run_dir)
        except OSError as error:
            raise CniError(
                IO, f"cannot start {command[0]}", f"{error.strerror} ({error.filename})"
            ) from error
        start = start_of(self._child.pid) or 0
        self.running = Running(self._child.pid, start, time.monotonic() + seconds, self._child)
        self._begun = False

    def go(self) -> Running:
        assert self._child.stdin is not None
        self._child.stdin.write(b"go\n")
        self._child.stdin.close()
        self._begun = True
        return self.running

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        if not self._begun:
            self._child.wait()


def _spawn(command: tuple[str, ...], run_dir: str) -> subprocess.Popen[bytes]:
    os.close(open_run_dir(run_dir, create=True))
    for name in (_output(run_dir), _status(run_dir)):
        if os.path.lexists(name):
            os.unlink(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    output = os.open(_output(run_dir), flags, 0o600)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, _status(run_dir), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, "PATH": SEARCH_PATH},
            cwd="/",
        )
    finally:
        os.close(output)


def watch(
    running: Running,
    run_dir: str,
    on_progress: Callable[[str], None],
    meanwhile: Callable[[float], None],
) -> Ended:
    """Pass on the command's output, a line at a time, until it ends or its deadline does.

    `meanwhile` is called with seconds that it may take, again and again.
    """
    lines = _Tail(_output(run_dir), on_progress)
    timed_out = False
    try:
        while is_alive(running, run_dir):
            meanwhile(_POLL_SECONDS)
            lines.read()
            if time.monotonic() >= running.deadline and is_alive(running, run_dir):
                timed_out = True
                _kill(running)
    finally:
        lines.read()
        lines.end()
    return Ended(None if timed_out else _status_of(running, run_dir), timed_out)


def is_alive(running: Running, run_dir: str) -> bool:
    """Whether the command still runs. After a resume it is not our child: nobody tells us its end
    but the file that it leaves. Where the shell that leaves it was killed, its session tells."""
    child = running.child
    if child is not None and (child.poll() is None or child.returncode >= 0):
        return child.returncode is None
    used_again = start_of(running.pid) not in (None, running.start)
    return not used_again and read_status(run_dir) is None and bool(_members(running.pid))


def _status_of(running: Running, run_dir: str) -> int | None:
    status = read_status(run_dir)
    if status is None and running.child is not None and running.child.returncode >= 0:
        return running.child.returncode  # /run is full
    return status


def _kill(running: Running) -> None:
    """End the command's whole session: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _end_session(running, number):
            return
    # In the kernel, uninterruptible (rmmod of a driver that hangs): it stays, nobody can help it.
    raise CniError(
        IO,
        f"the driver command (PID {running.pid}) cannot be killed: it hangs in the kernel",
        "look at dmesg; the node may need a reboot",
    )


def _end_session(running: Running, number: int) -> bool:
    """Send each process of the session a signal; whether all have gone soon. (What makes a session
    of its own is a daemon, and stays.)"""
    signalled: set[int] = set()
    until = time.monotonic() + _GRACE_SECONDS
    while members := _members(running.pid):
        for pid in members:
            if pid not in signalled:
                signalled.add(pid)
                _send(pid, number)
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    if running.child is not None:
        running.child.wait()
    return True


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _members(session: int) -> list[int]:
    """The living, in the order in which they came: parents before their children. (A shell whose
    command is killed before it goes on with the next.)"""
    members = []
    for pid in process_ids():
        stat = stat_of(pid)
        if stat is not None and stat.session == session and stat.state not in "ZX":
            members.append((stat.start, pid))
    return [pid for _, pid in sorted(members)]


def read_status(run_dir: str) -> int | None:
    """The exit status that the last command left; None where there is none (yet)."""
    try:
        with open(_status(run_dir), encoding="ascii") as file:
            return int(file.read(16))
    except (OSError, ValueError):
        return None


def _output(run_dir: str) -> str:
    return f"{run_dir}/driver.output"


def _status(run_dir: str) -> str:
    return f"{run_dir}/driver.status"


def _free(file: BinaryIO, size: int) -> None:
    """Give back what a file's beginning takes; what its writers append meanwhile stays (which
    os.truncate() could not promise). Where the file system cannot, it keeps it."""
    import ctypes

    start, length = ctypes.c_int64(0), ctypes.c_int64(size)
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    ctypes.CDLL(None).fallocate(file.fileno(), mode, start, length)


class _Tail:
    """A growing file, line by line: its beginning as it comes, of a flood the end."""

    def __init__(self, path: str, on_progress: Callable[[str], None]) -> None:
        self._path, self._on_progress = path, on_progress
        self._offset, self._freed, self._shown, self._rest = 0, 0, 0, b""
        self._drift = False
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)

    def read(self) -> None:
        """Take in what there is by now; of more than can be shown, the end."""
        try:
            with open(self._path, "r+b") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:  # `echo >/dev/stdout` makes it empty first
                    self._offset = self._freed = 0
                while self._offset < size and self._read(file, size):
                    pass
                if self._offset - self._freed > _KEPT_BYTES:
                    _free(file, self._offset)
                    self._freed = self._offset
        except OSError:
            return

    def _read(self, file: BinaryIO, size: int) -> bool:
        if self._shown >= _SHOWN_BYTES and size - self._offset > _TAIL_BYTES:
            # Whoever writes may be quicker than we are.
            self._offset, self._rest, self._drift = size - _TAIL_BYTES, b"", True
        file.seek(self._offset)
        data = file.read(min(size - self._offset, _CHUNK_BYTES))
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._pass_on(line)
        if len(self._rest) > _MAX_LINE:
            self._pass_on(self._rest)
            self._rest = b""
        return bool(data)

    def _pass_on(self, line: bytes) -> None:
        for at in range(0, len(line) or 1, _MAX_LINE):
            piece = line[at : at + _MAX_LINE]
            self._shown += len(piece) + _PER_LINE
            if self._shown < _SHOWN_BYTES:
                self._on_progress(piece.decode("utf-8", "replace"))
            else:
                self._drift |= len(self._last) == _LAST_LINES
                self._last.append(piece)

    def end(self) -> None:
        """Tell what is left: the end of a flood, a last line without a line feed."""
        if self._rest:
            self._pass_on(self._rest)
        if self._drift:
            self._on_progress("[a part of the output is left out here]")
        for line in self._last:
            self._on_progress(line.decode("utf-8", "replace"))
