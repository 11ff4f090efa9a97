"""Waiting for the uplinks after the driver's return."""

from __future__ import annotations

import time

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.network.links import link_named
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.node.context import wrapped
from cni_repair.node.verdict import parents_of
from cni_repair.upgrade.baseline import Demand, demand_on
from cni_repair.upgrade.requirements import links_required
from cni_repair.uplink.ensure import look
from cni_repair.uplink.plan import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink
    from cni_repair.upgrade.baseline import Measure
    from cni_repair.upgrade.planfile import Plan
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


@frozen
class Awaited:
    """A link that is waited for after the driver's return."""

    name: str
    demand: Demand
    uplink: Uplink | None = None  # with what stands on it; None: the link alone


def awaited(plan: Plan, checkpoints: list[Checkpoint], before: Measure) -> list[Awaited]:
    """Which links an upgrade waits for, and what they must be by then: no worse than before."""
    carrier = plan.masters.carrier
    links = [
        Awaited(name, demand_on(before.links.get(name), carrier)) for name in plan.masters.names
    ]
    if not links:
        links = [_no_worse(uplink, before, carrier) for uplink in uplinks_of(checkpoints)]
    required = links_required(plan, checkpoints, before)
    return [*links, *(Awaited(name, Demand()) for name in required)]


def _no_worse(uplink: Uplink, before: Measure, carrier: bool) -> Awaited:
    demand = demand_on(before.links.get(uplink.name), carrier, uplink.mtu)
    master = before.links.get(uplink.parents[0][0].name)
    return Awaited(uplink.name, demand, uplink if master is None or master.usable else None)


def words(links: list[Awaited], carrier: bool) -> str:
    """What came of links that are what they must be; `carrier`: whether that was waited for."""
    if not links:
        return "none to wait for"
    by_state: dict[str, dict[str, None]] = {}
    for link in links:
        by_state.setdefault(_state(link.demand, carrier), {})[link.name] = None
    return "; ".join(f"{', '.join(names)}: {state}" for state, names in by_state.items())


def _state(demand: Demand, carrier: bool) -> str:
    if not demand.there:
        return "not waited for, it was not there before"
    if demand.carrier:
        return "there, with carrier"
    return "there (it had no carrier before)" if carrier else "there"


def wait(
    rtnl: Rtnetlink, links: list[Awaited], seconds: float, back: Callable[[str], None]
) -> list[str]:
    """Wait until every link is what it must be; why others are not. `back` is told of each."""
    return wait_until_none(questions(rtnl, links), seconds, back)


def questions(rtnl: Rtnetlink, links: list[Awaited]) -> list[tuple[str, Callable[[], str]]]:
    """Of each link: why it is not (yet) what it must be."""
    return [(link.name, _question(rtnl, link)) for link in links if link.demand.there]


def wait_until_none(
    waiting: list[tuple[str, Callable[[], str]]],
    seconds: float,
    back: Callable[[str], None] = lambda name: None,
) -> list[str]:
    """Ask each (of what, why not yet) until none has a reason left; the reasons that are."""
    until = time.monotonic() + seconds
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


def _question(rtnl: Rtnetlink, link: Awaited) -> Callable[[], str]:
    uplink = link.uplink
    if uplink is None:
        return lambda: _why_not(link.name, link_named(rtnl, link.name), link.demand)
    chain, follow = uplink.parents

    def why_not() -> str:
        plan, _ = look(rtnl, chain, follow)
        if plan.state != READY:  # names, and MTUs, may be still in the making
            return plan.reason
        _, card = look(rtnl, chain[-1:], follow)
        return _why_not(link.name, card, link.demand)

    return why_not


def _why_not(name: str, link: HostLink | None, demand: Demand) -> str:
    """Why a link cannot be used (yet); empty where it can."""
    if link is None:
        return f"{name} does not exist"
    if link.mtu < demand.mtu:
        lack = f"{name} has MTU {link.mtu}, pods over it have {demand.mtu}"
        return f"{lack}: ip link set dev {quoted(name)} mtu {demand.mtu}"
    if demand.up and not link.up:
        return f"{name} is down: ip link set dev {quoted(name)} up"
    return f"{name} has no carrier" if demand.carrier and not link.carrier else ""
