"""The upgrade's journal on disk: whole, torn, full, of others."""

from __future__ import annotations

import errno
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.errors import CniError
from cni_repair.upgrade import journal as journals
from cni_repair.upgrade.journal import Journal, Reader
from cni_repair.upgrade.progress import progress_of
from cni_repair.upgrade.times import clock

Event = dict[str, Any]
BEGIN: Event = {"plan": {}, "planFile": "plan.yaml", "options": {}, "bootId": "boot", "pid": 7}


def word(text: str) -> Event:
    return {"event": "word", "text": text}


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """With an upgrade's beginning in it."""
    path = str(tmp_path / "state")
    journals.begin(path, BEGIN)[0].close()
    return path


def append(directory: str, *texts: str) -> None:
    with journals.go_on(directory) as journal:
        for text in texts:
            journal.append(word(text))
        assert not journal.trouble


def words(directory: str) -> list[str]:
    return [event["text"] for event in journals.read(directory) if event["event"] == "word"]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    directory = str(tmp_path / "var" / "state")
    assert journals.read(directory) == []
    before = time.time()
    journal, begun = journals.begin(directory, BEGIN)
    with journal:
        further = journal.append(word("a\nb é \U0001f600"))
        last = journal.commit({"event": "end", "status": 0})
    assert journals.read(directory) == [begun, further, last]
    times = {"at": begun["at"], "when": clock(begun["at"])}
    assert begun == {**times, "event": "begin", "version": 1, **BEGIN}
    assert before - 0.001 <= begun["at"] <= last["at"] <= time.time() + 0.001  # it is rounded
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.stat(f"{directory}/journal").st_mode & 0o777 == 0o600


def test_new_upgrade_puts_the_last_ones_aside(directory: str) -> None:
    append(directory, "old")
    journals.begin(directory, BEGIN)[0].close()
    assert words(directory) == []
    assert '"old"' in Path(f"{directory}/journal.last").read_text()
    assert sorted(os.listdir(directory)) == ["journal", "journal.last"]


def test_start_that_was_killed_leaves_the_last_ones(directory: str) -> None:
    append(directory, "old")
    Path(f"{directory}/journal.new").write_text("half")
    assert words(directory) == ["old"]
    journals.begin(directory, BEGIN)[0].close()
    assert words(directory) == []


@given(st.binary(max_size=40))
def test_torn_line_ends_nothing_but_itself(tail: bytes) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        journals.begin(directory, BEGIN)[0].close()
        append(directory, "before")
        with open(f"{directory}/journal", "ab") as file:
            file.write(tail)
        assert words(directory) == ["before"]
        append(directory, "after")
        append(directory, "and again")
        assert words(directory) == ["before", "after", "and again"]


@given(st.lists(st.binary(max_size=60)))
def test_garbage_holds_no_event(lines: list[bytes]) -> None:
    assert list(journals.events_in(lines)) == []


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"word","text":"no time"}',
        b'{"at":1,"event":"word"}',
        b'{"at":1,"event":"nonsense"}',
        b'{"at":1,"event":["word"]}',
        b'{"at":1,"event":"done","phase":"repair","ok":true,"words":""}',
        b'{"at":1,"event":"word","text":"twice","text":"twice"}',
        b'[{"at":1,"event":"word","text":"in a list"}]',
    ],
)
def test_line_that_lacks_something_is_no_event(line: bytes) -> None:
    assert list(journals.events_in([line])) == []


def test_line_about_thousands_of_pods(directory: str) -> None:
    text = "x" * (9 << 20)
    append(directory, text)
    assert words(directory) == [text]


# --- disks ---------------------------------------------------------------------------------------


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may grow beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_remembered_and_goes_by(directory: str) -> None:
    """The last line is torn where the disk was full; what comes later is whole again."""
    journal = journals.go_on(directory)
    journal.append(word("before"))
    with full_after(os.stat(f"{directory}/journal").st_size + 20):
        journal.append(word("cut"))
    assert journal.trouble
    journal.append(word("after"))
    assert journal.trouble  # something is missing, and that is said at the end
    journal.close()
    assert words(directory) == ["before", "after"]


def test_what_must_be_noted_is_noted_or_refused(directory: str) -> None:
    journal = journals.go_on(directory)
    with (
        full_after(os.stat(f"{directory}/journal").st_size + 20),
        pytest.raises(CniError, match="cannot write the upgrade's journal"),
    ):
        journal.commit(word("missing"))
    journal.commit(word("whole"))
    journal.close()
    assert words(directory) == ["whole"]


