"""The watcher's status as it is written and read, and who is the node's watcher."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.errors import CniError
from cni_repair.base.procfs import boot_id
from cni_repair.watch import rundir
from cni_repair.watch.status import (
    DEAD,
    HUNG,
    HUNG_SECONDS,
    NAME,
    NONE,
    RUNNING,
    WRITE_SECONDS,
    NotFirst,
    Status,
    first_watcher,
    is_running,
    read_status,
    write_status,
)
from tests.outputs import mistakes_in, schema
from tests.processes import ended
from tests.unit.samples import REPOSITORY
from tests.unit.watching import STATUS


def put(run_dir: str, **changes: Any) -> None:
    """A status as another process, at another time, would have written it."""
    write_status(run_dir, STATUS)
    path = Path(run_dir, NAME)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_status_is_read_as_it_was_written(run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
        found = read_status(run_dir)
    assert found.name == RUNNING
    assert found.document is not None
    assert {key: found.document[key] for key in STATUS} == STATUS
    assert 0 <= found.seconds_old < WRITE_SECONDS
    assert os.stat(f"{run_dir}/{NAME}").st_mode & 0o777 == 0o600
    assert mistakes_in(found.document, "watch-status.json") == []


def test_the_schema_has_the_keys_of_the_daemon() -> None:
    published = schema("watch-status.json")
    of_file = {"schemaVersion", "bootId", "updated"}
    assert {*Status.__annotations__, *of_file} == {*published["properties"]}
    assert {*published["required"]} == {*Status.__required_keys__, *of_file}


def test_there_is_none(run_dir: str) -> None:
    found = read_status(run_dir)
    assert (found.name, found.document) == (NONE, None)
    assert not os.path.exists(run_dir)  # to ask leaves nothing behind


def test_one_that_just_began(run_dir: str) -> None:
    with first_watcher(run_dir):
        found = read_status(run_dir)
    assert (found.name, found.document) == (RUNNING, None)


def test_one_that_died(run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
    found = read_status(run_dir)
    assert found.name == DEAD
    assert found.document is not None


def test_one_that_hangs(run_dir: str) -> None:
    with first_watcher(run_dir):
        put(run_dir, updated=rundir.boot_time() - HUNG_SECONDS - 1)
        found = read_status(run_dir)
    assert found.name == HUNG
    assert found.seconds_old > HUNG_SECONDS


def test_one_of_an_earlier_boot(run_dir: str) -> None:
    put(run_dir, bootId="0f1f")
    assert read_status(run_dir).name == NONE
    with first_watcher(run_dir):
        found = read_status(run_dir)
    assert (found.name, found.document) == (RUNNING, None)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bootId": 1, "bootId": 2}'])
def test_a_torn_status_is_told(run_dir: str, content: str) -> None:
    put(run_dir)
    Path(run_dir, NAME).write_text(content)
    with pytest.raises(CniError) as caught:
        read_status(run_dir)
    assert f"{run_dir}/{NAME}" in str(caught.value)


def test_a_status_of_another_version_is_told(run_dir: str) -> None:
    put(run_dir, schemaVersion=2)
    with pytest.raises(CniError) as caught:
        read_status(run_dir)
    assert "is of another version of cni-repair" in str(caught.value)
    assert "systemctl restart cni-repair-watch" in str(caught.value)


@pytest.mark.parametrize("key", [*sorted(Status.__required_keys__), "updated"])
def test_a_status_that_lacks_a_key_is_of_another_version(run_dir: str, key: str) -> None:
    put(run_dir)
    path = Path(run_dir, NAME)
    document = json.loads(path.read_text())
    del document[key]
    path.write_text(json.dumps(document))
    with pytest.raises(CniError) as caught:
        read_status(run_dir)
    assert "is of another version" in str(caught.value)


def test_a_status_of_a_watcher_that_knew_no_cluster(run_dir: str) -> None:
    """During a rolling update a version before this one may still run."""
    put(run_dir)
    path = Path(run_dir, NAME)
    document = json.loads(path.read_text())
    del document["kubernetes"]
    path.write_text(json.dumps(document))
    assert read_status(run_dir).document == document
    assert mistakes_in(document, "watch-status.json") == []


@pytest.mark.parametrize("key", ["updated", "attachments", "masters", "heals", "kubernetes"])
def test_a_status_with_a_value_of_another_kind(run_dir: str, key: str) -> None:
    put(run_dir, **{key: "x"})
    with pytest.raises(CniError) as caught:
        read_status(run_dir)
    assert "is of another version" in str(caught.value)


def test_a_run_directory_of_others_is_not_used(run_dir: str) -> None:
    put(run_dir)
    os.chmod(run_dir, 0o777)
    for work in (read_status, lambda where: write_status(where, STATUS)):
        with pytest.raises(CniError) as caught:
            work(run_dir)
        assert "is not trusted" in str(caught.value)
    with pytest.raises(CniError) as caught, first_watcher(run_dir):
        pass
    assert "is not trusted" in str(caught.value)


@contextlib.contextmanager
def another(run_dir: str, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, once it has begun; it knows `run_dir`, and our tests."""
    before = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); run_dir = {run_dir!r}\n"
    command = [sys.executable, "-c", before + program]
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdin=pipe, stdout=pipe)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process


