"""The node's side of attachments: masters waited for, VLANs made, both compared before use."""

from __future__ import annotations

import time

from cni_repair.checkpoint.locks import PARENTS, Lock
from cni_repair.errors import MASTER_REFUSED, TRY_AGAIN, CniError
from cni_repair.network.apply import apply_to_node
from cni_repair.network.observe import hardware, link_named
from cni_repair.network.plan import (
    MISSING,
    READY,
    RENAMED,
    ParentPlan,
    plan_parents,
    renamed,
    same_card,
)
from cni_repair.network.rtnetlink import Rtnetlink
from cni_repair.network.state import HostLink, Vlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS = 0.05


def ensure_vlan(run_dir: str, below: str, name: str, vlan_id: int) -> str:
    """The VLAN device of that name over the uplink `below`, made if missing; its name (for ADD)."""
    with Rtnetlink() as rtnl:
        uplink = link_named(rtnl, below)
        if uplink is None:
            raise CniError(TRY_AGAIN, f"master {below} does not exist")
        ensure(rtnl, run_dir, (wanted_vlan(name, vlan_id), uplink), 0.0)
    return name


def wanted_vlan(name: str, vlan_id: int) -> HostLink:
    """A VLAN device as a configuration describes it: all else is the kernel's choice."""
    return HostLink(name=name, ifindex=0, kind="vlan", mac="", mtu=0, vlan=Vlan(vlan_id))


def look(
    rtnl: Rtnetlink, chain: tuple[HostLink, ...], follow_renamed: bool = False
) -> tuple[ParentPlan, HostLink | None]:
    """The plan for a recorded chain of parents, and the master as it is now (None: absent).

    `follow_renamed`: the recorded card counts under whatever name it has now.
    """
    present: dict[str, HostLink] = {}
    for link in chain:
        found = link_named(rtnl, link.name)
        if found is None and link.vlan is None:
            found = same_card(link, hardware(rtnl))
            if found is not None and not follow_renamed:
                return renamed(link, found), present.get(chain[0].name)
        if found is not None:
            present[link.name] = found
    return plan_parents(chain, present), present.get(chain[0].name)


def ensure(
    rtnl: Rtnetlink,
    run_dir: str,
    chain: tuple[HostLink, ...],
    until: float,
    follow_renamed: bool = False,
    tell: Callable[[str], None] | None = None,
) -> HostLink:
    """Have the master of `chain` again; the link as it is then.

    Waits for hardware and bonds till `until` (time.monotonic()), since a driver takes its time.
    Raises CniError: code 11 where the master did not come, MASTER_REFUSED where its name is
    another's, or the card has another name.
    """
    while True:
        with Lock(run_dir, PARENTS):
            master = _try(rtnl, chain, follow_renamed)
        if isinstance(master, HostLink):
            return master
        if time.monotonic() >= until:
            code = MASTER_REFUSED if master.state == RENAMED else TRY_AGAIN
            raise CniError(code, master.reason, "call again once that has changed")
        if tell:
            tell(f"waiting up to {until - time.monotonic():.0f} s: {master.reason}")
            tell = None
        time.sleep(_POLL_SECONDS)


def _try(
    rtnl: Rtnetlink, chain: tuple[HostLink, ...], follow_renamed: bool
) -> HostLink | ParentPlan:
    plan, master = look(rtnl, chain, follow_renamed)
    # Someone else (systemd-networkd) may make the VLAN between look and work: then look again, and
    # compare what they made.
    for _ in range(3):
        if plan.state in (MISSING, RENAMED):
            return plan
        if plan.state != READY:
            raise CniError(
                MASTER_REFUSED,
                plan.reason,
                "nothing was changed; put the link right and call again",
            )
        if master is not None and not plan.operations:
            return master
        apply_to_node(rtnl, plan.operations)
        plan, master = look(rtnl, chain, follow_renamed)
        if master is not None and plan.state == READY:
            return master
    raise CniError(TRY_AGAIN, f"master {chain[0].name} comes and goes")
