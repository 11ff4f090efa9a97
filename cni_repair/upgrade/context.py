"""What all phases of an upgrade work with."""

from __future__ import annotations

import contextlib

from cni_repair.base.frozen import frozen
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.checkpoint.store import Store
from cni_repair.node.context import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.upgrade.events import Events
    from cni_repair.upgrade.planfile import Plan
    from cni_repair.upgrade.settings import Settings

    Outcome = tuple[bool, str, dict[str, Any]]  # whether it went well; in words; for the report


@frozen
class Upgrade:
    """One start, or one resume, of an upgrade."""

    plan: Plan
    settings: Settings
    events: Events

    @contextlib.contextmanager
    def node(self, create: bool = False) -> Iterator[tuple[Node, Store, list[Entry]]]:
        """The node, and all that is remembered of its pods (`create`: where no pod ever was)."""
        with Store(self.settings.checkpoint_dir, create) as store, Node() as node:
            yield node, store, inventory.read_all(store, self.settings.hints())


def living(node: Node, entries: list[Entry]) -> list[Checkpoint]:
    """Those whose pods are there: links of others may be gone for good."""
    checkpoints = [entry.checkpoint for entry in entries if entry.checkpoint]
    return [
        checkpoint
        for checkpoint in checkpoints
        if checkpoint.netns is None or still_stands(checkpoint.netns, node.own)
    ]
