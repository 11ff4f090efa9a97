"""When a master went: the moment from which a pod's outage counts."""

from __future__ import annotations

from cni_repair.base.closeable import Closeable
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.groups import LINKS, Subscription
from cni_repair.network.kernel.link import names_in
from cni_repair.network.model import IFF_RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class LinkMonitor(Closeable):
    """Listens to the node's links; tells once of each of `masters` that it is gone, or has lost
    its carrier."""

    def __init__(self, masters: set[str], lost: Callable[[str], None]) -> None:
        self._waiting = set(masters)
        self._lost = lost
        self._links = Subscription(LINKS)

    def close(self) -> None:
        self._links.close()

    def listen(self, seconds: float) -> None:
        """Take in what is told within `seconds`; returns with the first news."""
        if self._links.wait(seconds):
            for kind, body in self._links.news():
                is_link = kind in (rt.RTM_NEWLINK, rt.RTM_DELLINK)
                if is_link and not nl.is_about_bridge_port(body):
                    self._look(kind, body)

    def _look(self, kind: int, body: bytes) -> None:
        _, flags, attributes = nl.unpack_link(body)
        if kind == rt.RTM_DELLINK or not flags & IFF_RUNNING:
            for name in self._waiting.intersection(names_in(attributes)):
                self._waiting.discard(name)
                self._lost(name)
