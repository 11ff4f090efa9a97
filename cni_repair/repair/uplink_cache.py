"""The uplinks of one repair: looked at once each, made when a pod needs them, waited for."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.node.context import POD_FAILURES
from cni_repair.uplink.ensure import ChainLooks, MasterAway, ensure
from cni_repair.uplink.plan import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink
    from cni_repair.uplink.ensure import Parents
    from cni_repair.uplink.plan import ParentPlan
    from cni_repair.uplink.restorer import NodeRestorer


class UplinkCache:
    """What became of each chain of parents that a repair's pods stand on."""

    def __init__(
        self, rtnl: Rtnetlink, restorer: NodeRestorer, say_away: Callable[[str], None]
    ) -> None:
        """`say_away` is called with the reason where a master is not there yet."""
        self._rtnl = rtnl
        self._restorer = restorer
        self._say_away = say_away
        self._looks = ChainLooks(rtnl)
        self._known: dict[Parents, HostLink | CniError] = {}
        self._asked: set[Parents] = set()

    def master(self, parents: Parents) -> tuple[HostLink | None, CniError | None]:
        """The master, or why there is none; neither where it is still to be asked for."""
        if parents not in self._known and (ready := self._ready(parents)):
            self._known[parents] = ready
        known = self._known.get(parents)
        return (None, known) if isinstance(known, CniError) else (known, None)

    def _ready(self, parents: Parents) -> HostLink | None:
        """The master, where it is there with all that it stands on; nothing is changed for it."""
        try:
            plan, master = self._looks.look(parents)
        except POD_FAILURES:
            return None
        return master if plan.state == READY and not plan.operations else None

    def is_decided(self, parents: Parents) -> bool:
        """Whether the master is known to be there, refused or away: to ask tells nothing new."""
        return parents in self._asked or any(self.master(parents))

    def plan_before(self, parents: Parents) -> ParentPlan | None:
        """How the chain was at the first look; None where it could not be looked at."""
        try:
            return self._looks.look(parents)[0]
        except POD_FAILURES:
            return None

    def is_there(self, parents: Parents) -> bool:
        """Whether the chain is there as it was recorded."""
        return self.master(parents)[0] is not None

    def ask_once(self, parents: Parents, run_dir: str) -> None:
        """As :meth:`ask`, the first time that the chain is asked for."""
        if parents not in self._asked:
            self.ask(parents, run_dir, last=False)

    def ask(self, parents: Parents, run_dir: str, last: bool) -> None:
        """Note the master, made if need be, or why there will be none: once for all its pods. It
        may still come where it is away, unless this is the `last` time."""
        self._asked.add(parents)
        if parents in self._known:
            return
        try:
            self._known[parents] = ensure(self._rtnl, run_dir, *parents, self._restorer)
        except MasterAway as error:
            if last:
                self._known[parents] = error
            else:
                self._say_away(error.msg)
        except CniError as error:
            self._known[parents] = error

    def note(self, parents: Parents, master: HostLink) -> None:
        """The chain stands on this link: it was read from there."""
        self._known[parents] = master
