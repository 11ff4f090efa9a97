"""What becomes of an attachment that others made: judged by what is remembered of it, and by how
its interface is now. Pure.
"""

from __future__ import annotations

from hashlib import sha256

from cni_repair.adoption.candidates import META_PLUGINS, SBR
from cni_repair.base import kinds as readers
from cni_repair.base.errors import FOREIGN, STALE, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint.result import attachment_in, default_routes_of
from cni_repair.netlink.codec import mac_of
from cni_repair.network.kernel.link import is_short
from cni_repair.network.model import KINDS, RT_TABLE_MAIN
from cni_repair.node.capture import attachment_of
from cni_repair.node.report import attachment_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.adoption.candidates import Candidate
    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.model import Checkpoint, Pod
    from cni_repair.checkpoint.store import Key
    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.network.model import Attachment, HostLink, Route, Rule
    from cni_repair.node.capture import Seen

ADOPTED = "adopted"
ADOPTABLE = "adoptable"  # a dry run adopts nothing
RECORDED = "recorded"
SKIPPED = "skipped"  # not of a kind that cni-repair repairs, or being deleted
GONE = "gone"  # its namespace does not exist any more
REFUSED = "refused"
FAILED = "failed"
LEFTOVER = "leftover"  # an adopted attachment whose DEL did not come to cni-repair
REMOVED = "removed"


@frozen
class Adoption:
    """What becomes of one attachment."""

    key: Key
    file: str
    state: str
    netns: str
    network: str
    pod: Pod
    reason: str = ""  # why it is not adopted
    unknown: tuple[str, ...] = ()  # what could not be learnt about it
    checkpoint: Checkpoint | None = None

    @property
    def failed(self) -> bool:
        return self.state in (REFUSED, FAILED)

    def document(self) -> dict[str, Any]:
        """As `adopt -o json` prints it."""
        known = attachment_document(self.key, self.checkpoint, self.netns, self.state)
        return {
            **known,
            "network": known["network"] or self.network,
            "pod": known["pod"] or str(self.pod),
            "file": self.file,
            "notKnown": list(self.unknown),
            "findings": [self.reason] if self.reason else [],
        }

    @property
    def lost(self) -> bool:
        """Whether the record was made although the interface is gone."""
        return self.checkpoint is not None and not self.checkpoint.attachment.link.ifindex


@frozen
class Configured:
    """What a configuration says about an attachment's links on the node."""

    delegate: str
    checkpoint_dir: str
    parents: tuple[HostLink, ...]  # empty: it names no master
    mode: str
    mtu: int  # 0: the master's


class NotAdopted(CniError):
    """The attachment gets no record: why, and the state that this makes."""

    def __init__(self, state: str, why: str, remedy: str = "") -> None:
        super().__init__(STALE if state == GONE else FOREIGN, why, remedy)
        self.state = state


def live_attachment(
    candidate: Candidate, seen: Seen, live: LiveLink, follow_renamed: bool = False
) -> tuple[Attachment, tuple[str, ...]]:
    """The interface as it is, and what could not be learnt about it. Raises NotAdopted."""
    _check_kind(candidate, seen, live)
    found = attachment_of(candidate.key.ifname, seen, live, follow_renamed, settled=True)
    said = _said(candidate, seen.parents)
    _check_is_the_one(candidate, found, said)
    present = {_route(route) for route in found.routes}
    unknown = [
        f"{route} of its Result is gone: not recorded"
        for route in map(_route, said.routes)
        if route not in present
    ]
    if not candidate.result:
        unknown.append("its Result (made up from the interface)")
    if candidate.plugin is None:
        unknown.append("the configuration that it was made with")
    return found, tuple(unknown)


