"""Hypothesis strategies for what checkpoints hold."""

from __future__ import annotations

import string
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from hypothesis import strategies as st

from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.model import Checkpoint, GatewayMac, Pod
from cni_repair.checkpoint.store import Key
from cni_repair.network.kernel.rule import RULE_ACTIONS
from cni_repair.network.kernel.sysctl import STABLE_SECRET, SYSCTLS
from cni_repair.network.model import (
    FOREVER,
    KINDS,
    SETTABLE_FLAGS,
    Address,
    Attachment,
    Hop,
    HostLink,
    Neighbour,
    NodeLink,
    NodeLinks,
    PodLink,
    Route,
    Rule,
    Vlan,
)

_ID_FIRST = string.ascii_letters + string.digits

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
s31 = st.integers(0, 0x7FFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
ids = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True)
ifnames = st.text(_ID_FIRST + "_-@$;'\"", min_size=1, max_size=15)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
families = st.sampled_from([4, 6])


def json_objects_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects whose keys differ in more than case."""
    pairs = st.tuples(st.text(max_size=8), values)
    return st.lists(pairs, max_size=3, unique_by=lambda pair: pair[0].casefold()).map(dict)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | json_objects_of(inner),
    max_leaves=8,
)
json_objects = json_objects_of(json_values)


def ips(family: int) -> st.SearchStrategy[str]:
    """Addresses as the kernel's tools write them."""
    if family == 4:
        return st.binary(min_size=4, max_size=4).map(lambda raw: inet_ntop(AF_INET, raw))
    return st.binary(min_size=16, max_size=16).map(lambda raw: inet_ntop(AF_INET6, raw))


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


lifetimes = st.just(FOREVER) | u32


def _address(family: int) -> st.SearchStrategy[Address]:
    return st.builds(
        Address,
        family=st.just(family),
        address=ips(family),
        prefix=st.integers(0, 32 if family == 4 else 128),
        broadcast=optional(ips(4)) if family == 4 else st.none(),
        scope=u8,
        label=optional(ifnames) if family == 4 else st.none(),
        flags=st.sampled_from([0, 0x02, 0x10, 0x100, 0x200, 0x202, 0x400]),
        valid=lifetimes,
        preferred=lifetimes,
        peer=optional(ips(family)),
        metric=u32,
        proto=u8,
    )


def _prefixes(family: int, shortest: int = 0) -> st.SearchStrategy[str]:
    lengths = st.integers(shortest, 32 if family == 4 else 128)
    return st.builds("{}/{}".format, ips(family), lengths)


def _gateways(family: int) -> st.SearchStrategy[str | None]:
    return optional(ips(4) | ips(6) if family == 4 else ips(6))


_metrics = st.dictionaries(st.integers(2, 15), u32, max_size=3)
weights = st.integers(1, 256)


def _route(family: int, **ways: st.SearchStrategy[Any]) -> st.SearchStrategy[Route]:
    """`ways`: how it goes on, where it is not by a gateway or none."""
    usual = {"gateway": _gateways(family), "onlink": st.booleans(), "realm": u32}
    return st.builds(
        Route,
        family=st.just(family),
        dst=_prefixes(family),
        table=st.sampled_from([254, 255, 100, 256, 1000]) | u32,
        metric=u32,
        scope=u8,
        type=u8,
        protocol=u8,
        prefsrc=optional(ips(family)),
        tos=u8,
        metrics=_metrics.map(lambda found: tuple(sorted(found.items()))),
        src=optional(_prefixes(6, 1)) if family == 6 else st.none(),
        congctl=st.sampled_from([None, "cubic", "bbr"]),
        pref=st.sampled_from([0, 1, 3]),
        expires=st.just(0) | u32 if family == 6 else st.just(0),
        **(ways or usual),
    )


def _rule(family: int) -> st.SearchStrategy[Rule]:
    prefixes = optional(_prefixes(family))
    ports = st.tuples(st.integers(1, 0xFFFF), st.integers(1, 0xFFFF))
    return st.builds(
        Rule,
        family=st.just(family),
        priority=u32,
        src=prefixes,
        dst=prefixes,
        iif=optional(ifnames),
        oif=optional(ifnames),
        tos=u8,
        fwmark=u32,
        fwmask=u32,
        ip_proto=u8,
        sport=optional(ports),
        dport=optional(ports),
        uid_range=optional(st.tuples(u32, u32)),
        invert=st.booleans(),
        action=st.sampled_from(sorted(RULE_ACTIONS)),
        table=st.sampled_from([0, 100, 254, 255, 256]) | u32,
        suppress_prefixlength=optional(st.integers(0, 128)),
        protocol=u8,
    )


def _neighbour(family: int) -> st.SearchStrategy[Neighbour]:
    return st.builds(
        Neighbour,
        family=st.just(family),
        address=ips(family),
        mac=optional(macs),
        flags=st.sampled_from([0, 0x10, 0x80, 0x90]),
        protocol=u8,
    )


