"""What the node has of its own over its pods' masters: remembered in their checkpoints, compared,
given back.

The pods come first: whatever fails here is said, and stops nothing.
"""

from __future__ import annotations

import time

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint import model
from cni_repair.checkpoint.locks import PARENTS, Lock
from cni_repair.checkpoint.store import is_legacy
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.model import HostLink, NodeLinks
from cni_repair.network.observe import chain_from, link_named
from cni_repair.uplink.apply import add_again, apply_to_node
from cni_repair.uplink.plan_belongings import ShimPlan, lacking, newest, plan_shims
from cni_repair.uplink.read import belongings_of, read_node_links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import NodeLink
    from cni_repair.uplink.apply import Rejected

    Names = tuple[str, ...]  # of the links of a chain of parents: what it is known by here

_KEY = b'"nodeLinks"'  # a document without it need not be decoded


class NodeSide:
    """The node's side of one pass over its attachments; everything is looked at once."""

    def __init__(self, rtnl: Rtnetlink, store: Store | None, entries: Iterable[Entry]) -> None:
        """`entries`: those of the store that were read already."""
        self._rtnl = rtnl
        self._store = store
        self._known = {entry.file: entry.checkpoint for entry in entries}
        self._records: dict[str, tuple[Names, NodeLinks]] | None = None
        self._looks: dict[Names, NodeLinks] = {}
        self._troubles: dict[Names, str] = {}
        self._rejected: dict[Names, list[Rejected]] = {}

    # What is remembered

    def remembered(self, chain: tuple[HostLink, ...]) -> tuple[NodeLink, ...]:
        """What the node had on the links of a chain, by the newest checkpoints that know."""
        return newest(chain, self._all().values())

    def _all(self) -> dict[str, tuple[Names, NodeLinks]]:
        """Of all checkpoints of the directory, whatever pods are meant: by their files' names."""
        if self._records is None:
            self._records = _records_of(self._store, self._known) if self._store else {}
        return self._records

    def noted(
        self, checkpoint: model.Checkpoint, master: int, accept: bool = False
    ) -> model.Checkpoint:
        """The checkpoint of a healthy attachment over the link of index `master`, with its parents
        as they are, and what the node has over them.

        It is the same one where it says so already, and no newer one says otherwise. A shim that is
        gone stays remembered, unless `accept`: it may have gone with the pods' interfaces, and this
        may be a pod that came between that and the repair.
        """
        recorded = checkpoint.attachment.parents
        chain = chain_from(self._rtnl, master)
        if _names(chain) != _names(recorded):
            return checkpoint
        if [*map(_lasting, recorded)] != [*map(_lasting, chain)]:
            checkpoint = replace(
                checkpoint, attachment=replace(checkpoint.attachment, parents=chain)
            )
        look = self._look(chain)
        if not accept:
            look = replace(look, links=(*look.links, *self._gone(chain)))
        own = checkpoint.node_links.links if checkpoint.node_links else ()
        if {*own} == {*look.links} == {*self.remembered(chain)}:
            return checkpoint
        return replace(checkpoint, node_links=look)

    def _gone(self, chain: tuple[HostLink, ...]) -> list[NodeLink]:
        shims = [one for one in self.remembered(chain) if one.shim is not None]
        present = self._present({one.name for one in shims})
        return [one for one in shims if one.name not in present]

    def committed(self, checkpoint: model.Checkpoint) -> None:
        """Take notice of a checkpoint that was just written."""
        if checkpoint.node_links is not None:
            names = _names(checkpoint.attachment.parents)
            self._all()[f"{checkpoint.key.name}.json"] = names, checkpoint.node_links

    def _look(self, chain: tuple[HostLink, ...]) -> NodeLinks:
        """What the node has now. What cannot be remembered counts as nothing: an older record must
        not stand for it."""
        names = _names(chain)
        if names not in self._looks:
            look = NodeLinks(time.time_ns() // 1_000_000)
            try:
                with Rtnetlink() as rtnl:  # of no use any more once there was too much
                    look = replace(look, links=read_node_links(rtnl, chain))
            except CniError as error:
                self._troubles[names] = str(error)
            self._looks[names] = look
        return self._looks[names]

    def trouble(self, chain: tuple[HostLink, ...]) -> str:
        """Why the node's side over a chain is not remembered, said once; empty where it is."""
        return self._troubles.pop(_names(chain), "")

    # What is there, compared with that

    def shims(
        self, chain: tuple[HostLink, ...], to_be_made: frozenset[str] = frozenset()
    ) -> tuple[ShimPlan, ...]:
        """The plans for shims over the links of a chain; `to_be_made`: links that come first."""
        recorded = tuple(one for one in self.remembered(chain) if one.shim is not None)
        present = self._present({name for one in recorded for name in (one.name, one.master)})
        down = [link for one in recorded if (link := present.get(one.name)) and not link.up]
        return plan_shims(recorded, present, to_be_made, belongings_of(down))

    def lack(self, chain: tuple[HostLink, ...], others: Container[str]) -> list[str]:
        """What is not any more on links that are up, as the commands that would put it back: a
        repair leaves them alone. `others`: names that the links in question do not bear now."""
        recorded = tuple(one for one in self.remembered(chain) if one.name not in others)
        present = self._present({one.name for one in recorded})
        there = belongings_of([link for link in present.values() if link.up])
        return [step.describe("") for step in lacking(recorded, there)]

    def _present(self, names: set[str]) -> dict[str, HostLink]:
        return {name: link for name in names if (link := link_named(self._rtnl, name))}

    # Giving back

    def tried(self, chain: tuple[HostLink, ...], rejected: tuple[Rejected, ...]) -> None:
        """Keep what was refused on the way to a master, to be tried again at the end."""
        self._rejected.setdefault(_names(chain), []).extend(rejected)

    def knows_shims(self, chain: tuple[HostLink, ...]) -> bool:
        return any(one.shim for one in self.remembered(chain))

    def give_shims(self, chain: tuple[HostLink, ...], run_dir: str) -> list[str]:
        """Make the shims over a chain that is there; what was done, and what failed, in words."""
        try:
            with Lock(run_dir, PARENTS):
                return [self._give(chain, plan) for plan in self.shims(chain)]
        except (CniError, OSError) as error:
            return [f"the node's shims were not looked after: {error}"]

    def _give(self, chain: tuple[HostLink, ...], plan: ShimPlan) -> str:
        if not plan.operations:
            return plan.finding
        try:
            applied = apply_to_node(self._rtnl, plan.operations)
        except CniError as error:
            return f"{plan.finding}: {error}"
        self.tried(chain, applied.rejected)
        return f"{plan.finding}: {'made again' if applied.complete else 'its name was just taken'}"

    def finish(self, chain: tuple[HostLink, ...]) -> list[str]:
        """Try again what was refused over a chain; what is refused still."""
        rejected = self._rejected.pop(_names(chain), [])
        try:
            rejected = add_again(self._rtnl, rejected)
        except (CniError, OSError):
            pass  # then the first answers stand
        return [f"not done: {one}" for one in rejected]


def _names(chain: tuple[HostLink, ...]) -> Names:
    return tuple(link.name for link in chain)


def _lasting(link: HostLink) -> HostLink:
    """Without what changes by itself, and is not given back."""
    return replace(link, ifindex=0, lower=0, flags=0)


def _records_of(
    store: Store, known: dict[str, model.Checkpoint | None]
) -> dict[str, tuple[Names, NodeLinks]]:
    """What the checkpoints say. (One of an earlier boot says nothing: since then the node's links
    were configured anew.)"""
    found = {}
    this_boot = boot_id()
    for file in store.committed():
        checkpoint = known[file] if file in known else _read(store, file)
        if checkpoint is None or checkpoint.node_links is None or checkpoint.netns is None:
            continue
        if checkpoint.netns.boot_id == this_boot:
            found[file] = _names(checkpoint.attachment.parents), checkpoint.node_links
    return found


def _read(store: Store, file: str) -> model.Checkpoint | None:
    """A checkpoint that speaks of the node's links, if it can be read: else its own attachment's
    report says so."""
    if is_legacy(file):
        return None
    try:
        raw = store.read(file)
        return model.decode(raw, file) if _KEY in raw else None
    except (FileNotFoundError, CniError):
        return None
