"""Our netlink against pyroute2's: what it writes, as the kernel would, we must read."""

from __future__ import annotations

import os
from socket import AF_INET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from cni_repair.base.frozen import replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network import observe
from cni_repair.network.kernel import address as addresses
from cni_repair.network.kernel import link as links
from cni_repair.network.kernel import neighbour as neighbours
from cni_repair.network.kernel import rule as rules
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.links import chain_from, link_named
from cni_repair.network.model import (
    IFF_RUNNING,
    IFF_UP,
    MACVLAN_MODES,
    Address,
    HostLink,
    Neighbour,
    PodLink,
    Rule,
    Vlan,
)
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.base import Target
from cni_repair.network.operations.link import AddAltname, AddPodLink
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.operations.rule import AddRule
from tests.unit import strategies as our
from tests.unit.samples import LINK, RULE
from tests.unit.wire import (
    FAMILIES,
    Attributes,
    address_of,
    attributes,
    indices,
    length_of,
    raw_mac,
    read_by_pyroute2,
    span,
    wheres,
    written_by_pyroute2,
)

kernel_vlans = st.builds(
    Vlan,
    id=st.integers(1, 4094),
    protocol=st.sampled_from([0x8100, 0x88A8]),
    flags=st.integers(0, 31),
    egress=our.qos_maps,
    ingress=our.qos_maps,
)
node_links = st.builds(
    HostLink,
    name=our.ifnames,
    ifindex=indices,
    kind=st.just(""),
    mac=our.macs,
    mtu=our.s31,
    flags=st.sampled_from([0, IFF_UP, IFF_UP | IFF_RUNNING]),
    lower=our.s31,
    permanent_mac=our.optional(our.macs),
    bus_address=our.optional(st.sampled_from(["0000:00:03.0", "virtio3"])),
    vlan=our.optional(kernel_vlans),
)


@given(node_links, our.u32)
def test_node_link_as_the_kernel_shows_it(link: HostLink, other_flags: int) -> None:
    attrs: Attributes = [
        ("IFLA_IFNAME", link.name),
        ("IFLA_MTU", link.mtu),
        ("IFLA_ADDRESS", link.mac),
        ("IFLA_OPERSTATE", "UP"),
        ("IFLA_LINK", link.lower),
    ]
    if link.permanent_mac:
        attrs.append(("IFLA_PERM_ADDRESS", raw_mac(link.permanent_mac)))
    if link.bus_address:
        attrs.append(("IFLA_PARENT_DEV_NAME", link.bus_address))
    if link.vlan:
        attrs.append(("IFLA_LINKINFO", vlan_info(link.vlan)))
    flags = link.flags | (other_flags & ~(IFF_UP | IFF_RUNNING))
    body = written_by_pyroute2(ifinfmsg, attrs, index=link.ifindex, flags=flags)
    read = links.host_link(body)
    assert read == replace(link, kind="vlan" if link.vlan else "")


def test_vlan_without_any_flag() -> None:
    """Not the flag that a new one has (reorder_hdr): somebody turned it off."""
    info = vlan_info(Vlan(5, flags=0))
    assert "IFLA_VLAN_FLAGS" not in str(info)
    attrs: Attributes = [("IFLA_IFNAME", "v"), ("IFLA_MTU", 1500), ("IFLA_LINKINFO", info)]
    read = links.host_link(written_by_pyroute2(ifinfmsg, attrs, index=5))
    assert read.vlan == Vlan(5, flags=0)


