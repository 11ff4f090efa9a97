"""Locks between processes: one holder at a time, a deadline, and files that go away."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_repair.base.errors import IO, TRY_AGAIN, CniError
from cni_repair.base.files import make_private
from cni_repair.checkpoint import inventory, locks, orphans
from cni_repair.checkpoint.inventory import Entry
from cni_repair.checkpoint.locks import PARENTS, Lock, kept_open
from cni_repair.checkpoint.model import encode_checked
from cni_repair.checkpoint.orphans import end_orphans
from cni_repair.checkpoint.store import Store
from cni_repair.node.context import Node
from cni_repair.node.forget import forget
from cni_repair.node.refresh import refresh
from cni_repair.repair.pod import AttachmentLock, RecordChanged
from cni_repair.upgrade import lock
from tests.patience import eventually
from tests.unit.samples import CHECKPOINT, KEY

DEADLINE = 60.0


@contextmanager
def child(work: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """A process that does `work` once it is told to; it must succeed by the end of the block.

    It is forked before the test takes a lock: a copy of the lock's descriptor would hold it, too.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.read(told, 1)
            work()
            status = 0
        finally:
            os._exit(status)
    try:
        yield lambda: (os.write(tell, b"x"), None)[1]
        assert exit_status(pid) == 0
    finally:
        os.close(told)
        os.close(tell)
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def exit_status(pid: int) -> int:
    """A child's, reaped; it is given till the deadline."""
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended], [], [], DEADLINE)
    os.close(ended)
    assert ready, "the child hangs"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def word(fd: int) -> bytes:
    """What the other process has to say, till the deadline."""
    ready, _, _ = select.select([fd], [], [], DEADLINE)
    assert ready, "the other process is silent"
    return os.read(fd, 1)


def is_open_elsewhere(run_dir: str, name: str, inode: int | None = None) -> bool:
    """Whether another process has a lock's file open; of that inode, if it is given."""
    path = f"{run_dir}/{name}.lock"
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if fd.parts[2] != str(os.getpid()) and os.readlink(fd).startswith(path):
                return inode in (None, fd.stat().st_ino)
        except OSError:
            continue  # closed meanwhile, or not ours to look at
    return False


def test_second_waits_for_the_first(run_dir: str) -> None:
    heard, said = os.pipe()

    def work() -> None:
        with Lock(run_dir, "a", DEADLINE):
            os.write(said, b"x")

    with child(work) as go:
        with Lock(run_dir, "a"):
            go()
            eventually(lambda: is_open_elsewhere(run_dir, "a"))
            assert select.select([heard], [], [], 0) == ([], [], [])
        assert word(heard) == b"x"
    os.close(heard)
    os.close(said)


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_deadline_is_code_11(run_dir: str, seconds: float) -> None:
    with Lock(run_dir, "abc@eth0"):
        started = time.monotonic()
        with (
            pytest.raises(CniError, match="abc eth0") as caught,
            Lock(run_dir, "abc@eth0", seconds),
        ):
            pass
        assert time.monotonic() - started >= seconds
    assert caught.value.code == TRY_AGAIN
    assert caught.value.msg == "another cni-repair is at work on abc eth0"


@pytest.mark.parametrize(
    ("seconds", "waited"), [(0.0999981, "waited 0.1 s; "), (0.04, ""), (0.0, "")]
)
def test_deadline_is_told_as_a_person_would(run_dir: str, seconds: float, waited: str) -> None:
    with Lock(run_dir, "a"), pytest.raises(CniError) as caught, Lock(run_dir, "a", seconds):
        pass
    assert caught.value.details == f"{waited}lslocks shows who holds {run_dir}/a.lock"


def test_attempt_that_ran_out_leaves_no_descriptor(run_dir: str) -> None:
    with Lock(run_dir, "a"):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(CniError), Lock(run_dir, "a", 0.0):
            pass
        assert len(os.listdir("/proc/self/fd")) == before


