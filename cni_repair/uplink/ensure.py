"""The masters of attachments: waited for, their VLANs made, both compared before use."""

from __future__ import annotations

from cni_repair.base.errors import MASTER_REFUSED, TRY_AGAIN, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint.locks import PARENTS, Lock
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.links import chain_from, hardware, link_named, vlans
from cni_repair.network.model import HostLink, Vlan
from cni_repair.uplink.apply import apply_to_node
from cni_repair.uplink.plan import (
    MISSING,
    READY,
    RENAMED,
    ParentPlan,
    is_recorded_card,
    plan_parents,
    renamed,
    same_card,
    same_device,
    same_vlan,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.model import NodeLink
    from cni_repair.uplink.belongings import NodeRecords
    from cni_repair.uplink.restorer import NodeRestorer

    # A recorded chain (the pods' master first, then what that stands on), and whether the recorded
    # card counts under whatever name it has now.
    Parents = tuple[tuple[HostLink, ...], bool]


_LOOKS = 3


def ensure_vlan(run_dir: str, below: str, vlan_id: int) -> str:
    """The VLAN device of that id over the uplink `below`, made if missing; its name (for ADD)."""
    with Rtnetlink() as rtnl:
        return ensure(rtnl, run_dir, wanted_chain(rtnl, below, vlan_id)).name


def look_for_vlan(below: str, vlan_id: int) -> tuple[ParentPlan, HostLink | None]:
    """What :func:`ensure_vlan` would do, and the device if it is there; changes nothing."""
    with Rtnetlink() as rtnl:
        return look(rtnl, wanted_chain(rtnl, below, vlan_id))


def wanted_chain(rtnl: Rtnetlink, below: str, vlan_id: int) -> tuple[HostLink, ...]:
    """The VLAN device of that id over the uplink `below`, and what it stands on. Raises CniError
    where the uplink does not exist."""
    uplink = link_named(rtnl, below)
    if uplink is None:
        raise CniError(TRY_AGAIN, f"master {below} does not exist")
    # It may be a VLAN itself: what that stands on belongs to the chain.
    chain = chain_from(rtnl, uplink.ifindex) or (uplink,)
    return (wanted_vlan(chain[0].name, vlan_id), *chain)


def wanted_vlan(below: str, vlan_id: int) -> HostLink:
    """A VLAN device as a configuration describes it: all else is the kernel's choice.

    Its name comes from the first name of the link below, never from an altname: that may be too
    long, and two networks may call the link by two names, but it has each VLAN only once.
    """
    name = f"{below}.{vlan_id}"
    return HostLink(name=name, ifindex=0, kind="vlan", mac="", mtu=0, vlan=Vlan(vlan_id))


def look(
    rtnl: Rtnetlink,
    chain: tuple[HostLink, ...],
    follow_renamed: bool = False,
    on_vlans: tuple[NodeLink, ...] = (),
) -> tuple[ParentPlan, HostLink | None]:
    """The plan for a recorded chain of parents, and the master as it is now (None: absent).

    `follow_renamed`: the recorded card counts under whatever name it has now. `on_vlans`: what the
    node had on the VLANs of the chain.
    """
    present: dict[str, HostLink] = {}  # by their recorded names
    below: HostLink | None = None
    for recorded in reversed(chain):
        link = _find(rtnl, recorded, below)
        if link is None and recorded.vlan is None:
            link = same_card(recorded, hardware(rtnl))
            if link is not None and not follow_renamed:
                return renamed(recorded, link), link_named(rtnl, chain[0].name)
            device = _at_its_index(rtnl, recorded) if link is None else None
            if device is not None:
                return renamed(recorded, device), link_named(rtnl, chain[0].name)
        if link is not None:
            present[recorded.name] = link
            # What a VLAN really stands on has a name, too, for the words of a refusal.
            for other in chain_from(rtnl, link.lower if link.kind == "vlan" else 0)[:1]:
                present.setdefault(other.name, other)
        below = link
    plan = plan_parents(chain, present)
    if on_vlans and plan.operations:
        plan = _with_belongings(plan, present, on_vlans)
    return plan, present.get(chain[0].name)


def _find(rtnl: Rtnetlink, recorded: HostLink, below: HostLink | None) -> HostLink | None:
    """The link that a recorded one is now, as far as its names tell; one that is not it, and has
    its name, where there is no better.

    A card may come back with the recorded name as an altname, or with a recorded altname alone. A
    VLAN is known by its id, too: the link `below` has each only once, whatever it is called.
    """
    found = link_named(rtnl, recorded.name)
    if recorded.vlan is not None:
        return found or (same_vlan(recorded, below, vlans(rtnl)) if below else None)
    if found is not None and is_recorded_card(recorded, found):
        return found
    for name in recorded.altnames:
        other = link_named(rtnl, name)
        if other is not None and is_recorded_card(recorded, other):
            return other
    return found


def _at_its_index(rtnl: Rtnetlink, recorded: HostLink) -> HostLink | None:
    """The recorded bond, bridge or the like, where only its name is not what it was."""
    if not (recorded.kind and recorded.ifindex):
        return None
    found = next(iter(chain_from(rtnl, recorded.ifindex)), None)
    return found if same_device(recorded, found) else None


def _with_belongings(
    plan: ParentPlan, present: dict[str, HostLink], on_vlans: tuple[NodeLink, ...]
) -> ParentPlan:
    # ADD, which pays for its imports, never comes here.
    from cni_repair.uplink.plan_belongings import with_belongings
    from cni_repair.uplink.read import belongings_of

    down = {operation.ifname for operation in plan.operations} & present.keys()
    belongings = belongings_of(present[name] for name in down)
    return replace(plan, operations=with_belongings(plan.operations, on_vlans, belongings))


class ChainLooks:
    """The plans for recorded chains of parents, each looked at once."""

    def __init__(self, rtnl: Rtnetlink, records: NodeRecords | None = None) -> None:
        """With `records`, what the node had on VLANs that have to be made is planned, too."""
        self._rtnl = rtnl
        self._records = records
        self._seen: dict[Parents, tuple[ParentPlan, HostLink | None]] = {}

    def look(self, parents: Parents) -> tuple[ParentPlan, HostLink | None]:
        """As :func:`look`."""
        if parents not in self._seen:
            on_vlans = self._records.of(parents[0]) if self._records else ()
            self._seen[parents] = look(self._rtnl, *parents, on_vlans)
        return self._seen[parents]


class MasterAway(CniError):
    """The master is not there, or not under its name: both may change by themselves."""


def ensure(
    rtnl: Rtnetlink,
    run_dir: str,
    chain: tuple[HostLink, ...],
    follow_renamed: bool = False,
    restorer: NodeRestorer | None = None,
) -> HostLink:
    """Have the master of `chain` again, now; the link as it is then. VLANs that have to be made
    get what the node had on them, as `restorer` knows it.

    Raises MasterAway (code 11, or MASTER_REFUSED for a card of another name) where waiting may
    help, CniError (MASTER_REFUSED) where its name is another's.
    """
    with Lock(run_dir, PARENTS):
        master = _try(rtnl, chain, follow_renamed, restorer)
    if isinstance(master, HostLink):
        return master
    code = MASTER_REFUSED if master.state == RENAMED else TRY_AGAIN
    raise MasterAway(code, master.reason, master.afterwards)


def _try(
    rtnl: Rtnetlink,
    chain: tuple[HostLink, ...],
    follow_renamed: bool,
    restorer: NodeRestorer | None,
) -> HostLink | ParentPlan:
    on_vlans = restorer.recorded(chain) if restorer else ()
    plan, master = look(rtnl, chain, follow_renamed, on_vlans)
    # Between look and work someone else (systemd-networkd) may make the VLAN: then look again, and
    # compare what they made. Or the card may come up: a VLAN that is made after that does not
    # follow it, and has to be set up.
    for _ in range(_LOOKS):
        if plan.state in (MISSING, RENAMED):
            return plan
        if plan.state != READY:
            raise CniError(MASTER_REFUSED, plan.reason, plan.afterwards)
        if master is not None and not plan.operations:
            return master
        applied = apply_to_node(rtnl, plan.operations)
        if restorer:
            restorer.note_rejected(chain, applied.rejected)
        plan, master = look(rtnl, chain, follow_renamed, on_vlans)
        made = master if applied.complete and plan.state == READY else None
        if made is not None and not plan.operations:
            return made
    if made is not None:
        return made  # a card that goes up and down
    raise CniError(TRY_AGAIN, f"master {chain[0].name} comes and goes")