def vlan_info(vlan: Vlan) -> dict[str, Attributes]:
    flags = {"flags": vlan.flags, "mask": 0xFFFFFFFF}
    data: Attributes = [
        ("IFLA_VLAN_PROTOCOL", vlan.protocol),
        ("IFLA_VLAN_ID", vlan.id),
    ]
    if vlan.flags:  # else the kernel leaves them out (vlan_fill_info)
        data.append(("IFLA_VLAN_FLAGS", flags))
    for name, pairs in (
        ("IFLA_VLAN_INGRESS_QOS", vlan.ingress),
        ("IFLA_VLAN_EGRESS_QOS", vlan.egress),
    ):
        entries = [("IFLA_VLAN_QOS_MAPPING", {"from": a, "to": b}) for a, b in reversed(pairs)]
        data += [(name, {"attrs": entries})] if entries else []
    return {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", {"attrs": data})]}


@given(our.macvlans, indices, our.optional(our.s31), st.sampled_from([0, 1, 0x40, 0x41]), our.texts)
def test_macvlan_as_the_kernel_shows_it(
    link: PodLink, master: int, netnsid: int | None, flags: int, alias: str
) -> None:
    link = replace(link, flags=link.flags & 1, device_flags=link.device_flags or 0)
    data: Attributes = [("IFLA_MACVLAN_MODE", link.mode), ("IFLA_MACVLAN_FLAGS", link.flags)]
    info: Attributes = [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": data})]
    attrs = [*shown(link, master, netnsid), ("IFLA_LINKINFO", {"attrs": info})]
    shown_flags = flags | (link.device_flags or 0) | 0x2 | 0x10000  # IFF_BROADCAST, IFF_LOWER_UP
    body = written_by_pyroute2(ifinfmsg, attrs, index=link.ifindex, flags=shown_flags)
    expected = replace(link, bcqueuelen=0)  # pyroute2 does not know it
    up, carrier = bool(flags & IFF_UP), bool(flags & IFF_RUNNING)
    assert links.live_link(body) == LiveLink("eth0", expected, up, carrier, master, netnsid)


@pytest.mark.parametrize(
    ("flags", "told", "carrier"),
    [(0x41, 1, True), (0x41, 0, False), (0x1, 1, False), (0x41, None, True)],
    ids=["there", "a new link's flags alone", "flags say no", "flags alone"],
)
def test_carrier_is_there_where_flags_and_attribute_say_so(
    flags: int, told: int | None, carrier: bool
) -> None:
    """A new link is IFF_RUNNING until linkwatch has worked (netif_oper_up)."""
    attributes = nl.text(3, "eth0") + nl.u32(4, 1500)
    attributes += b"" if told is None else nl.u8(33, told)
    body = nl.link_body(7, flags, 0, attributes)
    assert (links.live_link(body).carrier, links.host_link(body).carrier) == (carrier, carrier)


def shown(link: PodLink, master: int, netnsid: int | None) -> Attributes:
    """What a link has whatever its kind."""
    attrs: Attributes = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_TXQLEN", link.txqueuelen),
        ("IFLA_MTU", link.mtu),
        ("IFLA_LINK", master),
        ("IFLA_ADDRESS", link.mac),
        ("IFLA_GROUP", link.group),
    ]
    for name in our.UNUSUAL:
        value = getattr(link, name)
        attrs += [] if value is None else [(f"IFLA_{name.upper()}", value)]
    if link.alias:
        attrs.append(("IFLA_IFALIAS", link.alias))
    if link.altnames:
        names = [("IFLA_ALT_IFNAME", name) for name in link.altnames]
        attrs.append(("IFLA_PROP_LIST", {"attrs": names}))
    if netnsid is not None:
        attrs.append(("IFLA_LINK_NETNSID", netnsid))
    return attrs


@given(our.pod_links, wheres)
def test_pod_link_that_we_make_is_read_back_as_it_was(link: PodLink, where: Target) -> None:
    link = replace(link, mtu=link.mtu or 1500)  # 0 leaves it to the kernel
    made = links.live_link(AddPodLink("eth0", "eth0.3", link).requests(where)[0].body)
    # Its own message each has what follows; an ipvlan has its master's MAC, a macvlan a queue of
    # the usual length.
    expected = replace(link, alias="", altnames=(), device_flags=0, **dict.fromkeys(our.SIZES))
    if link.kind == "ipvlan":
        expected = replace(expected, mac="")
    if link.bcqueuelen == 1000:
        expected = replace(expected, bcqueuelen=0)
    assert made == LiveLink("eth0", expected, False, False, where.master, None)


def test_altnames_are_read_as_they_were_given() -> None:
    """Nested in messages of their own, one each; in the kernel's answer they stand in one list."""
    names = ("podnet@eth0", "a b", "x" * 127)
    entries = b""
    for name in names:
        raw = AddAltname("eth0", name).requests(Target(7, 5))[0].body
        entries += nl.attributes_of(raw, 16)[rt.IFLA_PROP_LIST]
    body = nl.link_body(
        7, 0, 0, nl.text(3, "eth0") + nl.u32(4, 1500) + nl.attribute(rt.IFLA_PROP_LIST, entries)
    )
    live = links.live_link(body)
    assert live is not None
    assert live.link.altnames == names


SIZES: dict[str, tuple[dict[int, int], dict[str, int]]] = {
    # the attributes 40 (segments), 41, 63 (GSO), 58, 64 (GRO), 59, 60 (the master's limits) …
    "usual": ({40: 65535, 41: 65536, 58: 65536, 59: 524280, 60: 65535, 63: 65536, 64: 65536}, {}),
    "of-an-older-kernel": ({40: 65535, 41: 65536}, {}),
    "of-the-master": ({40: 64, 41: 64000, 58: 65536, 59: 64000, 60: 64, 63: 64000}, {}),
    "with-its-twin": ({41: 9000, 59: 524280, 63: 9000}, {"gso_max_size": 9000}),
    "without-its-twin": (
        {41: 9000, 59: 524280, 63: 65536}, {"gso_max_size": 9000, "gso_ipv4_max_size": 65536}
    ),
    "its-twin-alone": ({58: 65536, 64: 8000}, {"gro_ipv4_max_size": 8000}),
    "big": ({58: 200_000, 64: 65536}, {"gro_max_size": 200_000}),
    "big-with-its-twin": (
        {58: 200_000, 64: 200_000}, {"gro_max_size": 200_000, "gro_ipv4_max_size": 200_000}
    ),
    "none": ({58: 0, 64: 0, 40: 0}, {"gro_max_size": 0, "gso_max_segs": 0}),
}  # fmt: skip


@pytest.mark.parametrize(("told", "kept"), SIZES.values(), ids=SIZES.keys())
def test_sizes_that_a_new_link_would_have_are_not_recorded(
    told: dict[int, int], kept: dict[str, int]
) -> None:
    attributes = b"".join(nl.u32(kind, value) for kind, value in told.items())
    body = nl.link_body(7, 0, 0, nl.text(3, "eth0") + nl.u32(4, 1500) + attributes)
    read = vars(links.live_link(body).link)
    names = {name for name in read if name.endswith(("_size", "_segs"))}
    assert {name: read[name] for name in names if read[name] is not None} == kept


@pytest.mark.parametrize("mode", MACVLAN_MODES.values())
def test_macvlan_modes_are_the_kernels(mode: str) -> None:
    link = PodLink(7, LINK.mac, 1500, "macvlan", mode, 0, 0)
    read = read_by_pyroute2(ifinfmsg, AddPodLink("eth0", "m", link).requests(Target(7, 5))[0])
    assert attributes(read)["IFLA_LINKINFO"]["IFLA_INFO_DATA"]["IFLA_MACVLAN_MODE"] == mode


def test_link_of_another_kind_has_no_mode() -> None:
    info = {"attrs": [("IFLA_INFO_KIND", "dummy")]}
    attrs = [("IFLA_IFNAME", "eth0"), ("IFLA_MTU", 1500), ("IFLA_LINKINFO", info)]
    live = links.live_link(written_by_pyroute2(ifinfmsg, attrs, index=7))
    assert live is not None
    assert (live.link.kind, live.link.mode, live.link.mac) == ("dummy", "", "")
    assert (live.master, live.master_netnsid) == (0, None)


@given(our.addresses, indices, st.sampled_from([0, 0x01, 0x08, 0x20, 0x40, 0x80, 0x800]))
def test_address_as_the_kernel_shows_it(address: Address, ifindex: int, derived: int) -> None:
    flags = address.flags | derived
    attrs: Attributes = [
        ("IFA_ADDRESS", address.peer or address.address),
        ("IFA_FLAGS", flags),
        ("IFA_CACHEINFO", {"ifa_valid": address.valid, "ifa_preferred": address.preferred}),
    ]
    if address.family == 4 or address.peer:
        attrs.append(("IFA_LOCAL", address.address))
    for name, value in (
        ("IFA_BROADCAST", address.broadcast),
        ("IFA_LABEL", address.label),
        ("IFA_RT_PRIORITY", address.metric),
        ("IFA_PROTO", address.proto),
    ):
        attrs += [(name, value)] if value else []
    body = written_by_pyroute2(
        ifaddrmsg, attrs, family=FAMILIES[address.family], prefixlen=address.prefix,
        scope=address.scope, index=ifindex, flags=flags & 0xFF,
    )  # fmt: skip
    assert address_in(body) == (ifindex, without_own_peer(address))


def address_in(body: bytes) -> tuple[int, Address]:
    family, prefix, scope, ifindex, ours = nl.unpack_address(body)
    return ifindex, addresses.decode(family, prefix, scope, ours)


def without_own_peer(address: Address) -> Address:
    return replace(address, peer=None) if address.peer == address.address else address


@given(our.addresses, wheres)
def test_address_that_we_add_is_read_back_as_it_was(address: Address, where: Target) -> None:
    """The kernel always tells the lifetimes; to be told, it needs those that end."""
    address = replace(address, valid=86400)
    body = AddAddress("eth0", address).requests(where)[0].body
    assert address_in(body) == (where.ifindex, without_own_peer(address))


@pytest.mark.parametrize(
    ("flags", "derived"),
    [(0x01, 1), (0x04, 1), (0x08, 1), (0x20, 1), (0x40, 1), (0x80, 1), (0x800, 1),
     (0x02, 0), (0x10, 0), (0x100, 0), (0x200, 0), (0x400, 0)],
)  # fmt: skip
def test_flags_that_nobody_configures_are_not_recorded(flags: int, derived: bool) -> None:
    address = Address(6, "fd00::1", 64, valid=86400, flags=flags)
    _, read = address_in(AddAddress("eth0", address).requests(Target(7, 5))[0].body)
    assert read.flags == (0 if derived else flags)


def kernels_rule(rule: Rule, *more: tuple[str, Any], **fields: int) -> bytes:
    """As fib_nl_fill_rule() writes it."""
    attrs: Attributes = [
        ("FRA_TABLE", rule.table),
        ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF),
        ("FRA_PROTOCOL", rule.protocol),
    ]
    if rule.suppress_prefixlength is not None:
        attrs[1] = ("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlength)
    told = {
        "FRA_IIFNAME": rule.iif,
        "FRA_OIFNAME": rule.oif,
        "FRA_PRIORITY": rule.priority or None,
        "FRA_FWMARK": rule.fwmark or None,
        "FRA_FWMASK": rule.fwmask or None,
        "FRA_UID_RANGE": span(rule.uid_range),
        "FRA_IP_PROTO": rule.ip_proto or None,
        "FRA_SPORT_RANGE": span(rule.sport),
        "FRA_DPORT_RANGE": span(rule.dport),
        "FRA_DST": address_of(rule.dst),
        "FRA_SRC": address_of(rule.src),
    }
    attrs += [(name, value) for name, value in told.items() if value is not None]
    made = {
        "family": FAMILIES[rule.family], "dst_len": length_of(rule.dst), "tos": rule.tos,
        "src_len": length_of(rule.src), "table": rule.table if rule.table < 256 else 252,
        "action": rule.action, "flags": 2 if rule.invert else 0,
    }  # fmt: skip
    return written_by_pyroute2(fibmsg, [*attrs, *more], **{**made, **fields})


@given(our.rules, st.sampled_from([0, 0x8, 0x10, 0x18]))
def test_rule_as_the_kernel_shows_it(rule: Rule, detached: int) -> None:
    flags = (2 if rule.invert else 0) | detached
    assert rules.decode(kernels_rule(rule, flags=flags)) == rule


@given(our.rules, wheres)
def test_rule_that_we_add_is_read_back_as_it_was(rule: Rule, where: Target) -> None:
    assert rules.decode(AddRule(rule).requests(where)[0].body) == rule


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ([("FRA_GOTO", 100)], {"action": 2}),
        ([], {"action": 3}),
        ([("FRA_L3MDEV", 1)], {}),
        ([("FRA_TUN_ID", 5)], {}),
        ([("FRA_FLOW", 5)], {}),
        ([("FRA_SUPPRESS_IFGROUP", 1)], {}),
        ([], {"flags": 0x10000}),
        ([], {"family": 128}),
        ([("FRA_IIFNAME", "../x")], {}),
        ([("FRA_OIFNAME", "a b")], {}),
    ],
    ids=[
        "goto", "nop", "l3mdev", "tunnel", "realms", "group", "find-saddr", "multicast", "path",
        "blank",
    ],
)  # fmt: skip
def test_rule_that_cannot_be_given_back_is_not_recorded(
    more: Attributes, fields: dict[str, int]
) -> None:
    assert rules.decode(kernels_rule(RULE)) == RULE
    assert rules.decode(kernels_rule(RULE, *more, **fields)) is None