def test_a_reader_never_sees_a_part(run_dir: str) -> None:
    """However often it is written meanwhile."""
    write_status(run_dir, STATUS)
    program = (
        "from cni_repair.watch.status import write_status\n"
        "from tests.unit.watching import STATUS\n"
        "print('begun', flush=True)\n"
        "for number in range(300): write_status(run_dir, {**STATUS, 'armed': number})\n"
    )
    with another(run_dir, program) as writer:
        while writer.poll() is None:
            found = read_status(run_dir)
            assert found.document is not None
            assert mistakes_in(found.document, "watch-status.json") == []
    assert writer.returncode == 0
    last = read_status(run_dir).document
    assert last is not None
    assert last["armed"] == 299


# --- the first watcher --------------------------------------------------------------------------


@pytest.fixture
def watcher(run_dir: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is the node's watcher until its stdin ends."""
    program = (
        "from cni_repair.watch.status import first_watcher\n"
        "with first_watcher(run_dir): print('begun', flush=True); sys.stdin.read()\n"
    )
    with another(run_dir, program) as process:
        yield process
        process.kill()


def test_the_second_says_who_is_first(run_dir: str, watcher: subprocess.Popen[bytes]) -> None:
    assert is_running(run_dir)
    put(run_dir, pid=watcher.pid)
    with pytest.raises(NotFirst) as caught, first_watcher(run_dir):
        pass
    assert f"another watcher is at work on this node (PID {watcher.pid})" in str(caught.value)
    assert "cni-repair watch --status shows it" in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", json.dumps({"bootId": boot_id(), "pid": "x"})])
def test_the_second_is_told_whatever_the_status_says(
    run_dir: str, watcher: subprocess.Popen[bytes], content: str | None
) -> None:
    if content is not None:
        Path(run_dir, NAME).write_text(content)
        os.chmod(f"{run_dir}/{NAME}", 0o600)
    with pytest.raises(NotFirst) as caught, first_watcher(run_dir):
        pass
    assert str(caught.value).startswith("another watcher is at work on this node: ")


def test_a_killed_one_is_first_no_more(run_dir: str, watcher: subprocess.Popen[bytes]) -> None:
    watcher.kill()
    watcher.wait()
    assert not is_running(run_dir)
    with first_watcher(run_dir):
        assert is_running(run_dir)


def test_to_ask_takes_nobodys_place(run_dir: str) -> None:
    """A `--status` at the moment of its start must not turn a watcher away."""
    with first_watcher(run_dir):
        pass
    program = (
        "import time\n"
        "from cni_repair.watch.status import is_running\n"
        "print('begun', flush=True)\n"
        "while True: is_running(run_dir); time.sleep(0.002)\n"
    )
    with another(run_dir, program) as asker:
        try:
            for _ in range(20):
                with first_watcher(run_dir):
                    pass
        finally:
            asker.kill()
