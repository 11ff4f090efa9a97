"""Giving the node back, in the course of a repair, what it had of its own over its pods' masters.

The pods come first: whatever fails here is said, and stops nothing.
"""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.checkpoint.locks import PARENTS, Lock
from cni_repair.uplink.apply import add_again, apply_to_node
from cni_repair.uplink.belongings import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink, NodeLink
    from cni_repair.uplink.apply import Rejected
    from cni_repair.uplink.belongings import Names, NodeRecords
    from cni_repair.uplink.plan_belongings import ShimPlan


class NodeRestorer:
    """One repair's work on the node's own links."""

    def __init__(self, rtnl: Rtnetlink, records: NodeRecords) -> None:
        self._rtnl = rtnl
        self._records = records
        self._rejected: dict[Names, list[Rejected]] = {}

    def recorded(self, chain: tuple[HostLink, ...]) -> tuple[NodeLink, ...]:
        """What the node had on the links of a chain."""
        return self._records.of(chain)

    def knows_shims(self, chain: tuple[HostLink, ...]) -> bool:
        return any(link.shim for link in self.recorded(chain))

    def note_rejected(self, chain: tuple[HostLink, ...], rejected: tuple[Rejected, ...]) -> None:
        """Keep what was refused on the way to a master, to be tried again at the end."""
        self._rejected.setdefault(names_of(chain), []).extend(rejected)

    def give_shims(self, chain: tuple[HostLink, ...], run_dir: str) -> list[str]:
        """Make the shims over a chain that is there; what was done, and what failed, in words."""
        from cni_repair.uplink.comparison import shim_plans  # few nodes have any

        try:
            with Lock(run_dir, PARENTS):
                plans = shim_plans(self._rtnl, self.recorded(chain))
                return [self._give_shim(chain, plan) for plan in plans]
        except (CniError, OSError) as error:
            return [f"the node's shims were not looked after: {error}"]

    def _give_shim(self, chain: tuple[HostLink, ...], plan: ShimPlan) -> str:
        if not plan.operations:
            return plan.finding
        try:
            applied = apply_to_node(self._rtnl, plan.operations)
        except CniError as error:
            return f"{plan.finding}: {error}"
        self.note_rejected(chain, applied.rejected)
        return f"{plan.finding}: {'made again' if applied.complete else 'its name was just taken'}"

    def finish(self, chain: tuple[HostLink, ...]) -> list[str]:
        """Try again what was refused over a chain; what is refused still."""
        rejected = self._rejected.pop(names_of(chain), [])
        try:
            rejected = add_again(self._rtnl, rejected)
        except (CniError, OSError):
            pass  # then the first answers stand
        return [f"not done: {refusal}" for refusal in rejected]