def test_other_names_do_not_wait(run_dir: str) -> None:
    with Lock(run_dir, "a", 0.0), Lock(run_dir, "b", 0.0), Lock(run_dir, "parents", 0.0):
        pass


def test_lock_is_free_again_after_the_block_and_after_an_error(run_dir: str) -> None:
    with pytest.raises(KeyError), Lock(run_dir, "a", 0.0):
        raise KeyError
    with Lock(run_dir, "a", 0.0):
        pass


def test_lock_of_a_killed_process_is_free(run_dir: str) -> None:
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        with Lock(run_dir, "a", 0.0):
            os.write(said, b"x")
            signal.pause()
    assert word(heard) == b"x"
    os.kill(pid, signal.SIGKILL)
    assert exit_status(pid) == -signal.SIGKILL
    with Lock(run_dir, "a", 0.0):
        pass
    os.close(heard)
    os.close(said)


def test_inherited_descriptor_keeps_the_lock_of_who_died(run_dir: str) -> None:
    """A delegate that outlives us, say after SIGKILL, still works under the lock."""
    lock = Lock(run_dir, "a", 0.0).__enter__()
    inherited = os.dup(lock.fd)
    os.close(lock.fd)  # as the kernel closes it for the dead: without a word
    with pytest.raises(CniError), Lock(run_dir, "a", 0.0):
        pass
    os.close(inherited)
    with Lock(run_dir, "a", 0.0):
        pass


def test_inherited_descriptor_does_not_keep_a_lock_that_was_given_back(run_dir: str) -> None:
    """A daemon that a delegate leaves behind would hold it for its life."""
    with Lock(run_dir, "a", 0.0) as lock:
        inherited = os.dup(lock.fd)
    with Lock(run_dir, "a", 0.0):
        pass
    os.close(inherited)


@pytest.mark.parametrize("own", [os.setpgrp, os.setsid], ids=["a plugin", "a daemon"])
def test_who_holds_the_lock_of_the_dead(run_dir: str, own: Callable[[], None]) -> None:
    """A plugin that hangs is ended by who has waited for long; a daemon may stay."""
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        with Lock(run_dir, "a", 0.0):
            if os.fork():
                signal.pause()
            own()
            os.write(said, os.getpid().to_bytes(4, "little"))
            signal.pause()
    orphan = int.from_bytes(os.read(heard, 4), "little")
    with open(locks.path_of(run_dir, "a"), encoding="ascii") as waiter:
        assert not end_orphans(waiter.fileno())  # who took it lives
        os.kill(pid, signal.SIGKILL)
        assert exit_status(pid) == -signal.SIGKILL
        try:
            assert end_orphans(waiter.fileno()) == (own is os.setpgrp)
            if own is os.setpgrp:
                fcntl.flock(waiter, fcntl.LOCK_EX)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
    os.close(heard)
    os.close(said)


@pytest.fixture
def ends_orphans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As if somebody who holds a lock of the dead were ended, for whoever waits; the calls."""
    calls: list[int] = []

    def end(fd: int) -> bool:
        calls.append(fd)
        return True

    monkeypatch.setattr(locks, "_ORPHANS_SECONDS", 0.0)
    monkeypatch.setattr(orphans, "end_orphans", end)
    return calls


def test_who_was_ended_is_given_time_to_go(
    run_dir: str, ends_orphans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lock(run_dir, "a").__enter__()
    monkeypatch.setattr(time, "sleep", lambda _: first.close())  # the kernel has closed its files
    with Lock(run_dir, "a", 0.0) as lock:
        assert ends_orphans == [lock.fd]


def test_orphans_are_ended_once(
    run_dir: str, ends_orphans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that cannot be killed (it waits for a disk) does not keep who waits for ever."""
    monkeypatch.setattr(locks, "_END_SECONDS", 0.0)
    with Lock(run_dir, "a"), pytest.raises(CniError) as caught, Lock(run_dir, "a", 0.0):
        pass
    assert caught.value.code == TRY_AGAIN
    assert len(ends_orphans) == 1


