"""The healer and its children; what ties them to the daemon; what the service manager is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.watch.channel import Channel, Closed, encoded
from cni_repair.watch.notify import Notifier
from tests.patience import HANG_SECONDS, eventually
from tests.processes import ended
from tests.unit.samples import REPOSITORY


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[str]]:
    """A process with a healer whose children echo what they are told, and say who they are."""
    program = """
        import os, sys
        from cni_repair.watch import tasks
        from cni_repair.watch.channel import Channel

        def work(sock):
            channel = Channel(sock)
            channel.send({"pid": os.getpid(), "group": os.getpgrp()})
            if os.fork() == 0:  # as workers are
                sock.close()
                os.read(os.pipe()[0], 1)
            while True:
                channel.send({"told": channel.receive()})

        tasks.work = work
        from cni_repair.watch.healer import Healer
        from cni_repair.watch.leash import Leash

        healer = Healer(Leash())
        print(healer.pid, flush=True)
        tasks = {}
        for line in sys.stdin:
            word, *rest = line.split()
            if word == "start":
                number, sock = healer.start()
                tasks[number] = sock.makefile("rw", buffering=1)
                print(number, tasks[number].readline(), end="", flush=True)
            elif word == "tell":
                print(rest[1], file=tasks[int(rest[0])], flush=True)
                print(tasks[int(rest[0])].readline(), end="", flush=True)
            elif word == "kill":
                healer.kill(int(rest[0]))
                print(repr(tasks[int(rest[0])].readline()), flush=True)
    """
    with ended(
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
    ) as process:
        yield process
        process.kill()


def ask(daemon: subprocess.Popen[str], words: str = "") -> str:
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    if words:
        daemon.stdin.write(words + "\n")
        daemon.stdin.flush()
    return daemon.stdout.readline().strip()


def start(daemon: subprocess.Popen[str]) -> tuple[int, int]:
    """A task: its number, and its child's process id."""
    number, _, document = ask(daemon, "start").partition(" ")
    known = eval(document)
    assert known["pid"] == known["group"]
    return int(number), known["pid"]


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def has_ended(pid: int) -> bool:
    """Whether it is dead, reaped or not."""
    status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return status.rpartition(")")[2].split()[0] == "Z"


def is_over(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


class TestHealer:
    def test_children_are_told_and_tell(self, daemon: subprocess.Popen[str]) -> None:
        ask(daemon)
        first, second = start(daemon), start(daemon)
        assert first != second
        assert ask(daemon, f"tell {first[0]} 1") == '{"told":1}'
        assert ask(daemon, f"tell {second[0]} 2") == '{"told":2}'

    def test_a_child_that_is_killed_is_reaped_with_what_it_forked(
        self, daemon: subprocess.Popen[str]
    ) -> None:
        ask(daemon)
        number, pid = start(daemon)
        assert ask(daemon, f"kill {number}") == "''"
        eventually(lambda: is_over(pid), "the child's group to end")
        eventually(lambda: is_gone(pid), "the child to be reaped")
        start(daemon)  # the healer goes on

    def test_to_kill_a_child_that_has_ended_is_nothing(self, daemon: subprocess.Popen[str]) -> None:
        ask(daemon)
        number, pid = start(daemon)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid), "the child to be reaped")
        assert ask(daemon, f"kill {number}") == "''"
        start(daemon)

    def test_to_kill_a_child_is_nothing_once_the_healer_has_died(
        self, daemon: subprocess.Popen[str]
    ) -> None:
        healer = int(ask(daemon))
        number, pid = start(daemon)
        os.killpg(pid, signal.SIGKILL)
        os.kill(healer, signal.SIGKILL)
        eventually(lambda: has_ended(healer), "the healer to die")
        assert ask(daemon, f"kill {number}") == "''"

    def test_one_that_cannot_live_says_why(self) -> None:
        program = """
            import os, sys
            from cni_repair.watch.healer import Healer
            from cni_repair.watch.leash import Leash

            sys.modules["cni_repair.watch.tasks"] = None
            os.waitpid(Healer(Leash()).pid, 0)
        """
        command = [sys.executable, "-c", textwrap.dedent(program)]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            timeout=HANG_SECONDS,
        )
        assert "cni_repair.watch.tasks" in done.stderr

    def test_a_signal_for_the_whole_unit_does_not_end_it(
        self, daemon: subprocess.Popen[str]
    ) -> None:
        healer = int(ask(daemon))
        start(daemon)  # by now it ignores them
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(healer, number)
        start(daemon)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_all_die_with_the_daemon(self, daemon: subprocess.Popen[str], number: int) -> None:
        healer = int(ask(daemon))
        _, pid = start(daemon)
        daemon.send_signal(number)
        daemon.wait(HANG_SECONDS)
        eventually(lambda: is_gone(healer), "the healer to die")
        eventually(lambda: is_over(pid), "the child, and what it forked, to die")


class TestChannel:
    def test_lines_arrive_whole(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            channel = Channel(theirs)
            data = encoded({"a": "x" * 100_000}) + encoded({"b": 2})
            ours.settimeout(HANG_SECONDS)
            ours.sendall(data[:10])
            ours.sendall(data[10:])
            assert len(channel.receive()["a"]) == 100_000
            assert channel.is_told()
            assert channel.receive() == {"b": 2}
            assert not channel.is_told()

    def test_the_daemons_end_is_the_end(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            channel = Channel(theirs)
            ours.close()
            with pytest.raises(Closed):
                channel.receive()
            with pytest.raises(Closed):
                channel.send({"a": "x" * 10_000_000})


class TestNotifier:
    def test_nobody_asked(self) -> None:
        Notifier({}).ready()

    def test_a_manager_that_is_gone(self, tmp_path: Path) -> None:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()

    @pytest.mark.parametrize("is_abstract", [False, True])
    def test_words(self, tmp_path: Path, is_abstract: bool) -> None:
        path = f"@cni-repair-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + path[1:] if is_abstract else path)
            manager.settimeout(HANG_SECONDS)
            Notifier({"NOTIFY_SOCKET": path}).status("a line\nREADY=1")
            assert manager.recv(100) == b"STATUS=a line READY=1"

    @pytest.mark.parametrize(
        ("environ", "seconds"),
        [
            ({}, 0.0),
            ({"WATCHDOG_USEC": "30000000"}, 10.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
            ({"WATCHDOG_USEC": "soon"}, 0.0),
        ],
    )
    def test_watchdog(self, environ: dict[str, str], seconds: float) -> None:
        assert Notifier(environ).watchdog_seconds == seconds