def test_no_space_at_all() -> None:
    journal = Journal(os.open("/dev/full", os.O_WRONLY))
    event = journal.append(word("x"))
    assert event["text"] == "x"
    assert journal.trouble == os.strerror(errno.ENOSPC)
    journal.close()


def test_beginning_that_cannot_be_written_is_none(tmp_path: Path, directory: str) -> None:
    append(directory, "old")
    with full_after(5), pytest.raises(CniError):
        journals.begin(directory, BEGIN)
    assert words(directory) == ["old"]
    (tmp_path / "file").touch()
    with pytest.raises(CniError, match=f"cannot keep a journal in {tmp_path}/file"):
        journals.begin(str(tmp_path / "file"), BEGIN)


def test_journal_that_cannot_be_gone_on_with(tmp_path: Path) -> None:
    with journals.go_on(str(tmp_path / "missing")) as journal:
        assert journal.trouble == os.strerror(errno.ENOENT)
        assert journal.append(word("x"))["text"] == "x"
        with pytest.raises(CniError, match=os.strerror(errno.ENOENT)):
            journal.commit(word("x"))
        assert journal.trouble == os.strerror(errno.ENOENT)


# --- whom to trust -------------------------------------------------------------------------------


def refused(directory: str, why: str) -> None:
    with pytest.raises(CniError, match="journal is not used") as caught:
        journals.read(directory)
    assert why in caught.value.details


@pytest.mark.needs_root
def test_journals_of_others_are_not_used(directory: str, tmp_path: Path) -> None:
    path = Path(f"{directory}/journal")
    path.chmod(0o620)
    refused(directory, "others may write to it")
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    refused(directory, "not to uid 0")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(directory, "cannot open it")
    path.unlink()
    path.mkdir()
    refused(directory, "not a regular file")
    path.rmdir()
    os.mkfifo(path, 0o600)
    refused(directory, "not a regular file")


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "phase", "phase": ["driver"]},
        {"event": "phase", "phase": "driver", "at": "now"},
        {"event": "done", "phase": "driver", "ok": "yes", "words": "", "data": {}},
        {"event": "done", "phase": "driver", "ok": True, "words": "", "data": None},
        {"event": "lost", "link": {}},
        {"event": "resume", "bootId": 5, "pid": 5},
        {"event": ["phase"]},
    ],
    ids=str,
)
def test_line_of_an_event_with_a_value_of_another_type_is_none(wrong: dict[str, object]) -> None:
    lines = [json.dumps({"at": 1.0, **wrong}).encode()]
    assert list(journals.events_in(lines)) == []


def test_phase_that_no_version_has_undoes_nothing() -> None:
    event = {"event": "phase", "at": 1.0, "phase": "unheard-of"}
    assert progress_of(journals.events_in([json.dumps(event).encode()])).done == {}


def test_journal_of_another_version(directory: str) -> None:
    path = Path(f"{directory}/journal")
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    refused(
        directory,
        "end that upgrade with the version that began it (upgrade --release), then move the file"
        " away",
    )


# --- following -----------------------------------------------------------------------------------


def test_followed_as_it_grows(directory: str) -> None:
    reader = Reader(directory)
    assert [event["event"] for event in reader.fresh()] == ["begin"]
    assert reader.fresh() == []
    append(directory, "one", "two")
    assert [event["text"] for event in reader.fresh()] == ["one", "two"]
    with open(f"{directory}/journal", "a") as file:
        file.write('{"at":1,"event":"word",')
        file.flush()
        assert reader.fresh() == []
        file.write('"text":"three"}\n')
    assert [event["text"] for event in reader.fresh()] == ["three"]
    journals.begin(directory, BEGIN)[0].close()
    assert [event["event"] for event in reader.fresh()] == ["begin"]


def test_followed_before_it_is_there(tmp_path: Path) -> None:
    reader = Reader(str(tmp_path))
    assert reader.fresh() == []
    journals.begin(str(tmp_path), BEGIN)[0].close()
    assert [event["event"] for event in reader.fresh()] == ["begin"]


def test_journal_below_a_directory_of_others_is_not_used(tmp_path: Path) -> None:
    """A resume runs the commands that it finds there."""
    public = tmp_path / "public"
    directory = str(public / "state")
    public.mkdir()
    journals.begin(directory, BEGIN)[0].close()
    public.chmod(0o777)
    why = f"it is below {public}: others may write to it"
    for work in (journals.read, lambda where: journals.begin(where, BEGIN)):
        with pytest.raises(CniError) as caught:
            work(directory)
        assert why in str(caught.value)
    with journals.go_on(directory) as journal:
        assert why in journal.trouble
    assert os.listdir(directory) == ["journal"]
