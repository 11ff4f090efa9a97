"""Starts, times and reaps processes on the throwaway node: a small program of its own.

The peak memory that the kernel tells of a process counts what its parent had when it made it
(exec_mmap), so the parent must be small: this one imports what is built in, and nothing else.

A request on stdin is a marshalled list of (command, environment, path of its stdin), all of which
are started at once. The answer has the milliseconds until the last of them ended, and of each its
(exit status, milliseconds, milliseconds of a processor, peak memory in KiB). What they print is in
out.0, err.0, out.1, … of the working directory.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Command: TypeAlias = "tuple[list[str], dict[str, str], str]"
    End: TypeAlias = "tuple[int, float, float, int]"
    Ends: TypeAlias = "tuple[float, list[End]]"

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _main() -> None:
    while True:
        try:
            commands = marshal.load(sys.stdin.buffer)
        except EOFError:
            return
        marshal.dump(_run(commands), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _run(commands: list[Command]) -> Ends:
    began = time.perf_counter()
    started: dict[int, tuple[int, float]] = {}
    for number, command in enumerate(commands):
        before = time.perf_counter()
        started[_start(number, *command)] = (number, before)
    ends: dict[int, End] = {}
    while len(ends) < len(commands):
        pid, status, usage = os.wait4(-1, 0)
        number, before = started[pid]
        taken = (time.perf_counter() - before) * 1000
        worked = (usage.ru_utime + usage.ru_stime) * 1000
        ends[number] = (os.waitstatus_to_exitcode(status), taken, worked, usage.ru_maxrss)
    return (time.perf_counter() - began) * 1000, [ends[number] for number in sorted(ends)]


def _start(number: int, command: list[str], environment: dict[str, str], stdin: str) -> int:
    files = [
        (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"out.{number}", _NEW, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, f"err.{number}", _NEW, 0o600),
    ]
    return os.posix_spawn(command[0], command, environment, file_actions=files)


if __name__ == "__main__":
    _main()
