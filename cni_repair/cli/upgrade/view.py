"""How an upgrade looks while it runs: events of its journal, as they come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time

from cni_repair.base.strictjson import dumps
from cni_repair.cli.common import print_error
from cni_repair.cli.printable import one_line
from cni_repair.upgrade.journal import events_in
from cni_repair.upgrade.progress import DRIVER, MASTERS, PHASES
from cni_repair.upgrade.times import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NoReturn, TextIO

    from cni_repair.upgrade.journal import Event

_WAITS = (DRIVER, MASTERS)  # phases that take their time: said when they begin, too
_COLOURS = {True: "green", False: "red"}
_PAUSE_SECONDS = 0.1
_TICK_SECONDS = 1.0  # a serial console shows 960 bytes in one
_F_SETPIPE_SZ = 1031  # fcntl.h; Python has it since 3.10
_PIPE_BYTES = 1 << 20  # what the kernel grants anybody
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Plain:
    """A line an event, for pipes, logs and systemd's journal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._phase = ""

    def show(self, event: Event) -> None:
        """Print an event, if it is one for people."""
        if event["event"] == "phase":
            self._phase = event["phase"]
        text = words(event)
        if text:
            self._line(event, f"{clock(event['at'])} {self._phase:<10} ", one_line(text))

    def _line(self, _: Event, when: str, text: str) -> None:
        self._out.write(f"{when}{text}\n")

    def refresh(self, _: float) -> None:
        """All that came by now was shown; it is so late (Unix time)."""
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


def words(event: Event) -> str:
    """An event in one line; empty for those that say nothing to people."""
    kind = event["event"]
    if kind == "phase":
        return "begins" if event["phase"] in _WAITS else ""
    if kind == "done":
        return str(event["words"]) if event["ok"] else f"FAILED: {event['words']}"
    if kind == "damaged":
        return f"{event['todo']} of {event['attachments']} interfaces to repair"
    if kind == "output":
        return f"| {event['line']}"
    if kind == "word":
        return str(event["text"])
    if kind == "lost":
        return f"{event['link']} is gone, or has lost its carrier"
    if kind == "back":
        return f"{event['link']} is there"
    return "goes on where it was cut short" if kind == "resume" else ""


class Live(Plain):
    """On a terminal: the same in colours, and a last line that tells what is being done, for how
    long, and of how many pods. One line, written again: a serial console can bear that."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from rich.console import Console

        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._began = 0.0
        self._count = ""
        self._todo = self._restored = 0

    def show(self, event: Event) -> None:
        kind = event["event"]
        if kind == "phase":
            self._began, self._count = event["at"], ""
            self._todo = self._restored = 0
        elif kind == "damaged":
            self._todo = event["todo"]  # known once all were looked at: many are restored by then
        elif kind == "restored":
            self._restored += 1
        if kind in ("damaged", "restored"):
            of_all = f" of {self._todo}" if self._todo else ""
            self._count = f"  {self._restored}{of_all} interfaces restored"
        super().show(event)
        if kind in ("done", "end"):
            self._began = 0.0

    def _line(self, event: Event, when: str, text: str) -> None:
        from rich.text import Text

        colour = _COLOURS[event["ok"]] if event["event"] == "done" else ""
        self._wipe()
        # A long line runs over the edge as it is: names stay one piece, to be copied.
        self._console.print(Text.assemble(when, (text, colour)), soft_wrap=True)

    def refresh(self, now: float) -> None:
        self._wipe()
        if self._began:
            step = f"[{PHASES.index(self._phase) + 1}/{len(PHASES)}] {self._phase}"
            text = f"{step}  {max(0.0, now - self._began):.0f} s{self._count}"
            self._out.write(text[: self._console.width - 1])
        self._out.flush()

    def _wipe(self) -> None:
        self._out.write("\r\x1b[K")  # erase to the line's end: a VT100 knows it

    def close(self) -> None:
        self._wipe()
        self._out.flush()


def viewer() -> Plain:
    """What suits the place where the words go."""
    stdout = sys.stdout
    terminal = stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    # Of its own: whoever hangs in a write must not hold sys.stdout while the interpreter ends.
    out = open(  # noqa: SIM115 - as long as the process
        stdout.fileno(), "w", encoding=stdout.encoding, errors="backslashreplace", closefd=False
    )
    return Live(out) if terminal else Plain(out)


class Aside:
    """Shows events in a process of its own: nobody waits for the terminal. It may hang (Ctrl-S, an
    SSH session over the NIC that is away), and pods wait for their network. No thread does it: an
    upgrade forks the workers of its repair, which it may do as long as it has none."""

    def __init__(self, open_view: Callable[[], Plain], out: int) -> None:
        """`open_view` is called in the process; `out` is the descriptor that the view writes to."""
        inside, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._unsent = bytearray()
        # A signal's exception right after the fork would unwind there what is to be unwound here.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        try:
            self._process = os.fork()
            if self._process == 0:
                _be_the_view(inside, open_view, out, mask)
        finally:
            os.close(inside)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def show(self, event: Event) -> None:
        """Hand the event over, or keep it until there is room."""
        self._unsent += dumps(event).encode("ascii") + b"\n"
        with contextlib.suppress(BlockingIOError):
            self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._pipe, self._unsent)]
        except BrokenPipeError:
            self._unsent.clear()  # it ended with its terminal; the journal has it all

    def close(self) -> None:
        """Wait until all is shown; for a terminal that hangs, too."""
        os.set_blocking(self._pipe, True)
        self._send()
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):  # where SIGCHLD came ignored
            os.waitpid(self._process, 0)


def _be_the_view(
    inside: int, open_view: Callable[[], Plain], out: int, mask: Iterable[int]
) -> NoReturn:
    """The process's life: it ends when no more events can come, whoever is told to stop."""
    try:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # It may outlive an upgrade that is killed, and must not keep its lock, say.
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in (0, 1, 2, inside, out):
                with contextlib.suppress(OSError):  # the listing's own
                    os.close(int(name))
        _show_all(inside, open_view())
    except OSError:
        pass  # the terminal is gone; the journal has it all
    except Exception as error:  # a bug here must not go up into what is the upgrade's to do
        print_error(f"what happens cannot be shown: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _show_all(inside: int, view: Plain) -> None:
    for events in _arriving(inside):
        for event in events:
            view.show(event)
        view.refresh(time.time())
    view.close()


def _arriving(inside: int) -> Iterator[Iterator[Event]]:
    """What has come by now, again and again; nothing where a tick has passed without an event."""
    os.set_blocking(inside, False)
    rest, is_open = b"", True
    while is_open:
        select.select([inside], [], [], _TICK_SECONDS)
        data, is_open = _read_all(inside)
        *lines, rest = (rest + data).split(b"\n")
        yield events_in(lines)
        if is_open:
            time.sleep(_PAUSE_SECONDS)


def _read_all(inside: int) -> tuple[bytes, bool]:
    """What is there to be read, and whether more may come."""
    data = b""
    try:
        while part := os.read(inside, _PIPE_BYTES):
            data += part
    except BlockingIOError:
        return data, True
    return data, False


@contextlib.contextmanager
def shown(is_wanted: bool) -> Iterator[Callable[[Event], None]]:
    """Context: what shows an event; nobody sees it unless that is wanted."""
    if not is_wanted:
        yield lambda event: None
        return
    aside = Aside(viewer, sys.stdout.fileno())
    try:
        yield aside.show
    finally:
        aside.close()


def forget_stdout() -> None:
    """Nobody reads it any more (EIO, EPIPE): what is printed from now on goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
