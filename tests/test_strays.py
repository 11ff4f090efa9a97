"""No test is blamed for what an earlier one has left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_CONFTEST = """\
from tests import strays
pytest_configure = strays.register
strays.SECONDS = 0.5
"""
_HEAD = """\
import os, pytest, signal, subprocess

def start():
    process = subprocess.Popen(["sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process

"""
# Python finds what nobody has closed, or waited for, when it collects its garbage.
_NEXT = """

def test_next():
    import gc
    gc.collect()
"""


def outcome(suite: Path, text: str) -> tuple[str, str]:
    """What came of the tests: pytest's last line, and all that it has said."""
    (suite / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {Path(__file__).parents[1]}\nfilterwarnings = error\n"
    )
    (suite / "conftest.py").write_text(_CONFTEST)
    (suite / "test_it.py").write_text(_HEAD + text + _NEXT)
    command = [sys.executable, "-m", "pytest", "-q", "-rN", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1].partition(" in ")[0], done.stdout + done.stderr


@pytest.mark.parametrize(
    "body",
    [
        "process = start(); assert False",
        "process = start(); process.kill(); assert False",
        "process = start(); process.kill(); process.wait(); assert False",
        "file = open('/dev/null'); assert False",
        "process = start(); file = open('/dev/null'); loop = [file, process]; loop.append(loop);"
        " assert False",
    ],
)
def test_what_a_failed_test_held_is_not_the_next_ones(tmp_path: Path, body: str) -> None:
    counts, said = outcome(tmp_path, f"def test_it():\n    {body}")
    assert counts.startswith("1 failed, 1 passed"), said
    assert "test_next" not in said


def test_what_a_failed_fixture_has_started(tmp_path: Path) -> None:
    text = "@pytest.fixture\ndef it(): process = start(); assert False\ndef test_it(it): pass"
    counts, said = outcome(tmp_path, text)
    assert counts.startswith("1 passed, "), said
    assert "left behind: process " in said
    assert "test_next" not in said


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("global process; process = start()", "sleep 600"),
        ("global process; process = start(); process.kill()", "left behind: process "),
        ("if os.fork() == 0: signal.pause()", "left behind: process "),
    ],
)
def test_what_a_test_leaves_is_its_own_error(tmp_path: Path, body: str, told: str) -> None:
    counts, said = outcome(tmp_path, f"def test_it():\n    {body}")
    assert counts == "2 passed, 1 error", said
    assert "ERROR at teardown of test_it" in said
    assert told in said


def test_a_fork_that_ends_may_be_left_to_the_kernel(tmp_path: Path) -> None:
    counts, said = outcome(tmp_path, "def test_it():\n    if os.fork() == 0: os._exit(0)")
    assert counts == "2 passed", said


@pytest.mark.parametrize("scope", ["module", "session"])
def test_what_others_use_too_stays_until_their_end(tmp_path: Path, scope: str) -> None:
    text = f"""
@pytest.fixture(scope="{scope}")
def it():
    with start() as process:
        yield process
        process.kill()

def test_first(it): assert it.poll() is None
def test_second(it): assert it.poll() is None
"""
    assert outcome(tmp_path, text)[0] == "3 passed"
