"""`cni-repair demo`: it shows what is, fails when a repair does, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cni_repair.demo import lab as labs
from cni_repair.demo import machine, story
from cni_repair.demo.lab import LabError, product
from tests.patience import HANG_SECONDS, eventually

REPOSITORY = str(Path(__file__).resolve().parents[1])
QUICK = "from cni_repair.demo import story; raise SystemExit(story.run(detect_duplicates=False))"
WHOLE = "from cni_repair.demo import story; raise SystemExit(story.run())"
BROKEN = f"""\
#!{sys.executable} -IS
import os, sys
if %r in (os.environ.get("CNI_COMMAND"), sys.argv[-1]):
    print(%r)
    sys.exit(%d)
command = {product()!r}
os.execv(command[0], [*command, *sys.argv[1:]])
"""


@contextlib.contextmanager
def started(code: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process (and a session) of its own; killed if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": REPOSITORY, "PATH": "/usr/bin:/bin", "TERM": "xterm"},
        text=True,
        start_new_session=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the demo never said {text!r}")


@pytest.mark.slow
def test_the_whole_demo(nothing_left: Callable[[], None]) -> None:
    with started(WHOLE) as process:
        said, complaints = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, complaints) == (0, "")
    nothing_left()
    steps = re.findall(r"^(\d+)\. ", said, re.MULTILINE)
    assert steps == [str(number) for number in range(1, 14)]
    for promised in (
        "CNI_COMMAND=ADD CNI_CONTAINERID=web-1",
        "node# ip link delete eth0\n",
        "web-1# ping -c 1 -W 1 10.9.0.1\n    ping: connect: Network is unreachable\n",
        "node# cni-repair status\n",
        "3 attachments: 3 lost\n",
        "node# cni-repair repair --all\n",
        "3 attachments: 3 healthy\n",
        '    lost:   Device "eth0" does not exist.\n',
        "web-1# ping -c 1 -W 1 fd00:9::1\n    web-1: 64 bytes from fd00:9::1",
        "carries on\n",
        "node# CNI_COMMAND=REPAIR CNI_PATH=",
        "The demo passed",
    ):
        assert promised in said
    assert len(re.findall(r"has the same: ifindex 2, MAC [0-9a-f:]{17}, 10\.9\.0\.", said)) == 3
    before, after = re.findall(r"(?:before|after): +eth0@if\d+ (UP .*)", said)
    assert before == after
    assert said.count("CNI_COMMAND=REPAIR") == 1
    outages = [float(found) for found in re.findall(r"without an answer for ([\d.]+) s", said)]
    # The NIC is away for a second.
    assert [outage > 1 for outage in outages] == [True] * 3, outages
    # (A ping that had to wait for its turn leaves a gap, too.)
    assert len(re.findall(r"^    web-\d  [#.]*#[#.]*\.[#.]*#[#.]*$", said, re.MULTILINE)) == 3
    assert said.isascii()
    assert "\033" not in said
    assert max(map(len, said.splitlines())) < 80


@pytest.mark.slow
def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = pty.openpty()
    try:
        with started(QUICK, stdout=its) as process:
            os.close(its)
            process.wait(timeout=HANG_SECONDS)
        said = os.read(ours, 1 << 16)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert b"\033[1mcni-repair demo:" in said


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 60])
def test_as_wide_as_the_terminal(columns: int) -> None:
    ours, its = pty.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        with started(QUICK, stdout=its) as process:
            os.close(its)
            said = "".join(read_to_the_end(ours))
    finally:
        os.close(ours)
    assert process.returncode == 0
    lines = re.sub("\033.*?m", "", said).splitlines()
    assert max(map(len, lines)) < columns
    # What is typed stays what it means, and is one piece where it has no blank.
    typed = re.sub(r"(?<=;)\\\n", "", "\n".join(lines))
    assert '"IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-1"' in typed
    assert "CNI_NETNS=/run/netns/web-1" in typed


def read_to_the_end(terminal: int) -> Iterator[str]:
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while part := os.read(terminal, 1 << 16):
            yield part.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_timeline_as_a_web_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "timeline.html"
    assert story.run(detect_duplicates=False, html=str(page)) == 0
    assert f"The timeline is in {page}" in " ".join(capsys.readouterr().out.split())
    written = page.read_text()
    assert re.findall(r"<tr><td>(web-\d)<td>", written) == list(story.PODS)
    assert "cni-repair repair --all</text>" in written
    assert re.findall(r'(?:href|src)=|url\(|@import|<script|"https?:', written) == [
        '"http:'  # the name of SVG
    ]
    picture = re.search("<svg.*</svg>", written, re.DOTALL)
    assert picture
    ElementTree.fromstring(picture[0])


def test_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is found out before the story is told."""
    assert story.run(html=str(tmp_path / "none" / "page.html")) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "No such file or directory" in output.err


@pytest.mark.parametrize(("vlan", "told"), [(3, "eth0, eth0.3, pods"), (0, "no VLANs (8021q)")])
def test_which_network_it_is(vlan: int, told: str) -> None:
    assert told in story.about_vlan(vlan)


@pytest.mark.slow
def test_two_demos_at_a_time_do_not_see_each_other() -> None:
    with started(QUICK) as one, started(QUICK) as other:
        for process in (one, other):
            _, complaints = process.communicate(timeout=HANG_SECONDS)
            assert (process.returncode, complaints) == (0, "")


