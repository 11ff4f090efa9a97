"""The proof `power cut`: logs of writes, the cuts that they allow, and broken promises."""

from __future__ import annotations

import base64
import itertools
import struct
from pathlib import Path

import pytest

from cni_repair.checkpoint.store import Store
from integration.trust.power.cuts import Cut, cuts, epochs
from integration.trust.power.promises import Promises
from integration.trust.power.workload import Step
from integration.trust.power.writelog import (
    SECTOR,
    Event,
    Flush,
    LogError,
    Mark,
    Write,
    mark,
    read_log,
)

_FLUSH, _FUA, _DISCARD = 1, 2, 4
_MARKS_AT = 1 << 20


# --- the log --------------------------------------------------------------------------------------


def log_of(*requests: tuple[int, bytes, int], rest: int = 0) -> bytes:
    """As QEMU writes it: of each request where, what, and its flags."""
    log = struct.pack("<QQQI", 0x6A736677736872, 1, len(requests), SECTOR).ljust(SECTOR, b"\0")
    for offset, data, flags in requests:
        header = struct.pack("<QQQQ", offset // SECTOR, len(data) // SECTOR, flags, 0)
        log += header.ljust(SECTOR, b"\0") + (b"" if flags & _DISCARD else data)
    return log + bytes(rest)


def events(tmp_path: Path, log: bytes) -> list[Event]:
    file = tmp_path / "log"
    file.write_bytes(log)
    return list(read_log(file, _MARKS_AT))


def test_writes_flushes_and_marks_in_their_order(tmp_path: Path) -> None:
    data = b"a" * SECTOR
    log = log_of(
        (2 * SECTOR, data, 0), (0, b"", _FLUSH), (_MARKS_AT, mark({"begun": 1}), 0), (0, data, _FUA)
    )
    assert events(tmp_path, log) == [
        Write(2 * SECTOR, data),
        Flush(),
        Mark({"begun": 1}),
        Write(0, data, durable=True),
    ]


def test_the_flush_of_a_write_comes_before_it(tmp_path: Path) -> None:
    data = b"a" * SECTOR
    log = log_of((0, data, _FLUSH | _FUA))
    assert events(tmp_path, log) == [Flush(), Write(0, data, durable=True)]


def test_a_discard_has_no_data(tmp_path: Path) -> None:
    log = log_of((0, bytes(8 * SECTOR), _DISCARD), (0, b"", _FLUSH))
    assert events(tmp_path, log) == [Flush()]


def test_the_log_ends_where_nobody_has_written(tmp_path: Path) -> None:
    assert events(tmp_path, log_of((0, b"", _FLUSH), rest=4 * SECTOR)) == [Flush()]


@pytest.mark.parametrize("log", [b"", b"x", bytes(SECTOR)])
def test_what_is_no_log(tmp_path: Path, log: bytes) -> None:
    with pytest.raises(LogError, match="not a log of writes"):
        events(tmp_path, log)


# --- cuts -----------------------------------------------------------------------------------------


A, B, C = (Write(number * SECTOR, bytes([number]) * SECTOR) for number in (1, 2, 3))
DONE = Mark({"done": 0})


def all_cuts(*happened: Event) -> dict[str, Cut]:
    found = {}
    marks: list[dict[str, object]] = []
    for epoch in epochs(happened):
        found.update({cut.name: cut for cut in cuts(epoch, marks)})
        marks += [event.document for event in epoch.events if isinstance(event, Mark)]
    return found


def test_a_flush_makes_all_before_it_durable() -> None:
    before, after = epochs([A, B, Flush(), C])
    assert (before.durable, before.writes) == ([], [A, B])
    assert (after.durable, after.writes) == ([A, B], [C])


def test_flushes_of_nothing_begin_no_epoch_and_lose_no_mark() -> None:
    first, second = epochs([A, Flush(), DONE, Flush(), Flush(), B])
    assert second.durable == [A]
    assert second.events == [DONE, B]
    assert first.writes == [A]


def test_none_of_what_is_not_durable_lasts_while_all_was_promised() -> None:
    assert all_cuts(A, Flush(), B, DONE, C)["1/none"] == Cut("1/none", (), ({"done": 0},))


def test_a_beginning_lasts_with_what_was_promised_until_then() -> None:
    found = all_cuts(A, DONE, B)
    assert found["0/first-1"] == Cut("0/first-1", (A,), ())
    assert found["0/first-2"] == Cut("0/first-2", (A, B), ({"done": 0},))


def test_choices_take_some_writes_and_parts_of_writes() -> None:
    large = Write(7 * SECTOR, b"".join(bytes([number]) * SECTOR for number in range(16)))
    chosen = [cut for name, cut in all_cuts(*[A, B, C] * 8, large).items() if "choice" in name]
    kept = [len(cut.lasted) for cut in chosen]
    assert len({cut.lasted for cut in chosen}) > 1
    assert all(0 < count < 40 for count in kept)
    assert all(set(cut.lasted) <= {A, B, C, large, *_blocks(large)} for cut in chosen)


def _blocks(write: Write) -> list[Write]:
    """Of a write that begins a sector before a block does: that one, a block, and the rest."""
    borders = [0, SECTOR, 9 * SECTOR, 16 * SECTOR]
    return [
        Write(write.offset + start, write.data[start:stop])
        for start, stop in itertools.pairwise(borders)
    ]


def test_a_block_is_never_torn() -> None:
    block = Write(8 * SECTOR, bytes(8 * SECTOR))
    assert [name for name in all_cuts(block) if "choice" in name] == []


def test_what_bypassed_the_cache_always_lasts() -> None:
    durable = Write(0, b"d" * SECTOR, durable=True)
    assert all(
        durable in cut.lasted or "first-1" in name for name, cut in all_cuts(A, durable).items()
    )


# --- promises -------------------------------------------------------------------------------------

NAME = "pod1@eth0"
OLD, NEW = b'{"old": 1}', b'{"new": 1}'


def step(**files: bytes) -> Step:
    coded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    return Step("a call", {f"{name}@eth0.json": content for name, content in coded.items()})


def broken(tmp_path: Path, steps: list[Step], marks: str, **files: bytes) -> list[str]:
    """What is said of a directory with these files, but for what the reader says of samples."""
    tmp_path.chmod(0o700)
    for name, content in files.items():
        file = tmp_path / name.replace("_", ".").replace("pod1", NAME)
        file.write_bytes(content)
        file.chmod(0o600)
    documents = _documents(marks)
    with Store(str(tmp_path)) as store:
        said = list(Promises(steps, documents).broken(store))
    return [line for line in said if "cannot be read" not in line]


def test_an_acknowledged_record_must_be_there(tmp_path: Path) -> None:
    assert broken(tmp_path, [step(pod1=OLD)], "begun=0 done=0") == [f"{NAME}.json is gone"]


def test_nothing_is_promised_before_the_end(tmp_path: Path) -> None:
    assert broken(tmp_path, [step(pod1=OLD)], "begun=0") == []


@pytest.mark.parametrize("content", [OLD, NEW])
def test_a_call_at_work_leaves_the_old_or_the_new(tmp_path: Path, content: bytes) -> None:
    steps = [step(pod1=OLD), step(pod1=NEW)]
    assert broken(tmp_path, steps, "begun=0 done=0 begun=1", pod1_json=content) == []


def test_an_acknowledged_update_must_not_be_lost(tmp_path: Path) -> None:
    steps = [step(pod1=OLD), step(pod1=NEW)]
    (said,) = broken(tmp_path, steps, "begun=0 done=0 begun=1 done=1", pod1_json=OLD)
    assert "is not what was acknowledged" in said


def test_a_deleted_record_may_come_again_whole(tmp_path: Path) -> None:
    steps = [step(pod1=OLD), step()]
    assert broken(tmp_path, steps, "begun=0 done=0 begun=1 done=1", pod1_json=OLD) == []


@pytest.mark.parametrize("phase", ["json", "deleting", "intent"])
def test_nothing_torn(tmp_path: Path, phase: str) -> None:
    steps = [step(pod1=OLD), step()]
    found = broken(tmp_path, steps, "begun=0 done=0 begun=1", **{f"pod1_{phase}": OLD[:-1]})
    assert found == [f"{NAME}.{phase} is torn: 9 bytes, {OLD[:-1]!r}"]


def test_a_temporary_file_is_nothing_that_anybody_reads(tmp_path: Path) -> None:
    assert broken(tmp_path, [], "", **{"_pod1_json_tmp": b"{"}) == []


def test_what_nobody_has_written(tmp_path: Path) -> None:
    assert broken(tmp_path, [], "", what=b"") == ["what: nobody has written a file of that name"]


def test_no_directory_before_the_first_promise() -> None:
    assert list(Promises([step(pod1=OLD)], [{"begun": 0}]).broken(None)) == []
    assert list(Promises([step(pod1=OLD)], [{"done": 0}]).broken(None)) == [f"{NAME}.json is gone"]


def test_pods_of_which_the_runtime_still_knows() -> None:
    steps = [step(pod1=OLD), step(pod1=OLD, pod2=OLD), step(pod2=OLD)]
    at_work = {"": [], "begun=0": ["pod1"], "begun=0 done=0 begun=1": ["pod1", "pod2"]}
    deleted = {"done=1 begun=2": ["pod1", "pod2"], "done=1 begun=2 done=2": ["pod2"]}
    for marks, pods in (at_work | deleted).items():
        assert Promises(steps, _documents(marks)).pods() == pods


def _documents(marks: str) -> list[dict[str, int]]:
    return [{word.split("=")[0]: int(word.split("=")[1])} for word in marks.split()]
