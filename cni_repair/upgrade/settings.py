"""How an upgrade of this node is run, apart from its plan."""

from __future__ import annotations

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.inventory import LegacyHints


@frozen
class Settings:
    """Where the node's state lives, and how this upgrade is run."""

    checkpoint_dir: str
    run_dir: str  # of locks; empty: as each attachment's own configuration has it
    state_dir: str
    hints: Callable[[], LegacyHints | None]  # for the predecessor's records
    hold_kubelet: bool = True
