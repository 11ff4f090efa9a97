"""What the node had of its own over its pods' masters, beside what it has now. Changes nothing."""

from __future__ import annotations

from cni_repair.network.links import link_named
from cni_repair.uplink.plan_belongings import lacking, plan_shims
from cni_repair.uplink.read import belongings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink, NodeLink
    from cni_repair.uplink.plan_belongings import ShimPlan


def shim_plans(
    rtnl: Rtnetlink,
    recorded: tuple[NodeLink, ...],
    to_be_made: frozenset[str] = frozenset(),
) -> tuple[ShimPlan, ...]:
    """The plans for the shims among what is recorded of a chain; `to_be_made`: links that a repair
    makes before them."""
    shims = tuple(link for link in recorded if link.shim is not None)
    present = present_links(rtnl, {name for shim in shims for name in (shim.name, shim.master)})
    down = [link for shim in shims if (link := present.get(shim.name)) and not link.up]
    return plan_shims(shims, present, to_be_made, belongings_of(down))


def missing_commands(
    rtnl: Rtnetlink, recorded: tuple[NodeLink, ...], left_out: Container[str]
) -> list[str]:
    """What is not any more on links that are up, as the commands that would put it back: a repair
    leaves them alone. `left_out`: recorded names that other links, or none, bear now."""
    recorded = tuple(link for link in recorded if link.name not in left_out)
    present = present_links(rtnl, {link.name for link in recorded})
    belongings = belongings_of([link for link in present.values() if link.up])
    return [operation.describe("") for operation in lacking(recorded, belongings)]


def present_links(rtnl: Rtnetlink, names: set[str]) -> dict[str, HostLink]:
    """The node's links that bear those names now."""
    return {name: link for name in names if (link := link_named(rtnl, name))}
