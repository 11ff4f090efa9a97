"""Attachments that others made: put together from what is remembered of them, and judged by how
their interface is now. Pure: no I/O.
"""

from __future__ import annotations

import os

from cni_repair.base.errors import FOREIGN, STALE, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint.legacy import attachment_in
from cni_repair.checkpoint.store import is_legacy
from cni_repair.network.model import KINDS, RT_TABLE_MAIN
from cni_repair.node.capture import attachment_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cni_repair.adoption.caches import Remembered
    from cni_repair.checkpoint.store import Key
    from cni_repair.network.model import Attachment, HostLink, LiveLink, Route
    from cni_repair.node.capture import Seen

ADOPTED = "adopted"
WOULD_ADOPT = "would adopt"
HAS_CHECKPOINT = "has checkpoint"
LEFT_ALONE = "left alone"  # not of a kind that cni-repair repairs, or on its way out
GONE = "gone"  # its namespace is no more
REFUSED = "refused"
FAILED = "failed"
LEFTOVER = "leftover"  # an adopted attachment whose pod went without our knowing
REMOVED = "removed"

MACVLAN = "macvlan"
# They call other plugins; which, their scratch files tell.
_META = frozenset({"multus", "multus-shim"})


@frozen
class Configured:
    """What a configuration says of an attachment's node side."""

    delegate: str
    checkpoint_dir: str
    parents: tuple[HostLink, ...]  # empty: it names no master
    mode: str
    mtu: int  # 0: the master's


@frozen
class Candidate:
    """One attachment, put together from everybody who remembers it."""

    key: Key
    file: str  # where it is remembered best
    network: str
    netns: str
    plugin: dict[str, Any] | None  # the configuration of the plugin that made the interface
    args: dict[str, str]
    result: dict[str, Any]
    written_at: int
    seed: str  # the name of the seed's checkpoint of it; empty where there is none

    @property
    def kind(self) -> str:
        """The type of the plugin that made the interface, where that is known."""
        return _type(self.plugin) if self.plugin else ""


class NotAdopted(CniError):
    """Why an attachment gets no checkpoint, and what that makes of it."""

    def __init__(self, state: str, why: str, remedy: str = "") -> None:
        super().__init__(STALE if state == GONE else FOREIGN, why, remedy)
        self.state = state


# --- putting together what is remembered (pure) ---------------------------------------------------


def candidates(remembered: Iterable[Remembered], network: str = "") -> list[Candidate]:
    """One for each attachment (of one network, if named), in the order in which they were made.

    containerd's entry for eth0 has Multus' configuration, Multus' own entry that of the plugin
    which it called; an older entry has none, and a scratch file nothing else.
    """
    groups: dict[Key, list[Remembered]] = {}
    pods: dict[str, list[Remembered]] = {}
    for one in remembered:
        groups.setdefault(one.key, []).append(one)
        pods.setdefault(one.key.container_id, []).append(one)
    found = [_merged(group, pods[key.container_id], network) for key, group in groups.items()]
    wanted = [one for one in found if one.network == network or not network]
    return sorted(wanted, key=lambda one: (one.written_at, one.key.name))


def _merged(group: list[Remembered], pod: list[Remembered], network: str) -> Candidate:
    """`pod`: what is remembered of the pod's other interfaces, too: they share netns and name."""
    all_of_it = sorted(group, key=_says, reverse=True)
    all_of_pod = [*all_of_it, *sorted(pod, key=_says, reverse=True)]
    best = all_of_it[0]
    return Candidate(
        key=best.key,
        file=best.file,
        network=next((one.network for one in all_of_it if one.network), network),
        netns=next((one.netns for one in all_of_pod if one.netns), ""),
        plugin=_maker(best.plugins),
        args=next((one.args for one in all_of_pod if one.args), {}),
        result=next((one.result for one in all_of_it if one.result), {}),
        written_at=best.written_at,
        seed=next((name for one in group if is_legacy(name := os.path.basename(one.file))), ""),
    )


def _says(one: Remembered) -> tuple[int, bool, bool, int, str]:
    """How much an entry tells; the plugin that made the interface counts most. Of equals, the
    newest."""
    rank = _rank(_maker(one.plugins))
    return rank, bool(one.netns), bool(one.result), one.written_at, one.file


def _maker(plugins: tuple[dict[str, Any], ...]) -> dict[str, Any] | None:
    """The one that made the interface: of a chain the macvlan or ipvlan plugin, or the first."""
    return max(plugins, key=_rank, default=None)


def _rank(plugin: dict[str, Any] | None) -> int:
    if plugin is None:
        return 0
    kind = _type(plugin)
    if kind in KINDS:
        return 4
    return 3 if kind == OWN_TYPE else 1 if kind in _META else 2


