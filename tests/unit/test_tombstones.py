"""A tombstone in the run directory hides one record, whenever that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory, tombstones
from cni_repair.checkpoint.model import encode
from cni_repair.checkpoint.store import COMMITTED, Key, Store, tombstone_in
from tests.unit.samples import CHECKPOINT, KEY


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def store(tmp_path: Path, run_dir: Path) -> Store:
    store = Store(str(tmp_path / "checkpoints"), create=True)
    netconf = {**CHECKPOINT.netconf, "runDir": str(run_dir)}
    store.commit(KEY, encode(replace(CHECKPOINT, netconf=netconf)))
    return store


def test_whoever_read_it_before_finds_it_gone_afterwards(store: Store, run_dir: Path) -> None:
    """REPAIR reads the record again once it has the lock: DEL wins."""
    (entry,) = inventory.read_all(store, None)
    tombstones.put(str(run_dir), store, KEY)
    assert inventory.reread(store, entry, None) is None
    assert inventory.read_one(store, KEY, None) is None
    assert inventory.read_all(store, None) == []


def test_another_record_of_the_name_is_not_hidden(store: Store, run_dir: Path) -> None:
    tombstones.put(str(run_dir), store, KEY)
    netconf = {**CHECKPOINT.netconf, "runDir": str(run_dir)}
    later = CHECKPOINT.attached_at + 1
    store.commit(KEY, encode(replace(CHECKPOINT, netconf=netconf, attached_at=later)))
    assert len(inventory.read_all(store, None)) == 1


def test_an_unreadable_record_is_hidden_like_any_other(
    store: Store, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not tell its run directory: it is looked for in the usual one."""
    monkeypatch.setattr(inventory, "RUN_DIR", str(run_dir))
    path = Path(store.directory) / (KEY.name + COMMITTED)
    path.write_bytes(path.read_bytes()[:-20])
    assert len(inventory.read_all(store, None)) == 1
    tombstones.put(str(run_dir), store, KEY)
    assert inventory.read_all(store, None) == []


def test_without_a_record_there_is_nothing_to_hide(store: Store, run_dir: Path) -> None:
    tombstones.put(str(run_dir), store, Key("another", "eth0"))
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"0" * 8, b"0" * 100, b"\xff"])
def test_what_else_is_in_its_place_hides_nothing(
    store: Store, run_dir: Path, content: bytes
) -> None:
    Path(tombstone_in(str(run_dir), KEY)).write_bytes(content)
    assert len(inventory.read_all(store, None)) == 1


def test_it_says_where_it_could_not_be_put(store: Store, tmp_path: Path) -> None:
    with pytest.raises(CniError) as refused:
        tombstones.put(str(tmp_path / "nowhere"), store, KEY)
    assert refused.value.code == IO
    assert store.directory in refused.value.msg and "nowhere" in refused.value.msg


def test_none_is_put_below_a_directory_of_others(store: Store, tmp_path: Path) -> None:
    public = tmp_path / "public"
    (public / "run").mkdir(mode=0o700, parents=True)
    public.chmod(0o777)
    with pytest.raises(CniError, match="not trusted") as caught:
        tombstones.put(str(public / "run"), store, KEY)
    assert caught.value.code == IO
    assert list((public / "run").iterdir()) == []
