"""The driver command as a process: begun, watched, killed, found again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.upgrade import driver
from cni_repair.upgrade.driver import Ended, Running
from tests.patience import HANG_SECONDS, eventually
from tests.processes import is_alive


class Watched:
    """A run directory, and what a command has printed there."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = str(run_dir)
        self.lines: list[str] = []

    def start(self, script: str, seconds: float = 1000) -> Running:
        with driver.Prepared(("/bin/sh", "-c", script), self.run_dir, seconds) as prepared:
            return prepared.go()

    def watch(self, running: Running) -> Ended:
        return driver.watch(running, self.run_dir, self.lines.append, time.sleep)

    def run(self, script: str, seconds: float = 1000) -> Ended:
        return self.watch(self.start(script, seconds))

    def run_past_deadline(self, script: str, lines: int) -> Ended:
        """It has printed so many lines when its time is over."""
        return self.watch(self.started(script, lines))

    def started(self, script: str, lines: int) -> Running:
        """A command whose time is over, and which has printed so many lines."""
        running, output = self.start(script), Path(self.run_dir, "driver.output")
        eventually(lambda: output.read_text().count("\n") >= lines, "the command's words")
        return replace(running, deadline=time.monotonic())


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "run")


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_GRACE_SECONDS", 0.2)


@pytest.mark.parametrize("status", [0, 1, 77, 126, 127, 255])
def test_its_exit_status_and_its_lines(watched: Watched, status: int) -> None:
    ended = watched.run(f"echo one; echo two >&2; printf three; exit {status}")
    assert ended == Ended(status, False)
    assert watched.lines == ["one", "two", "three"]


def test_environment_of_its_own(watched: Watched) -> None:
    watched.run('echo "$PATH"; pwd; read -r line || echo no input; cat /proc/self/stat')
    path, cwd, stdin, stat = watched.lines
    assert path == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert (cwd, stdin) == ("/", "no input")
    assert int(stat.split()[5]) != os.getsid(0)


def test_words_reach_it_as_they_are(watched: Watched) -> None:
    words = ("/usr/bin/printf", "%s\\n", "a b", "$HOME", "'", "-n", "", "é")
    with driver.Prepared(words, watched.run_dir, 20) as prepared:
        running = prepared.go()
    assert watched.watch(running).status == 0
    assert watched.lines == ["a b", "$HOME", "'", "-n", "", "é"]


def test_what_cannot_be_run_is_its_failure(watched: Watched) -> None:
    with driver.Prepared(("/bin/none",), watched.run_dir, 20) as prepared:
        running = prepared.go()
    assert watched.watch(running).status == 127
    assert "/bin/none" in watched.lines[0]


def test_run_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CniError, match="cannot start /bin/true"):
        driver.Prepared(("/bin/true",), str(tmp_path / "file"), 20)