@pytest.mark.parametrize(
    ("mask", "known"), [(b"\xff\xff", True), (b"\xff\xf0", False)], ids=["one-port", "ports"]
)
def test_port_mask_of_newer_kernels(mask: bytes, known: bool) -> None:
    """FRA_SPORT_MASK, 6.15: all ones for a single port, where nobody asked for a mask."""
    rule = replace(RULE, sport=(80, 80))
    body = kernels_rule(rule) + nl.attribute(28, mask)
    assert rules.decode(body) == (rule if known else None)


def test_attribute_of_a_future_kernel_is_not_dropped() -> None:
    assert rules.decode(kernels_rule(RULE) + nl.u32(77, 1)) is None


@given(our.neighbours, indices, st.sampled_from([0, 0x01, 0x40]))
def test_neighbour_as_the_kernel_shows_it(
    neighbour: Neighbour, ifindex: int, more_flags: int
) -> None:
    attrs: Attributes = [("NDA_DST", neighbour.address)]
    proxy = neighbour.mac is None
    if not proxy:
        attrs += [("NDA_LLADDR", neighbour.mac), ("NDA_PROBES", 0)]
    if neighbour.protocol:
        attrs.append(("NDA_PROTOCOL", neighbour.protocol))
    body = written_by_pyroute2(
        ndmsg, attrs, family=FAMILIES[neighbour.family], ifindex=ifindex,
        state=0 if proxy else 0x80, flags=neighbour.flags | more_flags | (8 if proxy else 0),
    )  # fmt: skip
    assert neighbours.decode(body, ifindex) == neighbour
    assert neighbours.decode(body, ifindex + 1) is None