def _check_kind(candidate: Candidate, seen: Seen, live: LiveLink) -> None:
    name = candidate.key.ifname
    if live.name != name:
        raise NotAdopted(REFUSED, f"{name} is another name of the pod's link {live.name}")
    kind = live.link.kind
    if kind not in KINDS:
        by = f", made by plugin {candidate.kind}" if candidate.kind else ""
        raise NotAdopted(SKIPPED, f"{name} is a {kind or 'hardware'} link{by}")
    if live.master_netnsid is None:
        raise NotAdopted(REFUSED, f"{name} is a {kind} over a link of the pod itself")
    if not seen.observed.over_node or not seen.parents:
        raise NotAdopted(REFUSED, f"{name} is a {kind} over no link of the node")
    if live.link.mode not in KINDS[kind]:
        raise NotAdopted(REFUSED, f"{name} is a {kind} in mode {live.link.mode}")
    if not live.up:
        # The kernel has removed its routes: a record made now would lack them.
        raise NotAdopted(
            REFUSED, f"{name} is down: its routes are lost", "set it up as it was, and adopt again"
        )


def _check_is_the_one(candidate: Candidate, found: Attachment, said: Attachment) -> None:
    """Compare the interface with the Result: its addresses, or else its MAC."""
    name = candidate.key.ifname
    has = _prefixes(found)
    missing = [prefix for prefix in _prefixes(said) if prefix not in has]
    if missing:
        raise NotAdopted(
            REFUSED,
            f"{name} has {' '.join(has) or 'no address'},"
            f" its Result says {' '.join(missing)}: another pod's, or changed since",
            f"the Result is in {candidate.file}",
        )
    if not said.addresses and said.link.mac and said.link.mac != found.link.mac:
        raise NotAdopted(
            REFUSED,
            f"{name} has MAC {found.link.mac}, its Result says {said.link.mac}:"
            " another pod's, or changed since",
            f"the Result is in {candidate.file}",
        )


def is_surely(candidate: Candidate, found: Attachment) -> bool:
    """Whether the interface alone shows that it is the remembered one: by its own MAC, or by
    addresses (which were compared already) where no MAC of its own is remembered."""
    said = _said(candidate, found.parents)
    if said.link.mac and not found.link.inherits_mac:
        return said.link.mac == found.link.mac
    return bool(said.addresses)


def lost_attachment(
    candidate: Candidate,
    configured: Configured,
    rules: tuple[Rule, ...] = (),
    follow_renamed: bool = False,
) -> tuple[Attachment, tuple[str, ...]]:
    """The interface as Result and configuration describe it, and what they do not tell; `rules` are
    those of the pod's namespace. Raises NotAdopted.
    """
    name = candidate.key.ifname
    if not configured.parents:
        raise NotAdopted(
            REFUSED,
            f"{name} is gone, and its configuration names no master",
            "give one that does: --conf FILE (the network's, with `master`)",
        )
    for parent in configured.parents:
        if not is_short(parent.name):
            raise NotAdopted(
                REFUSED,
                f"{name} is gone, and no link has its master's name {parent.name} now",
                "adopt again once it is back: a record needs its first name, not an altname",
            )
    said = _said(candidate, configured.parents, configured)
    mac = said.link.mac or _mac_asked_for(candidate)
    if not (mac or said.addresses):
        raise NotAdopted(REFUSED, f"{name} is gone, and nothing tells its addresses or its MAC")
    unknown = [f"{name} is gone: its ifindex (sockets bound to {name} will not recover)"]
    if not (mac or said.link.inherits_mac):
        unknown.append("its MAC (it gets a new one)")
    if not said.link.mtu:
        unknown.append("its MTU (it gets its master's)")
    unknown.append("its sysctls, and what was changed after ADD")
    if not configured.parents[-1].ifindex:
        unknown.append(f"whether {configured.parents[-1].name}, once back, is the same card")
    if SBR in candidate.chain:
        from cni_repair.adoption.sourcerouting import moved_by_sbr  # few networks have it

        said = moved_by_sbr(said, default_routes_of(candidate.result, name), rules)
        if not said.routes:
            unknown.append("its routes: sbr moved them to tables, and no rule tells which")
    link = replace(said.link, mac=mac or _mac_made_for(candidate.key))
    return replace(said, link=link, follow_renamed_master=follow_renamed), tuple(unknown)