addresses = families.flatmap(_address)
hops = st.builds(
    Hop,
    ifname=ifnames,
    gateway=_gateways(4),
    weight=weights,
    onlink=st.booleans(),
    realm=u32,
)
single_routes = families.flatmap(_route)
multipath_routes = _route(4, hops=st.lists(hops, min_size=1, max_size=3).map(tuple))
# One of the next hops of an IPv6 route.
shared_routes = _route(
    6, gateway=_gateways(6), onlink=st.booleans(), weight=weights, shared=st.just(True)
)
routes = single_routes | multipath_routes | shared_routes
rules = families.flatmap(_rule)
neighbours = families.flatmap(_neighbour)
qos_maps = st.lists(st.tuples(u32, st.integers(0, 7)), max_size=3).map(
    lambda pairs: tuple(sorted(pairs))
)
vlans = st.builds(
    Vlan,
    id=st.integers(1, 4094),
    protocol=st.sampled_from([0x8100, 0x88A8]),
    flags=st.integers(0, 31),
    egress=qos_maps,
    ingress=qos_maps,
)
altnames = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=12
)
device_flags = st.sets(st.sampled_from(sorted(SETTABLE_FLAGS.values()))).map(sum)


# What of a link is recorded where it is not as usual. (Not here: the twins of IPv4, which pyroute2
# does not know. See test_tables.py.)
SIZES = ["gso_max_size", "gso_max_segs", "gro_max_size"]
QUEUES = ["num_tx_queues", "num_rx_queues"]
UNUSUAL = [*SIZES, *QUEUES]


def _pod_link(kind: str, **own: st.SearchStrategy[int]) -> st.SearchStrategy[PodLink]:
    return st.builds(
        PodLink,
        ifindex=s31,
        mac=macs,
        mtu=s31,
        kind=st.just(kind),
        mode=st.sampled_from(KINDS[kind]),
        txqueuelen=s31,
        alias=texts,
        altnames=st.lists(altnames, max_size=2, unique=True).map(tuple),
        group=u32,
        device_flags=optional(device_flags),
        **dict.fromkeys(UNUSUAL, optional(st.integers(2, 60_000))),
        **own,
    )


macvlans = _pod_link("macvlan", flags=u16, bcqueuelen=u32)
ipvlans = _pod_link("ipvlan", flags=st.sampled_from([0, 1, 2]))
pod_links = macvlans | ipvlans
host_links = st.builds(
    HostLink,
    name=ifnames,
    ifindex=s31,
    kind=st.sampled_from(["", "bond", "veth", "vlan"]),
    mac=macs,
    mtu=s31,
    flags=u32,
    lower=s31,
    permanent_mac=optional(macs),
    bus_address=optional(texts),
    vlan=optional(vlans),
)
_secrets = st.dictionaries(st.just(STABLE_SECRET), ips(6), max_size=1)
_numbers = st.dictionaries(
    st.sampled_from(sorted(SYSCTLS - {STABLE_SECRET})),
    st.integers(-(10**10), 10**10).map(str),
    max_size=3,
)
sysctls = st.builds(lambda secret, numbers: {**secret, **numbers}, _secrets, _numbers)
attachments = st.builds(
    Attachment,
    ifname=ifnames,
    link=pod_links,
    parents=st.lists(host_links, min_size=1, max_size=3).map(tuple),
    addresses=st.lists(addresses, max_size=3).map(tuple),
    routes=st.lists(routes, max_size=3).map(tuple),
    sysctls=sysctls.map(lambda found: tuple(found.items())),
    rules=st.lists(rules, max_size=2).map(tuple),
    neighbours=st.lists(neighbours, max_size=2).map(tuple),
    absent_routes=st.lists(routes, max_size=1).map(tuple),
    settled=st.booleans(),
    addr_gen_mode=optional(st.integers(0, 3)),
    lifetimes_at=st.integers(0, 1 << 53),
)
identities = st.builds(
    Identity,
    path=texts,
    boot_id=texts,
    dev=u64,
    ino=u64,
    cookie=optional(u64),
    pid=optional(s31),
    pid_start=optional(u64),
)


shims = st.builds(
    NodeLink,
    name=ifnames,
    addresses=st.lists(addresses, max_size=2).map(tuple),
    routes=st.lists(routes, max_size=2).map(tuple),
    shim=pod_links,
    master=ifnames,
    up=st.booleans(),
)
node_vlans = st.builds(
    NodeLink,
    name=ifnames,
    addresses=st.lists(addresses, max_size=2).map(tuple),
    routes=st.lists(routes, max_size=2).map(tuple),
)
node_links = st.builds(
    NodeLinks,
    seen_at=st.integers(0, 1 << 53),
    links=st.lists(node_vlans | shims, max_size=2).map(tuple),
)


gateway_macs = st.builds(GatewayMac, ips(4) | ips(6), macs)


@st.composite
def checkpoints(draw: st.DrawFn) -> Checkpoint:
    attachment = draw(attachments)
    netns = draw(identities)
    return Checkpoint(
        key=Key(draw(ids), attachment.ifname),
        network=draw(ids),
        pod=Pod(draw(texts), draw(texts), draw(texts)),
        attached_at=draw(st.integers(0, 1 << 53)),
        netns=netns,
        netns_path=netns.path,
        delegate=draw(ids),
        netconf=draw(json_objects),
        result=draw(json_objects),
        attachment=attachment,
        node_links=draw(optional(node_links)),
        accepted_addresses=tuple(draw(st.lists(ips(4) | ips(6), max_size=3))),
        gateway_macs=tuple(draw(st.lists(gateway_macs, max_size=2))),
    )
