"""What all turns of one repair share: the node, the records, the uplinks, how it is to be done."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.checkpoint import inventory
from cni_repair.repair.uplink_cache import UplinkCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.inventory import Entry, LegacyHints
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.context import Node
    from cni_repair.node.report import Report
    from cni_repair.repair.armed.ready import Armed
    from cni_repair.uplink.restorer import NodeRestorer

    # Tells the network: the master's name, a MAC, the addresses that it has.
    Announce = Callable[[str, str, tuple[str, ...]], None]


# Who asks whether others have the IPv6 addresses that a repair restores: cni-repair, while they
# carry traffic; or the kernel, which lets nobody use them before. A configuration's words.
BESIDE, BY_KERNEL = "beside", "kernel"


@frozen
class RepairOptions:
    """How a repair is to be done."""

    run_dir: str  # of the locks; empty: as each attachment's own configuration has it
    master_timeout: float  # seconds to wait for masters that are not there
    hints: LegacyHints | None = None
    netns: str = ""  # CNI_NETNS, where one attachment is meant
    force: bool = False  # make lost interfaces whose addresses were freed, too
    probe: bool = True  # ask for holders of addresses first, where IPAM cannot say
    # Who asks for duplicates of restored IPv6 addresses: BESIDE or BY_KERNEL.
    ipv6_detection: str = BESIDE
    # How many may be used. More than one only where no thread runs beside: others are forked for
    # them, and would keep the locks that a thread holds at that moment for ever.
    processors: int = 1
    carrier_seconds: float = 0.0  # how long it is waited for, where that is longer than usual
    # Called before a wait, with what is waited for.
    on_progress: Callable[[str], None] | None = None
    # Called once all were looked at, with what each was like before anything was done in it.
    on_examined: Callable[[list[Report]], None] | None = None
    on_restored: Callable[[Report], None] | None = None  # called when a pod's traffic passes again
    armed: Armed | None = None  # what was prepared while its master was away, to be fired first


def detects_beside(options: RepairOptions, checkpoint: Checkpoint) -> bool:
    """Whether the IPv6 addresses of an attachment that was lost are used at once.

    They must have been its own until it was lost: what says so is the record of a namespace that is
    known to be the same, and IPAM, but for what it has freed (`force`).
    """
    is_its_own = checkpoint.netns is not None and not options.force
    return is_its_own and not kernel_detects(options, checkpoint)


def kernel_detects(options: RepairOptions, checkpoint: Checkpoint) -> bool:
    """Whether the user wants the kernel alone to look for duplicates."""
    return BY_KERNEL in (options.ipv6_detection, checkpoint.netconf.get("ipv6Detection"))


class Session:
    """One repair's work on the node; the processes that share it have one each."""

    def __init__(
        self,
        node: Node,
        store: Store,
        options: RepairOptions,
        restorer: NodeRestorer,
        announce: Announce,
    ) -> None:
        self.node = node
        self.store = store
        self.options = options
        self.restorer = restorer
        self.announce = announce
        self.uplinks = UplinkCache(node.rtnl, restorer, self._say_away)
        self._said: set[str] = set()

    def run_dir_of(self, entry: Entry) -> str:
        """Where the attachment's lock is, and that for its masters."""
        return inventory.run_dir_of(entry, self.options.run_dir)

    def say(self, text: str) -> None:
        """Tell whoever watches what is waited for; each thing once."""
        if self.options.on_progress and text not in self._said:
            self.options.on_progress(text)
            self._said.add(text)

    def _say_away(self, why: str) -> None:
        if self.options.master_timeout:
            self.say(f"waiting up to {self.options.master_timeout:g} s: {why}")
