"""What the system refuses, in words; and a namespace that cannot be asked for is not gone."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cni_repair.base.errors import IO, CniError, of_system
from cni_repair.base.files import Unreadable, Untrusted, is_there, open_trusted
from cni_repair.netlink.netns import NoNetns, cookie_of, netns_id_at, open_netns
from tests.unit.samples import REPOSITORY

ABSENT = ("ENOENT", "ENOTDIR", "ESRCH")
REFUSED = ("EMFILE", "ENFILE", "ENOMEM", "EIO", "EACCES", "EINTR", "ELOOP", "ESTALE")


def caught(raising: Exception) -> CniError:
    """As a frame catches it."""
    try:
        raise raising
    except Exception as error:
        return of_system(error)


@pytest.mark.parametrize(
    ("error", "msg"),
    [
        (OSError(errno.ENOBUFS, "No buffer space"), "the system refused: No buffer space"),
        (OSError(errno.EIO, "I/O error", "/x"), "cannot use /x: I/O error"),
        (OSError(errno.EIO, "I/O error", 5), "the system refused: I/O error"),
        (OSError("without a number"), "the system refused: without a number"),
        (MemoryError(), "the system has no memory left"),
        (SystemError("error return without exception set"), "the system has no memory left"),
        (ModuleNotFoundError("No module named 'x'"), "cannot be loaded: No module named 'x'"),
    ],
)
def test_words(error: Exception, msg: str) -> None:
    said = caught(error)
    assert said.code == IO
    assert msg in said.msg
    assert "call again" in said.details


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there (df -h /x; df -i /x)"),
        (errno.EROFS, "have it writable again (findmnt -T /x; dmesg)"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n)"),
        (errno.EPERM, "put that right"),
    ],
)
def test_what_is_to_be_done_comes_before_the_place(number: int, remedy: str) -> None:
    said = str(caught(OSError(number, "why", "/x")))
    assert said.startswith(f"cannot use /x: why: {remedy}, then call again (")


def test_the_place_is_ours(tmp_path: Path) -> None:
    """The innermost of our own files, not of Python's."""
    (tmp_path / "file").touch()
    with pytest.raises(Untrusted) as caught:
        open_trusted(str(tmp_path / "file" / "below"))
    assert isinstance(caught.value.__cause__, OSError)
    said = of_system(caught.value.__cause__)
    assert "(in base/files.py, line " in said.details
    assert "(open_trusted)" in said.details


@pytest.fixture(name="answer")
def _answer(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Every open, and every look, is answered with this error."""
    number = getattr(errno, request.param)

    def refuse(path: object, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    return str(request.param)


@pytest.mark.parametrize("answer", ABSENT, indirect=True)
def test_nothing_is_there(answer: str) -> None:
    with pytest.raises(NoNetns):
        open_netns("/run/netns/x")
    assert netns_id_at("/run/netns/x") is None
    assert answer == "ESRCH" or not is_there("/run/netns/x")


@pytest.mark.parametrize("answer", REFUSED, indirect=True)
def test_nobody_can_tell(answer: str) -> None:
    with pytest.raises(CniError) as caught:
        open_netns("/run/netns/x")
    assert not isinstance(caught.value, NoNetns)
    assert caught.value.code == IO
    for ask in (netns_id_at, is_there):
        with pytest.raises(OSError, match=os.strerror(getattr(errno, answer))):
            ask("/run/netns/x")


@pytest.mark.parametrize("answer", ["EMFILE", "EIO", "EACCES"], indirect=True)
def test_a_file_that_cannot_be_read_is_not_a_bad_one(answer: str) -> None:
    with pytest.raises(Unreadable, match=os.strerror(getattr(errno, answer))):
        open_trusted("x")


def test_a_link_is_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(Untrusted) as caught:
        open_trusted(str(tmp_path / "link"))
    assert not isinstance(caught.value, Unreadable)


@pytest.mark.parametrize(("answer", "known"), [("ENOPROTOOPT", True), ("ENOMEM", False)])
def test_only_an_old_kernel_has_no_cookies(answer: str, known: bool) -> None:
    number = getattr(errno, answer)

    class Refusing(socket.socket):
        def getsockopt(self, *_: int) -> bytes:  # type: ignore[override]
            raise OSError(number, os.strerror(number))

    with Refusing() as sock:
        if known:
            assert cookie_of(sock) is None
            return
        with pytest.raises(OSError, match=os.strerror(number)):
            cookie_of(sock)


ENDS = """
import os, sys
sys.path.insert(0, {root!r})
from cni_repair.base.errors import IO, CniError, end_process, set_last_words
from cni_repair.netlink.netns import entered

{words}

def setns(fd, kind):
    if fd == HOME:
        raise OSError(12, "Cannot allocate memory")

POD, HOME = -1, -2
pod = entered(POD, HOME)
pod._setns = setns
try:
    with pod:
        pass
finally:
    print("cleaned up")
"""
ASTRAY = "cannot return to the node's network namespace: Cannot allocate memory"


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ("", "", f"cni-repair: {ASTRAY}\n"),
        ("set_last_words(lambda e: print('last:', e, flush=True))", f"last: {ASTRAY}\n", ""),
        # What it forks has no frame of its own: the document is its parent's to write.
        (
            "set_last_words(lambda e: print('last:', e, flush=True))\n"
            "if child := os.fork(): sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
            "",
            f"cni-repair: {ASTRAY}\n",
        ),
    ],
)
def test_who_cannot_return_ends_at_once(words: str, out: str, err: str) -> None:
    """Nothing of what usually cleans up is run."""
    code = ENDS.format(root=str(REPOSITORY), words=words)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, out, err)
