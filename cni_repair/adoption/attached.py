"""The living attachments that our plugin made: those that still need it for their DEL.

Two sources tell of them. Our records, and the runtimes' caches: CRI-O, podman and Multus call at
DEL the plugin that a pod was attached with, whatever the configuration says by then.
"""

from __future__ import annotations

import os

from cni_repair.adoption.caches import read_caches, read_legacy
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import belongs_to_sandbox, still_stands
from cni_repair.checkpoint.store import Store, is_legacy
from cni_repair.netlink.netns import NoNetns, open_netns, open_own, same_netns
from cni_repair.node.capture import pod_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Key


@frozen
class Attached:
    """One living attachment, and the file that tells of it."""

    key: Key
    pod: str  # empty where nobody says
    file: str
    ours: bool  # our plugin made it; else only its record is ours


@frozen
class Unusable:
    """A record that may be of a living pod: nobody can tell."""

    file: str
    why: str


def living(
    checkpoint_dirs: Iterable[str], cache_dirs: Iterable[str]
) -> tuple[list[Attached], list[Unusable]]:
    """All living attachments that records or caches tell of, each once."""
    own = open_own()
    try:
        reading = _Reading(own)
        for directory in dict.fromkeys(checkpoint_dirs):
            reading.records(directory)
        reading.caches(cache_dirs)
    finally:
        os.close(own)
    return list(reading.found.values()), reading.unusable


class _Reading:
    """What was found so far."""

    def __init__(self, own: int) -> None:
        self.found: dict[Key, Attached] = {}
        self.unusable: list[Unusable] = []
        self._own = own

    def records(self, directory: str) -> None:
        try:
            store = Store(directory)
        except FileNotFoundError:
            return
        except CniError as error:
            self.unusable.append(Unusable(directory, str(error)))
            return
        with store:
            for entry in inventory.read_all(store, None):
                if not is_legacy(entry.file):
                    self._record(f"{directory}/{entry.file}", entry)
            remembered, bad = read_legacy(store)
        self.unusable += [Unusable(one.file, str(one.error)) for one in bad]
        for one in remembered:
            if belongs_to_sandbox(one.netns, one.key.container_id):
                self._add(Attached(one.key, str(pod_of(one.args)), one.file, ours=False))

    def _record(self, file: str, entry: Entry) -> None:
        checkpoint = entry.checkpoint
        if checkpoint is None:
            self.unusable.append(Unusable(file, str(entry.error)))
        elif checkpoint.netns is not None and still_stands(checkpoint.netns, self._own):
            ours = checkpoint.netconf.get("type") == OWN_TYPE
            self._add(Attached(checkpoint.key, str(checkpoint.pod), file, ours))

    def caches(self, directories: Iterable[str]) -> None:
        """What cannot be read is not ours to judge: most of it is of other plugins' pods."""
        remembered, _ = read_caches(dict.fromkeys(directories))
        netns_of = {one.key.container_id: one.netns for one in remembered if one.netns}
        for one in remembered:
            named = any(plugin.get("type") == OWN_TYPE for plugin in one.plugins)
            # Multus writes no netns down; where nobody knows it, the DEL is still to come.
            netns = one.netns or netns_of.get(one.key.container_id, "")
            if named and (not netns or self._leads_to_a_pod(netns)):
                self._add(Attached(one.key, str(pod_of(one.args)), one.file, ours=True))

    def _leads_to_a_pod(self, path: str) -> bool:
        try:
            netns = open_netns(path)
        except NoNetns:
            return False
        try:
            return not same_netns(netns, self._own)
        finally:
            os.close(netns)

    def _add(self, attached: Attached) -> None:
        known = self.found.get(attached.key)
        if known is None or (attached.ours and not known.ours):
            self.found[attached.key] = attached
