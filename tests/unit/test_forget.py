"""`forget`, where no namespaces are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory, model
from cni_repair.checkpoint.store import Store
from cni_repair.node.context import Node
from cni_repair.node.forget import Owners, StillOwned, forget
from cni_repair.node.namespaces import _netns_in
from tests.unit.samples import CHECKPOINT


def test_record_that_an_add_has_written_anew_stays(tmp_path: Path) -> None:
    """Between the proof and the lock: the same container, attached again."""
    directory, run_dir = tmp_path / "checkpoints", str(tmp_path / "run")
    with Store(str(directory), create=True) as store:
        store.commit(CHECKPOINT.key, model.encode(CHECKPOINT))
        (entry,) = inventory.read_all(store, None)
        store.commit(CHECKPOINT.key, model.encode(replace(CHECKPOINT, attached_at=7)))
        with pytest.raises(CniError, match="changed meanwhile"):
            forget(store, entry, run_dir, None)
        assert store.phase(CHECKPOINT.key) is not None


def test_record_whose_del_came_first_is_no_failure(tmp_path: Path) -> None:
    with Store(str(tmp_path / "checkpoints"), create=True) as store:
        store.commit(CHECKPOINT.key, model.encode(CHECKPOINT))
        (entry,) = inventory.read_all(store, None)
        store.tombstone(CHECKPOINT.key)
        store.remove(CHECKPOINT.key)
        forget(store, entry, str(tmp_path / "run"), None)


def test_what_stands_where_a_namespace_was_mounted_is_not_opened(tmp_path: Path) -> None:
    """A pod may have put something else into its mounts since they were listed."""
    identity = CHECKPOINT.netns
    assert identity is not None
    with Node() as node, pytest.raises(StillOwned, match="is not there any more"):
        Owners(node)._is_another(identity, str(tmp_path))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "451 24 0:4 net:[4026532201] /run/netns/cni-1 rw shared:7 - nsfs nsfs rw",
            ((4, 4026532201), "/run/netns/cni-1"),
        ),
        ("24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw", None),
        ("451 24 0:4 mnt:[4026532201] /run/x rw - nsfs nsfs rw", None),
        ("451 24 0:4 net:[x] /run/x rw - nsfs nsfs rw", None),
        ("", None),
    ],
)
def test_line_of_mountinfo(line: str, found: object) -> None:
    assert _netns_in(line) == found
