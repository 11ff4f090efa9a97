"""Waiting for the uplinks after the driver's return."""

from __future__ import annotations

import time

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.network.observe import link_named
from cni_repair.node.context import wrapped
from cni_repair.node.verdict import parents_of
from cni_repair.uplink.ensure import look
from cni_repair.uplink.plan import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink
    from cni_repair.uplink.ensure import Parents

_POLL_SECONDS = 0.05


@frozen
class Uplink:
    """What attachments stand on, as recorded."""

    parents: Parents
    mtu: int  # of the largest of them: a driver comes back with its own default

    @property
    def name(self) -> str:
        """The card's or bond's."""
        return self.parents[0][-1].name


def uplinks_of(checkpoints: list[Checkpoint]) -> list[Uplink]:
    """What the attachments stand on, each once."""
    mtus: dict[Parents, int] = {}
    for checkpoint in checkpoints:
        parents = parents_of(checkpoint)
        mtus[parents] = max(mtus.get(parents, 0), checkpoint.attachment.link.mtu)
    return [Uplink(parents, mtu) for parents, mtu in mtus.items()]


def stacked_names(checkpoints: list[Checkpoint]) -> set[str]:
    """The names of all links of the node that attachments stand on."""
    return {link.name for checkpoint in checkpoints for link in checkpoint.attachment.parents}


def with_carrier(rtnl: Rtnetlink, names: set[str]) -> set[str]:
    """Those of the links that are there, and heard."""
    links = {name: link_named(rtnl, name) for name in names}
    return {name for name, link in links.items() if link is not None and link.carrier}


def wait(
    rtnl: Rtnetlink,
    names: tuple[str, ...],
    uplinks: list[Uplink],
    carrier: bool,
    seconds: float,
    back: Callable[[str], None],
) -> list[str]:
    """Wait until every uplink is there (with `carrier`: up and heard); why others are not.

    `names`, where there are any, are waited for instead of `uplinks`. `back` is told of each.
    """
    until = time.monotonic() + seconds
    waiting = [(name, _by_name(rtnl, name, carrier)) for name in names] or [
        (uplink.name, _as_recorded(rtnl, uplink, carrier)) for uplink in uplinks
    ]
    while True:
        away = [(name, why_not, _asked(why_not)) for name, why_not in waiting]
        waiting = [(name, why_not) for name, why_not, why in away if why]
        for name in dict.fromkeys(name for name, _, why in away if not why):
            back(name)
        if not waiting or time.monotonic() >= until:
            return list(dict.fromkeys(why for _, _, why in away if why))
        time.sleep(_POLL_SECONDS)


def _asked(why_not: Callable[[], str]) -> str:
    """A kernel that is too busy to answer while a driver comes up is asked again."""
    try:
        return why_not()
    except (CniError, OSError) as error:
        return str(wrapped(error))


def _by_name(rtnl: Rtnetlink, name: str, carrier: bool) -> Callable[[], str]:
    return lambda: _why_not(name, link_named(rtnl, name), carrier, 0)


def _as_recorded(rtnl: Rtnetlink, uplink: Uplink, carrier: bool) -> Callable[[], str]:
    chain, follow = uplink.parents

    def why_not() -> str:
        plan, _ = look(rtnl, chain, follow)
        if plan.state != READY:  # names, and MTUs, may be still in the making
            return plan.reason
        _, card = look(rtnl, chain[-1:], follow)
        return _why_not(uplink.name, card, carrier, uplink.mtu)

    return why_not


def _why_not(name: str, link: HostLink | None, carrier: bool, mtu: int) -> str:
    """Why a link cannot be used (yet); empty where it can."""
    if link is None:
        return f"{name} does not exist"
    if link.mtu < mtu:
        lack = f"{name} has MTU {link.mtu}, pods over it have {mtu}"
        return f"{lack}: ip link set dev {name} mtu {mtu}"
    if link.carrier or not carrier:
        return ""
    return f"{name} has no carrier" if link.up else f"{name} is down: ip link set dev {name} up"