def test_without_the_word_it_never_begins(watched: Watched, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/begun"
    with driver.Prepared(("/bin/sh", "-c", script), watched.run_dir, 20) as prepared:
        pid = prepared.running.pid
    assert not is_alive(pid)
    assert not (tmp_path / "begun").exists()
    assert driver.read_status(watched.run_dir) is None


@pytest.mark.slow
def test_killed_with_its_session_at_the_deadline(watched: Watched, short_grace: None) -> None:
    """The shell goes at the first signal; what it has started may not want to."""
    stubborn = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done'"
    script = f"{stubborn} & sh -c 'set -m; sleep 600 & echo $!; wait' & wait"
    ended = watched.run_past_deadline(script, lines=2)
    assert ended == Ended(None, True)
    pids = [int(line) for line in watched.lines if line.isdigit()]
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


def test_no_shell_goes_on_at_the_deadline(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly the signals come, and in whichever order /proc tells of them."""
    kill, listdir = os.kill, os.listdir

    def slowly(pid: int, number: int) -> None:
        kill(pid, number)
        time.sleep(0.05)

    monkeypatch.setattr(os, "kill", slowly)
    monkeypatch.setattr(os, "listdir", lambda path: listdir(path)[::-1])
    script = "sh -c 'sh -c \"echo begun; sleep 600; echo inner\"; echo middle'; echo outer"
    assert watched.run_past_deadline(script, lines=1) == Ended(None, True)
    assert watched.lines == ["begun"]


def test_polite_one_may_tidy_up_at_the_deadline(watched: Watched) -> None:
    script = "trap 'echo tidied; exit 3' TERM; echo begun; while :; do sleep 0.02; done"
    ended = watched.run_past_deadline(script, lines=1)
    assert ended == Ended(None, True)
    assert "tidied" in watched.lines


@pytest.mark.slow
def test_what_hangs_in_the_kernel_is_not_waited_for(
    watched: Watched, short_grace: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(A process that no signal ends: here, for none is sent.)"""
    running = watched.started("echo before; sleep 600", lines=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: None)
        with pytest.raises(CniError, match="cannot be killed: it hangs in the kernel: look at dme"):
            watched.watch(running)
    assert watched.lines == ["before"]
    os.killpg(running.pid, signal.SIGKILL)
    assert running.child is not None
    running.child.wait()


def test_daemon_that_keeps_the_output_open(watched: Watched) -> None:
    assert watched.run("sleep 600 & echo $!") == Ended(0, False)
    (pid,) = map(int, watched.lines)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_shell_that_was_killed(watched: Watched) -> None:
    script = "read -r _ _ _ _ _ session _ </proc/self/stat; kill -9 $session"
    assert watched.run(script) == Ended(None, False)


def test_full_run_directory_does_not_hide_the_status(watched: Watched) -> None:
    """(The status cannot be left behind; the child's own tells.)"""
    running = watched.start(f"ln -s /dev/full {watched.run_dir}/driver.status; exit 7")
    assert watched.watch(running) == Ended(7, False)


# --- its output ----------------------------------------------------------------------------------


def test_flood_is_cut_in_the_middle(watched: Watched) -> None:
    script = "echo first; yes 'all work and no play' | head -n 5000000; echo last"
    assert watched.run(script).status == 0
    assert watched.lines[0] == "first"
    assert watched.lines[-1] == "last"
    assert watched.lines.count("[a part of the output is left out here]") == 1
    assert sum(len(line) + 1 for line in watched.lines) < 1 << 20
    status = os.stat(f"{watched.run_dir}/driver.output")
    assert status.st_size > 100_000_000 > 10 * 512 * status.st_blocks


@pytest.mark.parametrize(
    ("script", "count"),
    [("yes '' | head -n 2000000", 20_000), ("head -c 5000000 /dev/zero", 2_000)],
    ids=["empty lines", "one line"],
)
def test_flood_in_lines_of_any_length(watched: Watched, script: str, count: int) -> None:
    assert watched.run(f"{script}; echo; echo last").status == 0
    assert len(watched.lines) < count
    assert max(map(len, watched.lines)) <= 4096
    assert watched.lines[-1] == "last"


def test_of_a_flood_no_more_is_read_than_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes may be quicker than we are."""
    path = tmp_path / "output"
    path.write_bytes(b"x\n" * (10 << 20))
    tail = driver._Tail(str(path), lambda line: None)
    tail.read()
    assert len(tail._last) == 50
    path.write_bytes(b"x\n" * (20 << 20))
    passed: list[bytes] = []
    monkeypatch.setattr(tail, "_pass_on", passed.append)
    tail.read()
    assert len(passed) < 40_000


def test_long_line_is_shown_as_it_grows(watched: Watched) -> None:
    go = Path(f"{watched.run_dir}/go")
    running = watched.start(f"printf '%8000d' 0; until test -e {go}; do sleep 0.01; done")

    def meanwhile(seconds: float) -> None:
        time.sleep(seconds)
        if watched.lines:
            go.touch()

    assert driver.watch(running, watched.run_dir, watched.lines.append, meanwhile).status == 0
    assert [len(line) for line in watched.lines] == [4096, 3904]


@pytest.mark.slow
def test_output_that_is_truncated_by_its_writer(watched: Watched) -> None:
    seen = f"{watched.run_dir}/seen"
    script = (
        f"echo one and more; until test -e {seen}1; do sleep 0.01; done; echo two >/dev/stdout;"
        f" until test -e {seen}2; do sleep 0.01; done; echo three"
    )
    running = watched.start(script)

    def meanwhile(seconds: float) -> None:
        time.sleep(seconds)
        if watched.lines:
            Path(f"{seen}{len(watched.lines)}").touch()

    assert driver.watch(running, watched.run_dir, watched.lines.append, meanwhile).status == 0
    assert watched.lines == ["one and more", "two", "three"]


# --- after a resume ------------------------------------------------------------------------------


@pytest.fixture
def orphan(watched: Watched) -> Iterator[Running]:
    """A command whose upgrade was killed: it waits for a file."""
    running = watched.start(f"until test -e {watched.run_dir}/go; do sleep 0.01; done; exit 4")
    yield replace(running, child=None)
    Path(f"{watched.run_dir}/go").touch()
    assert running.child is not None
    running.child.wait(HANG_SECONDS)


def test_found_at_work(watched: Watched, orphan: Running) -> None:
    assert driver.is_alive(orphan, watched.run_dir)
    Path(f"{watched.run_dir}/go").touch()
    assert watched.watch(orphan) == Ended(4, False)
    assert not driver.is_alive(orphan, watched.run_dir)


def test_another_process_of_its_pid_is_not_it(watched: Watched, orphan: Running) -> None:
    assert not driver.is_alive(replace(orphan, start=orphan.start - 1), watched.run_dir)


def test_found_past_its_deadline(watched: Watched, orphan: Running) -> None:
    late = replace(orphan, deadline=time.monotonic() - 1)
    assert watched.watch(late) == Ended(None, True)
    assert not is_alive(orphan.pid)


def test_dead_one_that_nobody_has_waited_for(watched: Watched) -> None:
    """In a container, process 1 may never do so."""
    running = watched.start("kill -9 $PPID; sleep 600")
    eventually(lambda: not is_alive(running.pid))
    assert Path(f"/proc/{running.pid}").exists()
    # Its shell is dead, but it is not: nobody may run another beside it.
    assert driver.is_alive(replace(running, child=None), watched.run_dir)
    os.killpg(running.pid, signal.SIGKILL)
    eventually(lambda: not driver.is_alive(replace(running, child=None), watched.run_dir))
    assert running.child is not None
    running.child.wait()
    assert not driver.is_alive(running, watched.run_dir)


@pytest.mark.slow
def test_survives_us(tmp_path: Path) -> None:
    """Killed together with our process group and the terminal, we do not take it along."""
    code = f"""
import os, signal
from cni_repair.upgrade import driver
with driver.Prepared(("/bin/sh", "-c", "sleep 0.3; echo done"), {str(tmp_path)!r}, 20) as prepared:
    print(prepared.go().pid, flush=True)
os.kill(0, signal.SIGKILL)
"""
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code],
        capture_output=True,
        start_new_session=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == -signal.SIGKILL, done
    eventually(lambda: driver.read_status(str(tmp_path)) == 0)
    assert (tmp_path / "driver.output").read_text() == "done\n"
