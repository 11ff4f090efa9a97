"""A pause of the watcher: asked for, prolonged, ended, and what is no pause (any more)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.errors import CniError
from cni_repair.base.procfs import boot_id
from cni_repair.watch import rundir
from cni_repair.watch.pausing import NAME, AlreadyPaused, Pause, pause, read_pause, resume


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    return str(directory)


def put(run_dir: str, content: Any) -> Path:
    """A pause's file with something else in it."""
    path = Path(run_dir, NAME)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return path


def document(**changes: Any) -> dict[str, Any]:
    until = rundir.boot_time() + 600
    return {"bootId": boot_id(), "until": until, "by": "bob", "reason": "x", **changes}


def test_a_pause_is_in_force_until_its_end(run_dir: str) -> None:
    assert read_pause(run_dir) is None
    before = rundir.boot_time()
    assert pause(run_dir, 600.0, "bob", "new cable") is None
    found = read_pause(run_dir)
    assert found is not None
    assert (found.by, found.reason) == ("bob", "new cable")
    assert before + 600 <= found.until <= rundir.boot_time() + 600
    assert os.stat(f"{run_dir}/{NAME}").st_mode & 0o777 == 0o600


def test_words_say_who_for_how_long_and_why() -> None:
    found = Pause(4000.0, "bob", "new cable")
    assert found.words(400.0) == "paused by bob for another 1h: new cable"
    assert found.words(3910.0) == "paused by bob for another 1m 30s: new cable"
    assert (found.seconds_left(3000.0), found.seconds_left(5000.0)) == (1000.0, 0.0)


def test_it_ends_by_itself(run_dir: str) -> None:
    put(run_dir, document(until=rundir.boot_time() - 0.001))
    assert read_pause(run_dir) is None


def test_a_pause_of_an_earlier_boot_is_none(run_dir: str) -> None:
    put(run_dir, document(bootId="0f1f..."))
    assert read_pause(run_dir) is None
    assert resume(run_dir) is None


def test_resume_ends_it(run_dir: str) -> None:
    pause(run_dir, 600.0, "bob", "new cable")
    ended = resume(run_dir)
    assert ended is not None
    assert ended.by == "bob"
    assert read_pause(run_dir) is None
    assert resume(run_dir) is None


def test_a_longer_one_prolongs_it(run_dir: str) -> None:
    pause(run_dir, 600.0, "bob", "new cable")
    before = pause(run_dir, 1200.0, "eve", "old cable, too")
    found = read_pause(run_dir)
    assert before is not None
    assert found is not None
    assert (before.by, found.by, found.reason) == ("bob", "eve", "old cable, too")


def test_a_shorter_one_does_not_cut_it_short(run_dir: str) -> None:
    pause(run_dir, 600.0, "bob", "new cable")
    with pytest.raises(AlreadyPaused) as caught:
        pause(run_dir, 60.0, "eve", "a minute")
    assert "paused by bob for another 10m: new cable" in str(caught.value)
    assert "--resume" in str(caught.value)
    found = read_pause(run_dir)
    assert found is not None
    assert found.by == "bob"


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '{"a": 1, "a": 2}', "x" * 100,
        document(until="600"), document(until=True), document(until=None), document(by=5),
        document(reason=None), {"bootId": boot_id()},
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_a_torn_or_strange_file_is_told_and_put_right(run_dir: str, content: Any) -> None:
    path = put(run_dir, content)
    with pytest.raises(CniError) as caught:
        read_pause(run_dir)
    assert str(path) in str(caught.value)
    assert pause(run_dir, 600.0, "bob", "new cable") is None
    assert read_pause(run_dir) is not None
    put(run_dir, content)
    assert resume(run_dir) is None
    assert read_pause(run_dir) is None


@pytest.mark.parametrize("mode", [0o602, 0o620])
def test_a_file_that_others_may_write_to_is_no_pause(run_dir: str, mode: int) -> None:
    put(run_dir, document()).chmod(mode)
    with pytest.raises(CniError) as caught:
        read_pause(run_dir)
    assert "others may write to it" in str(caught.value)


def test_a_link_is_not_followed(run_dir: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps(document()))
    Path(run_dir, NAME).symlink_to(elsewhere)
    with pytest.raises(CniError):
        read_pause(run_dir)
    pause(run_dir, 600.0, "bob", "new cable")
    assert not Path(run_dir, NAME).is_symlink()
    assert json.loads(elsewhere.read_text())["by"] == "bob"


def test_a_run_directory_of_others_is_not_used(run_dir: str) -> None:
    put(run_dir, document())
    os.chmod(run_dir, 0o777)
    for work in (read_pause, resume, lambda where: pause(where, 60.0, "bob", "x")):
        with pytest.raises(CniError) as caught:
            work(run_dir)
        assert f"run directory {run_dir} is not trusted" in str(caught.value)
        assert "others may write to it" in str(caught.value)


def test_a_run_directory_below_one_of_others_is_not_used(tmp_path: Path) -> None:
    """Nor is a file of that name removed where such a path leads."""
    (tmp_path / "public").mkdir()
    run_dir = str(tmp_path / "public" / "run")
    os.mkdir(run_dir, 0o700)
    put(run_dir, document())
    os.chmod(tmp_path / "public", 0o777)
    for work in (read_pause, resume, lambda where: pause(where, 60.0, "bob", "x")):
        with pytest.raises(CniError) as caught:
            work(run_dir)
        assert f"it is below {tmp_path}/public: others may write to it" in str(caught.value)
    assert os.listdir(run_dir) == [NAME]


def test_a_run_directory_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("")
    for work in (read_pause, resume, lambda where: pause(where, 60.0, "bob", "x")):
        with pytest.raises(CniError) as caught:
            work(str(path))
        assert str(path) in str(caught.value)


def test_a_run_directory_is_made_where_there_is_none(tmp_path: Path) -> None:
    run_dir = str(tmp_path / "a" / "run")
    assert read_pause(run_dir) is None
    pause(run_dir, 600.0, "bob", "x")
    assert read_pause(run_dir) is not None
    assert os.stat(run_dir).st_mode & 0o777 == 0o700


def test_what_a_killed_one_left_is_in_nobodys_way(run_dir: str) -> None:
    Path(run_dir, f".{NAME}.tmp").write_text("{")
    pause(run_dir, 600.0, "bob", "x")
    assert sorted(os.listdir(run_dir)) == ["watch.pause", "watch.pause.lock"]
