"""Steps that a rig has done on a private machine, told to the host as they come."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from integration.command import CHECKOUT
from integration.containerd.cgroup import Cgroup
from integration.driver.report import Outcome
from integration.kubelet.private import in_private

_MORE_SECONDS = 30  # the machine has its own deadline, and tells what was amiss


def told_apart(
    module: str, arguments: Sequence[str], directory: Path, seconds: float
) -> Generator[Outcome, None, None]:
    """The outcomes that the `main` of a module prints on a machine of its own, a line each; it gets
    the arguments, and the name of the cgroup that it is in."""
    program = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r});"
        f" from {module} import main; main(*sys.argv[1:])"
    )
    said = directory / "stderr"
    ended = True
    with Cgroup() as cgroup, said.open("wb") as stderr:
        command = [sys.executable, "-IB", "-c", program, *arguments, cgroup.name]
        with _process(in_private(command, cgroup), stderr, seconds + _MORE_SECONDS) as process:
            assert process.stdout
            for line in process.stdout:
                yield Outcome(**json.loads(line))
        ended = process.returncode == 0
    if not ended:
        detail = said.read_text("utf-8", "replace")[-2000:] or f"exit {process.returncode}"
        check = {"what": "runs to its end", "holds": False, "detail": detail}
        yield Outcome("node", [check], 0.0, "", "")


@contextlib.contextmanager
def _process(
    command: list[str], stderr: IO[bytes], seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Context: a command that is ended by a deadline, or by leaving."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C is for us
    ) as process:
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            yield process
            process.wait()
        finally:
            timer.cancel()
            process.kill()