def _type(plugin: dict[str, Any]) -> str:
    kind = plugin.get("type")
    return kind if isinstance(kind, str) else ""


# --- the verdict (pure) ---------------------------------------------------------------------------


def live_attachment(
    candidate: Candidate, seen: Seen, live: LiveLink, follow_renamed: bool = False
) -> tuple[Attachment, tuple[str, ...]]:
    """The interface as it is, and what could not be learnt. Raises NotAdopted."""
    _check_kind(candidate, seen, live)
    found = attachment_of(candidate.key.ifname, seen, live, follow_renamed, settled=True)
    said = _said(candidate, seen.parents)
    _check_is_the_one(candidate, found, said)
    unknown = [
        f"{_route(route)} of its Result is not there any more: not recorded"
        for route in said.routes
        if _route(route) not in {_route(one) for one in found.routes}
    ]
    if not candidate.result:
        unknown.append("its Result (made up from what is there)")
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
        raise NotAdopted(LEFT_ALONE, f"{name} is a {kind or 'hardware'} link{by}")
    if live.master_netnsid is None:
        raise NotAdopted(REFUSED, f"{name} is a {kind} over a link of the pod itself")
    if not seen.observed.over_node or not seen.parents:
        raise NotAdopted(REFUSED, f"{name} is a {kind} over no link of the node")
    if live.link.mode not in KINDS[kind]:
        raise NotAdopted(REFUSED, f"{name} is a {kind} in mode {live.link.mode}")
    if not live.up:
        # Its routes went with it: the record would be of a pod that cannot reach anything.
        raise NotAdopted(
            REFUSED, f"{name} is down: its routes are lost", "have it as it was, and adopt again"
        )


def _check_is_the_one(candidate: Candidate, found: Attachment, said: Attachment) -> None:
    """Whether the interface is the one that is remembered: by its addresses, or else its MAC."""
    name = candidate.key.ifname
    has = [f"{one.address}/{one.prefix}" for one in found.addresses]
    missing = [text for one in said.addresses if (text := f"{one.address}/{one.prefix}") not in has]
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


def lost_attachment(
    candidate: Candidate, configured: Configured, follow_renamed: bool = False
) -> tuple[Attachment, tuple[str, ...]]:
    """The interface as it was, as far as Result and configuration tell; what they do not tell.

    Raises NotAdopted.
    """
    name = candidate.key.ifname
    if not configured.parents:
        raise NotAdopted(
            REFUSED,
            f"{name} is gone, and its configuration names no master",
            "give one that does: --conf FILE (the network's, with `master`)",
        )
    said = _said(candidate, configured.parents, configured)
    if not said.link.mac:
        raise NotAdopted(REFUSED, f"{name} is gone, and its Result names no MAC")
    unknown = [f"{name} is gone: its ifindex (sockets bound to {name} will not recover)"]
    if not said.link.mtu:
        unknown.append("its MTU (it gets its master's)")
    unknown.append("its sysctls, and what was changed after ADD")
    if not configured.parents[-1].ifindex:
        unknown.append(f"whether {configured.parents[-1].name}, once there, is the card it was")
    return replace(said, follow_renamed_master=follow_renamed), tuple(unknown)


def _said(
    candidate: Candidate, parents: tuple[HostLink, ...], configured: Configured | None = None
) -> Attachment:
    """The interface that the Result speaks of."""
    mode, mtu = (configured.mode, configured.mtu) if configured else ("bridge", 0)
    try:
        return attachment_in(candidate.result, candidate.key.ifname, parents, mode, mtu)
    except ValueError as error:
        raise NotAdopted(REFUSED, f"its Result in {candidate.file} is not used: {error}") from error


def _route(route: Route) -> str:
    """A route as far as a Result tells of one."""
    return f"route {route.dst}{f' via {route.gateway}' if route.gateway else ''}"


def result_of(attachment: Attachment, netns: str) -> dict[str, Any]:
    """The Result that a plugin would have printed for an interface (what REPAIR prints again)."""
    routes = [route for route in attachment.routes if route.table == RT_TABLE_MAIN]
    return {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": attachment.ifname, "mac": attachment.link.mac, "sandbox": netns},
        ],
        "ips": [
            {"interface": 0, "address": f"{one.address}/{one.prefix}"}
            for one in attachment.addresses
        ],
        "routes": [
            {"dst": route.dst, **({"gw": route.gateway} if route.gateway else {})}
            for route in routes
        ],
        "dns": {},
    }


def check_was_ours(candidate: Candidate) -> None:
    """Whether the interface that is gone was one to bring back. Raises NotAdopted."""
    name, kind = candidate.key.ifname, candidate.kind
    if kind not in (*KINDS, OWN_TYPE, *_META, ""):
        raise NotAdopted(LEFT_ALONE, f"{name} is gone, and plugin {kind} made it")
