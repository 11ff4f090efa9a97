"""The sessions beside: what comes of their tests is told by the first, and none outlives that."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leaks import traces
from tests.patience import HANG_SECONDS, eventually
from tests.processes import ended

pytestmark = pytest.mark.slow

_CONFTEST = """\
import os, pytest
from tests import beside

pytest_addoption = beside.add_options
pytest_configure = beside.register

def note(*words):
    with open("notes", "a") as file:
        print(*words, os.getpid(), file=file)

@pytest.fixture
def noted(request):
    note(request.node.name)

@pytest.fixture(scope="session", autouse=True)
def whole():
    yield
    note("end")
"""
_OUTCOMES = """\
import pytest
def test_{0}_passes(noted): pass
def test_{0}_fails(noted): assert 1 == 2
def test_{0}_skips(noted): pytest.skip("for {0}")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A directory with tests of its own; those in `install` are such as run beside."""
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {Path(__file__).parents[1]}\n")
    (tmp_path / "tests" / "install").mkdir(parents=True)
    (tmp_path / "tests" / "conftest.py").write_text(_CONFTEST)
    write(tmp_path, _OUTCOMES.format("here"), _OUTCOMES.format("there"))
    return tmp_path


def write(suite: Path, here: str, there: str) -> None:
    (suite / "tests" / "test_here.py").write_text(here)
    (suite / "tests" / "install" / "test_there.py").write_text(there)


def start(suite: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--beside", *words, "tests"]
    command.append(f"--basetemp={suite}/work")
    return subprocess.Popen(
        command, cwd=suite, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def run(suite: Path, *words: str) -> tuple[int, str]:
    with ended(start(suite, *words)) as process:
        said, _ = process.communicate()
    return process.returncode, said


def notes(suite: Path) -> list[list[str]]:
    """What each session has done, each told by its process."""
    told = [line.split() for line in (suite / "notes").read_text().splitlines()]
    found = dict[str, list[str]]()
    for what, pid in told:
        found.setdefault(pid, []).append(what)
    return sorted(found.values())


def of(place: str) -> list[str]:
    return [f"test_{place}_{what}" for what in ("passes", "fails", "skips")]


def test_three_processes_one_summary(suite: Path) -> None:
    (suite / "tests/netns").mkdir()
    (suite / "tests/netns/test_watch.py").write_text(_OUTCOMES.format("yonder"))
    status, said = run(suite)
    assert status == 1
    assert said.splitlines()[-1].startswith("3 failed, 3 passed, 3 skipped in "), said
    assert said.count("assert 1 == 2") >= 3
    assert "for here" in said and "for there" in said and "for yonder" in said
    # Each runs its own, and comes to its end.
    places = ("here", "there", "yonder")
    assert notes(suite) == sorted([*of(place), "end"] for place in places)


def test_only_what_was_asked_for(suite: Path) -> None:
    _, said = run(suite, "-k", "passes")
    assert said.splitlines()[-1].startswith("2 passed, 4 deselected in "), said
    assert notes(suite) == [["test_here_passes", "end"], ["test_there_passes", "end"]]


def test_nothing_of_this_session_no_other(suite: Path) -> None:
    _, said = run(suite, "-k", "there")
    assert said.splitlines()[-1].startswith("1 failed, 1 passed, 1 skipped, 3 deselected"), said
    assert len(notes(suite)) == 1


def test_error_at_the_others_end_fails_the_run(suite: Path) -> None:
    """Such as what is left behind there."""
    ending = "import pytest\n@pytest.fixture(scope='session')\ndef s():\n    yield\n    assert 0\n"
    write(suite, "def test_here(): pass\n", f"{ending}def test_there(s): pass\n")
    status, said = run(suite)
    assert status == 1
    assert said.splitlines()[-1].startswith("2 passed, 1 error in "), said


def test_the_other_dies(suite: Path) -> None:
    dies = "import os\ndef test_first(): os._exit(3)\ndef test_second(): pass\n"
    write(suite, "def test_here(): pass\n", dies)
    status, said = run(suite)
    assert status == 1
    assert said.splitlines()[-1].startswith("2 failed, 1 passed in "), said
    assert "the session beside ended before this test" in said


def test_killed_it_ends_the_other(suite: Path) -> None:
    waits = "import time\ndef test_waits(noted): time.sleep(600)\n"
    write(suite, waits, waits)
    with ended(start(suite)) as process:
        waiting = [["test_waits"], ["test_waits"]]
        eventually(lambda: (suite / "notes").exists() and notes(suite) == waiting, "both")
        process.kill()
    in_the_end = [["test_waits"], ["test_waits", "end"]]
    eventually(lambda: notes(suite) == in_the_end, "the other to end")


@pytest.mark.parametrize("where", ["here", "there"])
def test_ctrl_c_ends_both(suite: Path, where: str) -> None:
    """Whichever of them is at work; the fixtures of both come to their ends."""
    waits = "import time\ndef test_waits(noted): time.sleep(600)\n"
    passes = "def test_passes(noted): pass\n"
    write(suite, *((waits, passes) if where == "here" else (passes, waits)))
    with ended(start(suite)) as process:
        expected = [["test_passes", "end"], ["test_waits"]]
        eventually(lambda: (suite / "notes").exists() and notes(suite) == expected, "both")
        subprocess.run(["kill", f"-{signal.SIGINT:d}", "--", f"-{process.pid}"], check=True)
        said, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 2, said
    assert notes(suite) == [["test_passes", "end"], ["test_waits", "end"]]
    eventually(lambda: not any(str(suite) in one for one in traces()), "both to end")
