"""The tracer of the proof `killed`: what it lists, and whom it kills when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from integration.trust import tracer
from integration.trust.tracer import ALL, CALLER, COMMAND

pytestmark = [
    pytest.mark.needs_root,  # a seccomp filter without no_new_privs
    pytest.mark.skipif(not tracer.is_possible(), reason="not an x86_64 machine"),
]

# Its own calls: 0. A child that renames, then one that removes.
SCRIPT = "touch one; mv one two; rm two; touch end"


def trace(directory: Path, script: str, kill: str = "") -> tuple[int, bool, list[tuple[str, str]]]:
    """How it ended, whether somebody was killed; place and name of each call, but for execve."""
    listed = directory / "calls"
    aim = ["--kill", kill] if kill else []
    done = subprocess.run(
        [
            sys.executable, "-IS", tracer.__file__, "--list", str(listed), *aim, "--",
            "sh", "-c", script,
        ],
        cwd=directory,
        check=False,
    )  # fmt: skip
    document = json.loads(listed.read_text())
    calls = [(place, name) for place, _, _, name in document["calls"] if name != "execve"]
    return done.returncode, document["killed"], calls


def left(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"calls"}


def test_lists_what_changes_something_by_the_family(tmp_path: Path) -> None:
    status, killed, calls = trace(tmp_path, SCRIPT)
    assert (status, killed) == (0, False)
    assert [place for place, name in calls if name.startswith("rename")] == ["0.2"]
    assert [place for place, name in calls if name.startswith("unlink")] == ["0.3"]
    assert ("0.1", "openat") in calls
    assert left(tmp_path) == {"end"}


@pytest.mark.parametrize(
    ("who", "status", "there"),
    [(CALLER, 0, {"one", "end"}), (COMMAND, 137, {"two"}), (ALL, 137, {"one"})],
)
def test_kills_before_the_call_is_done(
    tmp_path: Path, who: str, status: int, there: set[str]
) -> None:
    """The second child's second call, after its execve: it renames. Where only the command is
    killed the child does it, and is waited for."""
    ended, killed, _ = trace(tmp_path, SCRIPT, f"0.2:2:{who}")
    assert (ended, killed) == (status, True)
    assert left(tmp_path) == there


def test_call_that_never_comes_kills_nobody(tmp_path: Path) -> None:
    assert trace(tmp_path, SCRIPT, f"0.9:1:{COMMAND}")[:2] == (0, False)


def test_messages_that_only_ask_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "talk").write_text(
        "import socket, struct\n"
        "talk = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)\n"
        "for kind, flags in ((18, 0x301), (16, 5)):\n"  # RTM_GETLINK, a dump; RTM_NEWLINK
        "    talk.send(struct.pack('=IHHIIBBHiII', 32, kind, flags, 1, 0, 0, 0, 0, 1, 0, 0))\n"
    )
    calls = trace(tmp_path, f"unshare --net {sys.executable} -IS talk")[2]
    assert [name for _, name in calls if name.startswith("send")] == ["sendto"]


def test_ends_as_the_command_does_and_takes_no_stream_from_it(tmp_path: Path) -> None:
    assert trace(tmp_path, "exit 3")[0] == 3
