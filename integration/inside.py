"""A story that is played on a private machine: the side that starts it, and the one inside."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from integration.command import CHECKOUT
from integration.containerd.cgroup import Cgroup
from integration.driver.checks import TooLate
from integration.driver.report import Outcome
from integration.kubelet.private import in_private

SECONDS = 600


def play(
    module: str, arguments: list[str], directory: Path, seconds: int = SECONDS
) -> Generator[Outcome, None, None]:
    """The outcomes, as they come, that a module's `main` tells on a private machine.

    It is called with those arguments, and the name of the cgroup that it is in. `directory` is for
    what it says besides; `seconds` are those of `tell`.
    """
    program = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r});"
        f" from {module} import main; main(*sys.argv[1:])"
    )
    said = directory / "stderr"
    ended = True
    with Cgroup() as cgroup, said.open("wb") as stderr:
        command = [sys.executable, "-IB", "-c", program, *arguments, cgroup.name]
        with _process(in_private(command, cgroup), stderr, seconds + 30) as process:
            assert process.stdout
            for line in process.stdout:
                yield Outcome(**json.loads(line))
        ended = process.returncode == 0
    if not ended:
        detail = said.read_text("utf-8", "replace")[-2000:] or f"exit {process.returncode}"
        check = {"what": "runs to its end", "holds": False, "detail": detail}
        yield Outcome("node", [check], 0.0, "", "")


def tell(outcomes: Iterable[Outcome], seconds: int = SECONDS) -> None:
    """Have the other side know what came of each step. What takes too long is ended by TooLate."""

    def too_late(number: int, frame: FrameType | None) -> None:
        raise TooLate(f"no end after {seconds} s")

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    for outcome in outcomes:
        print(json.dumps(outcome.document()), flush=True)


@contextlib.contextmanager
def _process(
    command: list[str], stderr: IO[bytes], seconds: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Context: a command that is ended by a deadline, or by leaving."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C is for us
    ) as process:
        # It has a deadline of its own, and tells what was amiss.
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            yield process
            process.wait()
        finally:
            timer.cancel()
            process.kill()