class TestStopped:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "moment",
        [
            "cni-repair demo:",
            "1. Attach",
            "ok: web-2 has eth0",
            "2. Ping",
            "3. Open",
            "4. The NIC's driver is unloaded",
            "6. The driver is loaded again",
            "7. Repair",
            "10. Ping",
            "carries on",
        ],
    )
    def test_ctrl_c(self, moment: str, nothing_left: Callable[[], None]) -> None:
        with started(QUICK) as process:
            read_until(process, moment)
            os.killpg(process.pid, signal.SIGINT)
            _, complaints = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 130
        assert complaints == "cni-repair demo: stopped; everything that it made is gone\n"
        nothing_left()

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_in_the_midst_of_a_command(
        self, number: signal.Signals, nothing_left: Callable[[], None]
    ) -> None:
        with started(WHOLE) as process:
            # Its ADD now waits for duplicate address detection.
            read_until(process, "cni-repair </run")
            plugin = eventually(lambda: running_below(process.pid, "macvlan"), "the plugin to run")
            os.kill(plugin, signal.SIGSTOP)  # its end is nothing to wait for
            process.send_signal(number)
            _, complaints = process.communicate(timeout=HANG_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            # Killed as it started, cni-repair leaves it behind: it ends by itself.
            os.kill(plugin, signal.SIGCONT)
        assert process.returncode == 128 + number
        assert len(complaints.splitlines()) == 1
        nothing_left()

    def test_ctrl_c_twice(self, nothing_left: Callable[[], None]) -> None:
        with started(QUICK) as process:
            read_until(process, "4. The NIC's driver")
            for _ in range(2):
                os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 130
        nothing_left()

    def test_sigkill(self, nothing_left: Callable[[], None]) -> None:
        with started(QUICK) as process:
            read_until(process, "4. The NIC's driver is unloaded")
            process.kill()
        nothing_left()

    def test_nobody_reads_any_more(self, nothing_left: Callable[[], None]) -> None:
        code = "from cni_repair.cli.main import run; raise SystemExit(run(['demo']))"
        with started(code) as process:
            read_until(process, "1. Attach")
            assert process.stdout is not None
            process.stdout.close()
            process.wait(timeout=HANG_SECONDS)
            assert process.stderr is not None
            assert process.stderr.read() == ""
        assert process.returncode == 1
        nothing_left()


class TestFailing:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("what", "answer", "status", "why"),
        [
            ("--all", "no", 1, "FAILED: exit status 1\n"),
            # It claims to have repaired, and did nothing.
            ("--all", "done", 0, "FAILED: status ended with exit status 1, not 0\n"),
            ("REPAIR", '{"code": 104, "msg": "no"}', 1, "FAILED: exit status 1\n"),
            ("REPAIR", "not JSON", 0, "FAILED: not one JSON document: 'not JSON"),
            ("REPAIR", '{"attachments": 3}', 0, 'FAILED: REPAIR answered {"attachments": 3}\n'),
        ],
    )
    def test_a_broken_repair(
        self,
        what: str,
        answer: str,
        status: int,
        why: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        nothing_left: Callable[[], None],
    ) -> None:
        broken = tmp_path / "cni-repair"
        broken.write_text(BROKEN % (what, answer, status))
        broken.chmod(0o755)
        assert story.run([str(broken)], detect_duplicates=False) == 1
        said = capsys.readouterr().out
        assert why in said
        assert "passed" not in said
        nothing_left()

    @pytest.mark.slow
    def test_a_clean_up_that_fails(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Untidy(labs.PrivateLab):
            def __exit__(self, *arguments: Any) -> None:
                super().__exit__(*arguments)
                raise LabError("something is still there")

        monkeypatch.setattr(story, "PrivateLab", Untidy)
        assert story.run(detect_duplicates=False) == 1
        output = capsys.readouterr()
        assert output.err == "cni-repair demo: something is still there\n"
        assert "passed" not in output.out

    def test_not_root(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert story.run() == 3
        assert capsys.readouterr().err.count("\n") == 1

    def test_missing_programs(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(machine._PROGRAMS, "no-such-ping", "iputils-ping")
        assert story.run() == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err == (
            "cni-repair demo: no-such-ping missing: apt-get install iputils-ping\n"
        )


LINK: story.Interface = {"ifindex": 2, "mtu": 1500, "addr_info": [{"local": "10.9.0.2"}]}
BEFORE: story.Interface = {"link": LINK, "routes": [{"dst": "default"}]}


class TestDifferences:
    def test_none(self) -> None:
        assert story.differences(BEFORE, BEFORE) == []

    @pytest.mark.parametrize(
        ("after", "found"),
        [
            ({"link": {}, "routes": []}, ["the interface is not there"]),
            (
                {**BEFORE, "link": {**LINK, "ifindex": 3, "new": 1}},
                ["ifindex was 2, is 3", "new was None, is 1"],
            ),
            (
                {"link": {**LINK, "addr_info": [{"local": "10.9.0.3"}]}, "routes": []},
                [
                    'address lost: {"local": "10.9.0.2"}',
                    'address new: {"local": "10.9.0.3"}',
                    'route lost: {"dst": "default"}',
                ],
            ),
        ],
    )
    def test_each_is_named(self, after: dict[str, Any], found: list[str]) -> None:
        assert story.differences(BEFORE, after) == found


def running_below(parent: int, program: str) -> int:
    """The descendant of a process that is that program; 0 where there is none."""
    for child in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (child / "stat").read_text().partition(" (")[2].rpartition(") ")
            if int(rest.split()[1]) == parent:
                found = int(child.name) if name == program else 0
                found = found or running_below(int(child.name), program)
                if found:
                    return found
    return 0