def test_who_does_not_wait_for_long_ends_nobody(
    run_dir: str, ends_orphans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ORPHANS_SECONDS", 0.01)
    with Lock(run_dir, "a"), pytest.raises(CniError), Lock(run_dir, "a", 0.009):
        pass
    assert ends_orphans == []


def test_directory_that_others_may_write_to_is_refused(run_dir: str) -> None:
    os.mkdir(run_dir)
    os.chmod(run_dir, 0o777)
    with pytest.raises(CniError, match="not trusted"), Lock(run_dir, "a", 0.0):
        pass


@pytest.fixture
def swapped(run_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run directory will be swapped for a link to this one, right after we have looked."""
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (target / "a.lock").touch(mode=0o600)
    plain = locks.open_run_dir

    def then_swap(path: str, create: bool = False) -> int:
        fd = plain(path, create)
        Path(run_dir).rename(tmp_path / "before")
        Path(run_dir).symlink_to(target)
        return fd

    monkeypatch.setattr(locks, "open_run_dir", then_swap)
    return target


def test_lock_does_not_follow_a_swapped_directory(run_dir: str, swapped: Path) -> None:
    """It is not the lock that others will find: it is taken again, and refused."""
    with pytest.raises(CniError, match="symbolic link") as caught, Lock(run_dir, "a", DEADLINE):
        pass
    assert caught.value.code == IO
    with open(swapped / "a.lock", encoding="ascii") as untouched:
        fcntl.flock(untouched, fcntl.LOCK_EX | fcntl.LOCK_NB)


def spoil_mode(run_dir: Path) -> None:
    run_dir.chmod(0o770)


def put_a_link_there(run_dir: Path) -> None:
    run_dir.rename(run_dir.with_name("before"))
    make_private(str(run_dir.with_name("other")))
    run_dir.symlink_to("other")


def put_anothers_there(run_dir: Path) -> None:
    run_dir.rename(run_dir.with_name("before"))
    run_dir.mkdir(mode=0o700)
    os.chown(run_dir, 1234, 1234)


@pytest.mark.needs_root
@pytest.mark.parametrize("spoil", [spoil_mode, put_a_link_there, put_anothers_there])
def test_directory_that_was_trusted_once_is_looked_at_again(
    run_dir: str, spoil: Callable[[Path], None]
) -> None:
    with Lock(run_dir, "a"):
        pass
    spoil(Path(run_dir))
    for _ in range(2):
        with pytest.raises(CniError, match="not trusted"), Lock(run_dir, "b"):
            pass


def test_directory_that_is_replaced_while_many_are_taken(run_dir: str) -> None:
    """A lock is where the next one looks for it, and not in what was open."""
    directory = kept_open(run_dir)
    Path(run_dir).rename(f"{run_dir}.before")
    for name in ("a", "b"):
        with Lock(run_dir, name, 0.0, directory) as lock:
            assert lock.is_named()
    assert sorted(os.listdir(run_dir)) == ["a.lock", "b.lock"]


def test_lock_that_nobody_inherited_is_free_once_it_is_dropped(run_dir: str) -> None:
    Lock(run_dir, "a", 0.0).__enter__().drop()
    with Lock(run_dir, "a", 0.0):
        pass


def test_directory_that_was_removed_meanwhile_is_made_again(run_dir: str) -> None:
    with Lock(run_dir, "a") as lock:
        lock.forget()
    os.rmdir(run_dir)
    with Lock(run_dir, "a"):
        assert os.listdir(run_dir) == ["a.lock"]


def test_locks_of_many_directories_keep_one_open(tmp_path: Path) -> None:
    def take(name: str) -> int:
        with Lock(str(tmp_path / name), "a"):
            pass
        return len(os.listdir("/proc/self/fd"))

    assert len({take(name) for name in "xyzxy"}) == 1


def test_who_asks_for_a_lock_does_not_follow_a_swapped_directory(
    run_dir: str, swapped: Path
) -> None:
    make_private(run_dir)
    with open(swapped / "a.lock", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not locks.is_held(run_dir, "a")


@pytest.mark.parametrize("mode", [0o777, 0o775], ids=oct)
def test_directory_below_one_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public").chmod(mode)
    run_dir = str(tmp_path / "public" / "run")
    for _ in range(2):
        with (
            pytest.raises(CniError, match=f"below {tmp_path}/public") as caught,
            Lock(run_dir, "a"),
        ):
            pass
        assert caught.value.code == IO
        assert not os.path.exists(run_dir)
    make_private(str(tmp_path / "private"))
    os.rename(tmp_path / "private", run_dir)
    with pytest.raises(CniError, match="not trusted"):
        locks.is_held(run_dir, "a")


def test_waiter_on_a_forgotten_lock_opens_the_new_one(run_dir: str) -> None:
    path = Path(run_dir, "a.lock")
    heard, said = os.pipe()

    def work() -> None:
        with Lock(run_dir, "a", DEADLINE) as mine:
            os.write(said, b"x")
            assert os.fstat(mine.fd).st_ino == path.stat().st_ino

    with child(work) as go:
        with Lock(run_dir, "a") as first:
            go()
            eventually(lambda: is_open_elsewhere(run_dir, "a"))
            first.forget()
            second = Lock(run_dir, "a", 0.0)  # finds no file and makes another
            second.__enter__()
        # The waiter has the first file's lock now; it must see that this is worth nothing.
        eventually(lambda: is_open_elsewhere(run_dir, "a", path.stat().st_ino))
        assert select.select([heard], [], [], 0) == ([], [], [])
        second.__exit__(None, None, None)
        assert word(heard) == b"x"
    os.close(heard)
    os.close(said)


def test_forgetting_leaves_no_file_and_may_come_twice(run_dir: str) -> None:
    with Lock(run_dir, "a") as lock:
        lock.forget()
        lock.forget()
    assert os.listdir(run_dir) == []


def test_a_lock_is_no_more_where_its_name_leads_elsewhere(run_dir: str) -> None:
    path = Path(run_dir, "a.lock")
    with Lock(run_dir, "a") as lock:
        assert lock.is_named()
        path.rename(path.with_name("b.lock"))
        assert not lock.is_named()
        path.symlink_to("b.lock")  # which nobody follows
        assert not lock.is_named()


def test_names_are_those_of_the_locks_that_were_taken(run_dir: str) -> None:
    with pytest.raises(FileNotFoundError):
        locks.names_in(run_dir)
    with Lock(run_dir, "a"), Lock(run_dir, ".lock.b"):
        Path(run_dir, "a.deleting").touch()
        assert sorted(locks.names_in(run_dir)) == [".lock.b", "a"]


def test_never_two_holders(run_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many processes lock, some forget: whoever is inside is alone."""
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.0002)
    inside = str(tmp_path / "inside")

    def work(forgets: int) -> None:
        for turn in range(60):
            with Lock(run_dir, "a", DEADLINE) as lock:
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                until = time.monotonic() + 0.001
                while time.monotonic() < until:
                    os.sched_yield()  # let the others try
                os.unlink(inside)
                if turn % forgets == 0:
                    lock.forget()

    pids = []
    for forgets in (1, 2, 3, 100, 100):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(forgets)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [exit_status(pid) for pid in pids] == [0] * len(pids)


def test_what_was_noted_is_told_to_the_next_and_not_forgotten_meanwhile(run_dir: str) -> None:
    with Lock(run_dir, "a") as lock:
        assert not lock.is_unfinished
        lock.note_unfinished(True)
        assert lock.is_unfinished
        lock.forget()
        assert os.listdir(run_dir) == ["a.lock"]  # … and killed
    with Lock(run_dir, "a") as lock:
        assert lock.is_unfinished
        lock.forget()
        assert os.listdir(run_dir) == ["a.lock"]
        lock.note_unfinished(False)
    with Lock(run_dir, "a") as lock:
        assert not lock.is_unfinished
        lock.forget()
    assert os.listdir(run_dir) == []


def test_symlink_in_the_locks_place_is_refused(run_dir: str, tmp_path: Path) -> None:
    make_private(run_dir)
    Path(run_dir, "a.lock").symlink_to(tmp_path / "target")
    with pytest.raises(CniError) as caught, Lock(run_dir, "a", 0.0):
        pass
    assert caught.value.code == IO
    assert not (tmp_path / "target").exists()


def test_who_asks_is_told_of_a_lock_that_cannot_be_looked_at(run_dir: str) -> None:
    make_private(run_dir)
    Path(run_dir, "a.lock").symlink_to("b.lock")
    with pytest.raises(CniError) as caught:
        locks.is_held(run_dir, "a")
    assert caught.value.code == IO
    assert caught.value.msg == f"cannot look at {run_dir}/a.lock"
    assert caught.value.details == os.strerror(errno.ELOOP)


def test_run_dir_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CniError) as caught, Lock(str(tmp_path / "file/run"), "a"):
        pass
    assert caught.value.code == IO
    assert caught.value.msg == f"cannot make a lock in {tmp_path}/file/run"
    why = f"{os.strerror(errno.ENOTDIR)}; move away what is in the place of a directory"
    assert caught.value.details == f"{why} (ls -ld {tmp_path}/file/run)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{'c4719afa' * 8}@eth0", "another cni-repair is at work on c4719afac471 eth0"),
        (PARENTS, "another cni-repair is at work on the node's links"),
        ("upgrade", "another cni-repair is at work on upgrade"),
    ],
)
def test_what_is_locked_is_said_in_half_a_line(tmp_path: Path, name: str, said: str) -> None:
    run_dir = str(tmp_path / "run")
    with Lock(run_dir, name), pytest.raises(CniError) as caught, Lock(run_dir, name, 0.0):
        pass
    assert caught.value.msg == said
    assert f"/{name}.lock" in caught.value.details


