"""Measuring a node before its driver is touched, and after it has returned. Changes nothing."""

from __future__ import annotations

from cni_repair.base.frozen import replace
from cni_repair.network.links import legs_of, link_named
from cni_repair.network.planning.plan import STALE
from cni_repair.network.reachability.gateways import gateways_of
from cni_repair.node import verify as verifying
from cni_repair.node.asking import VerifyOptions
from cni_repair.node.context import Node
from cni_repair.node.verdict import parents_of
from cni_repair.upgrade.baseline import LinkFacts, Measure, facts_of
from cni_repair.upgrade.context import living
from cni_repair.upgrade.drivers import CardDriver, driver_of
from cni_repair.uplink.ensure import look
from cni_repair.uplink.plan import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink
    from cni_repair.node.verify import Verdict
    from cni_repair.upgrade.baseline import PodFacts
    from cni_repair.upgrade.planfile import Plan

_WITH_LEGS = ("bond", "team")
_STACKED = ("vlan", *_WITH_LEGS)  # what is no card: its driver is the kernel's own


def measure(node: Node, entries: list[Entry], plan: Plan) -> Measure:
    """What the node has now: carrier of all links that pods stand on, and who answers the pods.

    Takes as long as the plan's verify may, if a gateway is silent.
    """
    links = links_now(node.rtnl, living(node, entries), named_in(plan))
    return Measure(links, pods_of(ask(node, entries, plan)))


def measure_news(node: Node, entries: list[Entry], plan: Plan, known: Measure) -> Measure:
    """The same, with what the records have learned since: new pods, and new gateways."""
    news = [entry for entry in entries if _is_news(entry, known)]
    if not news:
        return known
    links = links_now(node.rtnl, living(node, news), ())
    pods = pods_of(ask(node, news, plan))
    return Measure({**links, **known.links}, {**known.pods, **pods})


def _is_news(entry: Entry, known: Measure) -> bool:
    if entry.checkpoint is None:
        return False
    was = known.pods.get(entry.key.name)
    gateways = gateways_of(entry.checkpoint.attachment)
    return was is None or not set(gateways) <= was.gateways.keys()


def ask(node: Node, entries: list[Entry], plan: Plan) -> list[Verdict]:
    """A verdict on every attachment, degraded ones asked, too."""
    how = VerifyOptions(plan.verify.timeout, plan.verify.duplicates, damaged_too=True)
    return verifying.verify(node, entries, how)


def pods_of(verdicts: list[Verdict]) -> dict[str, PodFacts]:
    """The facts about pods that are there, by their attachments' names."""
    return {verdict.key.name: facts_of(verdict) for verdict in verdicts if verdict.verdict != STALE}


def named_in(plan: Plan) -> tuple[str, ...]:
    """The links that the plan names itself."""
    return (*plan.masters.names, *plan.require.carrier.names)


def links_now(
    rtnl: Rtnetlink, checkpoints: list[Checkpoint], names: Iterable[str]
) -> dict[str, LinkFacts]:
    """The links that attachments stand on, the legs of bonds among them, and those of `names`."""
    found: dict[str, LinkFacts] = {}
    for chain, follow in dict.fromkeys(parents_of(checkpoint) for checkpoint in checkpoints):
        for recorded in chain:
            found.setdefault(recorded.name, _facts(rtnl, recorded.name))
        plan, _ = look(rtnl, chain, follow)
        if plan.state != READY:
            found[chain[0].name] = replace(found[chain[0].name], usable=False)
    for name in names:
        found.setdefault(name, _facts(rtnl, name))
    for name in [*found]:
        found.update(_legs(rtnl, name))
    return found


def links_called(names: Iterable[str]) -> dict[str, LinkFacts]:
    """Those links of the node alone."""
    with Node() as node:
        return {name: _facts(node.rtnl, name) for name in names}


def _facts(rtnl: Rtnetlink, name: str) -> LinkFacts:
    link = link_named(rtnl, name)
    return LinkFacts(name, there=False) if link is None else _facts_of(rtnl, name, link)


def _facts_of(rtnl: Rtnetlink, name: str, link: HostLink) -> LinkFacts:
    driver = CardDriver() if link.kind in _STACKED else driver_of(rtnl, link.name)
    return LinkFacts(
        name, True, link.up, link.carrier, link.mtu,
        driver=driver.name, version=driver.version, firmware=driver.firmware,
    )  # fmt: skip


def _legs(rtnl: Rtnetlink, name: str) -> dict[str, LinkFacts]:
    link = link_named(rtnl, name)
    if link is None or link.kind not in _WITH_LEGS:
        return {}
    legs = legs_of(rtnl, link.ifindex)
    return {leg.name: replace(_facts_of(rtnl, leg.name, leg), bond=name) for leg in legs}
