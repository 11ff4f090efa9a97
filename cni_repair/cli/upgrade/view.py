"""How an upgrade looks while it runs: events of its journal, as they come."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time

from cni_repair.cli.render import one_line
from cni_repair.upgrade.progress import DRIVER, MASTERS, PHASES
from cni_repair.upgrade.report import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from cni_repair.upgrade.journal import Event

_WAITS = (DRIVER, MASTERS)  # phases that take their time: said when they begin, too
_COLOURS = {True: "green", False: "red"}
_PAUSE_SECONDS = 0.1
_TICK_SECONDS = 1.0  # a serial console shows 960 bytes in one


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
    """Shows events in a thread: nobody waits for the terminal. It may hang (Ctrl-S, an SSH session
    over the NIC that is away), and pods wait for their network."""

    def __init__(self, view: Plain) -> None:
        self._view = view
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def show(self, event: Event) -> None:
        self._events.put(event)

    def close(self) -> None:
        """Wait until all is shown; for a terminal that hangs, too."""
        self._events.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while self._some():
                self._view.refresh(time.time())
                time.sleep(_PAUSE_SECONDS)
            self._view.close()
        except OSError:
            forget_stdout()  # the terminal is gone; the journal has it all

    def _some(self) -> bool:
        """Show what came, at least a tick's worth of nothing; False where no more will come."""
        try:
            event = self._events.get(timeout=_TICK_SECONDS)
            while event is not None:
                self._view.show(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return True
        return False


@contextlib.contextmanager
def shown(wanted: bool) -> Iterator[Callable[[Event], None]]:
    """Context: what shows an event; nobody sees it unless that is wanted."""
    if not wanted:
        yield lambda event: None
        return
    aside = Aside(viewer())
    try:
        yield aside.show
    finally:
        aside.close()


def forget_stdout() -> None:
    """Nobody reads it any more (EIO, EPIPE): what is printed from now on goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