@given(our.neighbours, wheres)
def test_neighbour_that_we_make_is_read_back_as_it_was(neighbour: Neighbour, where: Target) -> None:
    body = SetNeighbour("eth0", neighbour).requests(where)[0].body
    assert neighbours.decode(body, where.ifindex) == neighbour


def test_neighbour_without_an_ethernet_address_is_none_of_ours() -> None:
    attrs: Attributes = [("NDA_DST", "10.0.0.1")]
    body = written_by_pyroute2(ndmsg, attrs, family=AF_INET, ifindex=7, state=0x80)
    assert neighbours.decode(body, 7) is None


@pytest.mark.parametrize(("netnsid", "meaning"), [(0, 0), (7, 7), (-1, None)])
def test_netns_id(netnsid: int, meaning: int | None) -> None:
    body = written_by_pyroute2(nsidmsg, [("NETNSA_NSID", netnsid & 0xFFFFFFFF)])
    assert observe.netnsid_in(body) == meaning


def test_link_that_is_not_there() -> None:
    with Rtnetlink() as rtnl:
        assert link_named(rtnl, "no-such-link") is None
        assert observe.ifindex_of(rtnl, "no-such-link") == 0
        assert chain_from(rtnl, 0x7FFFFFFF) == ()


BY_KERNEL: dict[str, tuple[str, int, int, bool, bool]] = {
    # address, flags, IFA_PROTO; whether the kernel made it: with IFA_PROTO, and before 5.18
    "ipv4": ("10.0.0.1", 0x80, 0, False, False),
    "ipv4-dynamic": ("10.0.0.1", 0, 0, False, False),
    "static": ("fd00::1", 0x80, 0, False, False),
    "of-somebody's-protocol": ("fd00::1", 0x80, 77, False, False),
    "with-a-lifetime": ("fd00::1", 0, 0, False, True),
    "from-advertisements": ("fd00::1", 0, 2, True, True),
    "from-advertisements-for-ever": ("fd00::1", 0x80, 2, True, True),
    "derived": ("fe80::6c92:1aff:feb4:fc34", 0x80, 3, True, True),
    "derived-by-hand": ("fe80::6c92:1aff:feb4:fc34", 0x80, 0, False, True),
    "link-local": ("fe80::1", 0x80, 0, False, False),
    "link-local-by-secret": ("fe80::1", 0x880, 3, True, True),
}