def test_lock_files_are_private(run_dir: str, umask: None) -> None:
    os.umask(0)
    with Lock(run_dir, "a"):
        assert Path(run_dir).stat().st_mode & 0o777 == 0o700
        assert Path(run_dir, "a.lock").stat().st_mode & 0o777 == 0o600


# --- attachments that are no more ---


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[tuple[Store, Entry]]:
    """An attachment that was read, and whose DEL has ended since."""
    with Store(str(tmp_path / "checkpoints"), create=True) as store:
        store.commit(KEY, encode_checked(CHECKPOINT))
        entry = inventory.read_one(store, KEY, None)
        assert entry is not None
        store.tombstone(KEY)
        store.remove(KEY)
        yield store, entry


def test_a_repair_that_comes_too_late_leaves_no_lock(
    run_dir: str, gone: tuple[Store, Entry]
) -> None:
    store, entry = gone
    with pytest.raises(RecordChanged), AttachmentLock(store, entry, None, run_dir, 0.0):
        pass
    assert os.listdir(run_dir) == []


def test_a_refresh_that_comes_too_late_leaves_no_lock(
    run_dir: str, gone: tuple[Store, Entry]
) -> None:
    store, entry = gone
    with Node() as node:
        assert not refresh(node, store, run_dir, entry)
    assert os.listdir(run_dir) == []


def test_a_forgetting_that_comes_too_late_leaves_no_lock(
    run_dir: str, gone: tuple[Store, Entry]
) -> None:
    store, entry = gone
    forget(store, entry, run_dir, None)
    assert os.listdir(run_dir) == []


def test_to_ask_is_not_to_hold(run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher asks every second, and `upgrade --status` at the same moment."""
    monkeypatch.setattr(lock, "RUN_DIR", run_dir)
    assert not lock.is_at_work()
    with lock.exclusive():
        assert lock.is_at_work()
    with open(locks.path_of(run_dir, "upgrade"), encoding="ascii") as asker:
        fcntl.flock(asker, fcntl.LOCK_SH)
        assert not lock.is_at_work()