def _mac_asked_for(candidate: Candidate) -> str:
    """What CNI_ARGS or the configuration asked for: a Result of CNI 0.2.0 tells no MAC."""
    plugin = candidate.plugin or {}
    try:
        return str(readers.mac(candidate.args.get("MAC") or plugin.get("mac")))
    except readers.Misfit:
        return ""


def _mac_made_for(key: Key) -> str:
    """One of a local administrator's, as the kernel makes up; but the same whenever we look."""
    return mac_of(b"\x02" + sha256(key.name.encode()).digest()[:5])


def _said(
    candidate: Candidate, parents: tuple[HostLink, ...], configured: Configured | None = None
) -> Attachment:
    """The interface that the Result describes."""
    mode, mtu = (configured.mode, configured.mtu) if configured else ("bridge", 0)
    try:
        return attachment_in(candidate.result, candidate.key.ifname, parents, mode, mtu)
    except ValueError as error:
        raise NotAdopted(REFUSED, f"its Result in {candidate.file} is not used: {error}") from error


def _prefixes(attachment: Attachment) -> list[str]:
    return [f"{address.address}/{address.prefix}" for address in attachment.addresses]


def _route(route: Route) -> str:
    """What a Result tells of a route."""
    return f"route {route.dst}{f' via {route.gateway}' if route.gateway else ''}"


def result_of(attachment: Attachment, netns: str) -> dict[str, Any]:
    """The Result that a plugin would have printed for an interface; REPAIR prints it again."""
    routes = [route for route in attachment.routes if route.table == RT_TABLE_MAIN]
    return {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": attachment.ifname, "mac": attachment.link.mac, "sandbox": netns},
        ],
        "ips": [{"interface": 0, "address": prefix} for prefix in _prefixes(attachment)],
        "routes": [
            {"dst": route.dst, **({"gw": gateway} if gateway else {})}
            for route in routes
            for gateway in _gateways(route, attachment.ifname)
        ],
        "dns": {},
    }


def _gateways(route: Route, ifname: str) -> list[str | None]:
    """A Result has no next hops: each through the interface is a route of its own."""
    hops = [hop.gateway for hop in route.hops if hop.ifname == ifname]
    return hops or [route.gateway]


def check_was_ours(candidate: Candidate) -> None:
    """Check that an interface that is gone is one that REPAIR could make. Raises NotAdopted."""
    name, kind = candidate.key.ifname, candidate.kind
    if kind not in (*KINDS, OWN_TYPE, *META_PLUGINS, ""):
        raise NotAdopted(SKIPPED, f"{name} is gone, and plugin {kind} made it")


def without_rivals(adoptions: list[Adoption], living: list[Checkpoint]) -> list[Adoption]:
    """Refuse interfaces that two attachments claim: one of the two pods is gone.

    `living` are the records of pods that exist.
    """
    claims: dict[object, set[Key]] = {}
    for checkpoint in [*living, *(adoption.checkpoint for adoption in adoptions)]:
        if checkpoint is not None and checkpoint.netns is not None:
            place = _place(checkpoint.key, checkpoint.netns)
            claims.setdefault(place, set()).add(checkpoint.key)
    return [_unless_claimed(adoption, claims) for adoption in adoptions]


def _place(key: Key, identity: Identity) -> object:
    return identity.boot_id, identity.netns_id, identity.cookie, key.ifname


def _unless_claimed(adoption: Adoption, claims: dict[object, set[Key]]) -> Adoption:
    checkpoint = adoption.checkpoint
    if adoption.state != ADOPTABLE or checkpoint is None or checkpoint.netns is None:
        return adoption
    others = claims[_place(adoption.key, checkpoint.netns)] - {adoption.key}
    if not others:
        return adoption
    whose = ", ".join(sorted(key.container_id for key in others))
    reason = f"{adoption.key.ifname} in {adoption.netns} is claimed by container {whose}, too"
    return replace(adoption, state=REFUSED, reason=reason, checkpoint=None)
