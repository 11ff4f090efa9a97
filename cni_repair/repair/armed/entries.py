"""Attachments that are known from the armed index: their records are read only where need be.

Reading a record takes 0.15 ms, as long as the kernel needs for half of its pod.
"""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.inventory import Entry
from cni_repair.checkpoint.store import Key, Store
from cni_repair.node.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.inventory import LegacyHints
    from cni_repair.checkpoint.model import Checkpoint


@frozen
class About:
    """What the index says of an attachment, beside what is armed."""

    container_id: str
    ifname: str
    network: str
    pod: str
    master: str
    addresses: tuple[str, ...]  # with their prefixes
    attached_at: int
    knows_node: bool  # whether its record says what the node had of its own


class Later:
    """A record that is read when it is asked for."""

    def __init__(self, directory: str, file: str, hints: LegacyHints | None, about: About) -> None:
        self.about = about
        self.file = file
        self._directory = directory
        self._hints = hints
        self._entry: list[Entry | None] = []
        self._key: Key | None = None

    @property
    def key(self) -> Key:
        if self._key is None:
            self._key = Key(self.about.container_id, self.about.ifname)
        return self._key

    def entry(self) -> Entry | None:
        """As it is by then; None where it is gone."""
        if not self._entry:
            self._entry.append(self._read())
        return self._entry[0]

    def _read(self) -> Entry | None:
        try:
            with Store(self._directory) as store:
                return inventory.read_file(store, self.file, self._hints)
        except (FileNotFoundError, CniError):
            return None

    def checkpoint(self) -> Checkpoint | None:
        entry = self.entry()
        return entry.checkpoint if entry else None


class IndexedEntry(Entry):
    """An entry that the index knows. (What it says is checked where it is used: at firing.)"""

    later: Later
    _identity: Identity

    def __init__(self, later: Later, identity: Identity) -> None:
        values = self.__dict__  # past __setattr__, which refuses
        values.update(file=later.file, raw=b"", error=None, later=later, _identity=identity)

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.later.checkpoint()

    @property
    def key(self) -> Key:
        return self.later.key

    @property
    def network(self) -> str:
        return self.later.about.network

    @property
    def attached_at(self) -> int:
        return self.later.about.attached_at

    @property
    def identity(self) -> Identity | None:
        return self._identity

    @property
    def about_node(self) -> Checkpoint | None:
        return self.checkpoint if self.later.about.knows_node else None


class IndexedReport(Report):
    """A report on one of these. (In the place of the checkpoint it has what leads there.)"""

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self._later.checkpoint()

    @property
    def _later(self) -> Later:
        later: Later = self.__dict__["checkpoint"]
        return later

    @property
    def pod(self) -> str:
        return self._later.about.pod

    def about(self) -> dict[str, Any]:
        about = self._later.about
        return {
            "containerID": about.container_id,
            "ifname": about.ifname,
            "network": about.network,
            "netns": self.netns,
            "pod": about.pod,
            "master": about.master,
            "addresses": list(about.addresses),
            "state": self.state,
        }