@pytest.mark.parametrize("tells_origin", [True, False], ids=["5.18", "5.15"])
@pytest.mark.parametrize(
    ("address", "flags", "proto", "newer", "older"), BY_KERNEL.values(), ids=BY_KERNEL.keys()
)
def test_what_the_kernel_makes_by_itself(
    address: str,
    flags: int,
    proto: int,
    newer: bool,
    older: bool,
    tells_origin: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "_tells_origin", lambda: tells_origin)
    family = 6 if ":" in address else 4
    one = Address(family, address, 64 if family == 6 else 24, proto=proto)
    expected = newer if tells_origin else older
    assert addresses._made_by_kernel(one, flags, LINK.mac) is expected


@pytest.mark.parametrize(
    ("release", "tells"),
    [
        ("6.18.44-fc-v595", True),
        ("5.18.0", True),
        ("5.18-rc1", True),
        ("5.17.9-generic", False),
        ("5.4.0-216-generic", False),
        ("4.18.0-553.el8.x86_64", False),
        ("10.0", True),
        ("7", True),
    ],
)
def test_kernels_that_tell_the_origin_of_addresses(
    release: str, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    uname = os.uname_result(("Linux", "node", release, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: uname)
    monkeypatch.setattr(addresses, "_origins", [])
    assert addresses._tells_origin() is tells
