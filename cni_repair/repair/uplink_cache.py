"""The masters of one repair: looked at once each, made when a pod needs them, waited for."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.node.examine import POD_FAILURES, Masters
from cni_repair.uplink import ensure as parents
from cni_repair.uplink.plan import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.network.model import HostLink
    from cni_repair.node.examine import Node, Parents
    from cni_repair.uplink.belongings import NodeSide
    from cni_repair.uplink.plan import ParentPlan


class UplinkCache:
    """What became of each chain of parents that a repair's pods stand on."""

    def __init__(self, node: Node, side: NodeSide, say_away: Callable[[str], None]) -> None:
        """`say_away` is called with the reason where a master is not there yet."""
        self._node = node
        self._side = side
        self._say_away = say_away
        self._looks = Masters(node)
        self._known: dict[Parents, HostLink | CniError] = {}
        self._asked: set[Parents] = set()

    def master(self, wanted: Parents) -> tuple[HostLink | None, CniError | None]:
        """The master, or why there is none; neither where it is still to be asked for."""
        if wanted not in self._known and (ready := self._ready(wanted)):
            self._known[wanted] = ready
        found = self._known.get(wanted)
        return (None, found) if isinstance(found, CniError) else (found, None)

    def _ready(self, wanted: Parents) -> HostLink | None:
        """The master, where it is there with all that it stands on; nothing is changed for it."""
        try:
            plan, master = self._looks.look(wanted)
        except POD_FAILURES:
            return None
        return master if plan.state == READY and not plan.operations else None

    def is_decided(self, wanted: Parents) -> bool:
        """Whether the master is known to be there, refused or away: to ask tells nothing new."""
        return wanted in self._asked or any(self.master(wanted))

    def plan_before(self, wanted: Parents) -> ParentPlan | None:
        """How the chain was found; None where it could not be looked at."""
        try:
            return self._looks.look(wanted)[0]
        except POD_FAILURES:
            return None

    def is_there(self, wanted: Parents) -> bool:
        """Whether the chain is there as it was recorded."""
        return self.master(wanted)[0] is not None

    def ask_once(self, wanted: Parents, run_dir: str) -> None:
        """As :meth:`ask`, the first time that the chain is asked for."""
        if wanted not in self._asked:
            self.ask(wanted, run_dir, last=False)

    def ask(self, wanted: Parents, run_dir: str, last: bool) -> None:
        """Note the master, made if need be, or why there will be none: once for all its pods. It
        may still come where it is away, unless this is the `last` time."""
        self._asked.add(wanted)
        if wanted in self._known:
            return
        chain, follow_renamed = wanted
        try:
            self._known[wanted] = parents.ensure(
                self._node.rtnl, run_dir, chain, follow_renamed, self._side
            )
        except parents.MasterAway as error:
            if last:
                self._known[wanted] = error
            else:
                self._say_away(error.msg)
        except CniError as error:
            self._known[wanted] = error

    def note(self, wanted: Parents, master: HostLink) -> None:
        """The chain stands on this link: it was read from there."""
        self._known[wanted] = master
