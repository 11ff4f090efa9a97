"""Our netlink against pyroute2's: what we send, it must read; what it writes, we must read."""

from __future__ import annotations

import errno
import socket
import struct
from _socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_repair.network import announce, neighbours, observe, rules
from cni_repair.network import rtnetlink as nl
from cni_repair.network.nodeoperations import (
    AddVlan,
    SetNodeLinkUp,
)
from cni_repair.network.operations import (
    AddAddress,
    AddMacvlan,
    AddRoute,
    AddRule,
    DropRoute,
    SetNeighbour,
    SetUp,
    Where,
)
from cni_repair.network.state import (
    FOREVER,
    IFF_RUNNING,
    IFF_UP,
    MACVLAN_MODES,
    Address,
    HostLink,
    LiveLink,
    Neighbour,
    PodLink,
    Route,
    Rule,
    Vlan,
)
from cni_repair.record import replace
from tests.unit import strategies as our
from tests.unit.samples import ADDRESS_6, LINK, RULE

HEADER = 16
NEW_EXCLUSIVE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
FAMILIES = {4: AF_INET, 6: AF_INET6}
Attributes = list[tuple[str, Any]]


def read_by_pyroute2(kind: Any, message: nl.Message) -> Any:
    """Our message as pyroute2 understands it."""
    length = HEADER + len(message.body)
    raw = struct.pack("=IHHII", length, message.type, message.flags, 1, 0) + message.body
    read = kind(raw)
    read.decode()
    assert read["header"]["length"] == len(raw)
    return read


def attributes(read: Any) -> dict[str, Any]:
    """Its attributes by name; nested ones alike."""
    found = {}
    for name, value in read["attrs"]:
        nested = isinstance(value, dict) and "attrs" in value
        assert name not in found, f"{name} stands twice"
        found[name] = attributes(value) if nested else value
    return found


def written_by_pyroute2(kind: Any, attrs: Attributes, **fields: int) -> bytes:
    """The body of pyroute2's message: what the kernel would have sent."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)[HEADER:]


def without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


indices = st.integers(1, 0x7FFFFFFF)
wheres = st.builds(Where, indices, indices, st.integers(0, 0x7FFFFFFF))
mtus = st.integers(0, 0xFFFFFFFF)


# --- what we send -------------------------------------------------------------------------------


@given(our.pod_links, wheres)
def test_macvlan_is_made_in_its_place(link: PodLink, where: Where) -> None:
    message = AddMacvlan("eth0", "eth0.3", link).message(where)
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWLINK, NEW_EXCLUSIVE)
    assert (read["index"], read["flags"], read["change"]) == (link.ifindex, 0, 0)
    found = attributes(read)
    check_made_of(found.pop("IFLA_LINKINFO"), link)
    assert found == without_none(
        IFLA_IFNAME="eth0",
        IFLA_LINK=where.master,
        IFLA_LINK_NETNSID=where.node_netnsid,
        IFLA_ADDRESS=link.mac,
        IFLA_MTU=link.mtu or None,
        IFLA_TXQLEN=link.txqueuelen,
    )


def check_made_of(info: dict[str, Any], link: PodLink) -> None:
    data = info["IFLA_INFO_DATA"]
    assert info["IFLA_INFO_KIND"] == "macvlan"
    assert data["IFLA_MACVLAN_MODE"] == link.mode
    assert ("IFLA_MACVLAN_FLAGS" in data) == bool(link.flags)


def test_unknown_values_of_a_seed_are_the_kernels_to_choose() -> None:
    link = PodLink(0, "", 0, "macvlan", "bridge", 0, 0)
    read = read_by_pyroute2(ifinfmsg, AddMacvlan("eth0", "m", link).message(Where(0, 5, 0)))
    assert read["index"] == 0
    assert not {"IFLA_ADDRESS", "IFLA_MTU"} & attributes(read).keys()


@given(our.pod_links, indices)
def test_temporary_link_is_exclusive_and_down(link: PodLink, master: int) -> None:
    message = AddMacvlan("eth0", "eth0.3", link).temporary("cnirep00000000", master)
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWLINK, NEW_EXCLUSIVE)
    assert (read["index"], read["flags"], read["change"]) == (0, 0, 0)
    found = attributes(read)
    check_made_of(found.pop("IFLA_LINKINFO"), link)
    assert found == without_none(
        IFLA_IFNAME="cnirep00000000",
        IFLA_LINK=master,
        IFLA_ADDRESS=link.mac,
        IFLA_MTU=link.mtu or None,
        IFLA_TXQLEN=link.txqueuelen,
    )


@given(our.pod_links, indices, st.integers(0, 1 << 20))
def test_temporary_link_is_moved_and_named_in_one_message(
    link: PodLink, ifindex: int, netns: int
) -> None:
    message = AddMacvlan("eth0", "eth0.3", link).move(ifindex, netns)
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWLINK, 0)
    assert read["index"] == ifindex
    assert attributes(read) == without_none(
        IFLA_NET_NS_FD=netns, IFLA_IFNAME="eth0", IFLA_NEW_IFINDEX=link.ifindex or None
    )


@given(our.ifnames, our.vlans, mtus, indices)
def test_vlan(name: str, vlan: Vlan, mtu: int, below: int) -> None:
    message = AddVlan(name, "eth0", vlan, mtu).message(below)
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWLINK, NEW_EXCLUSIVE)
    data = {
        "IFLA_VLAN_ID": vlan.id,
        "IFLA_VLAN_PROTOCOL": vlan.protocol,
        "IFLA_VLAN_FLAGS": {"flags": vlan.flags, "mask": 0xF},
    }
    assert attributes(read) == without_none(
        IFLA_IFNAME=name,
        IFLA_LINK=below,
        IFLA_MTU=mtu or None,
        IFLA_LINKINFO={"IFLA_INFO_KIND": "vlan", "IFLA_INFO_DATA": data},
    )


@given(indices)
def test_up_changes_the_one_flag(ifindex: int) -> None:
    for message in (
        SetNodeLinkUp("eth0.3").message(ifindex),
        SetUp("eth0").message(Where(ifindex, 5, 0)),
    ):
        read = read_by_pyroute2(ifinfmsg, message)
        assert (message.type, message.flags) == (nl.RTM_NEWLINK, 0)
        assert (read["index"], read["flags"], read["change"]) == (ifindex, IFF_UP, IFF_UP)
        assert attributes(read) == {}


@given(our.addresses, wheres)
def test_address(address: Address, where: Where) -> None:
    message = AddAddress("eth0", address).message(where)
    read = read_by_pyroute2(ifaddrmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWADDR, NEW_EXCLUSIVE)
    assert (read["family"], read["prefixlen"]) == (FAMILIES[address.family], address.prefix)
    assert (read["scope"], read["index"]) == (address.scope, where.ifindex)
    found = attributes(read)
    lifetimes = found.pop("IFA_CACHEINFO", {"ifa_valid": FOREVER, "ifa_preferred": FOREVER})
    assert (lifetimes["ifa_valid"], lifetimes["ifa_preferred"]) == (
        address.valid,
        address.preferred,
    )
    assert found == without_none(
        IFA_LOCAL=address.address,
        IFA_ADDRESS=address.peer or address.address,
        IFA_BROADCAST=address.broadcast,
        IFA_LABEL=address.label,
        IFA_FLAGS=address.flags or None,
    )


METRICS = {
    "RTAX_MTU": 2, "RTAX_WINDOW": 3, "RTAX_RTT": 4, "RTAX_RTTVAR": 5, "RTAX_SSTHRESH": 6,
    "RTAX_CWND": 7, "RTAX_ADVMSS": 8, "RTAX_REORDERING": 9, "RTAX_HOPLIMIT": 10,
    "RTAX_INITCWND": 11, "RTAX_FEATURES": 12, "RTAX_RTO_MIN": 13, "RTAX_INITRWND": 14,
    "RTAX_QUICKACK": 15,
}  # fmt: skip


@given(our.routes, wheres)
def test_route(route: Route, where: Where) -> None:
    message = AddRoute("eth0", route).message(where)
    read = read_by_pyroute2(rtmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWROUTE, NEW_EXCLUSIVE)
    dst, _, prefix = route.dst.partition("/")
    assert (read["family"], read["dst_len"]) == (FAMILIES[route.family], int(prefix))
    assert (read["src_len"], read["tos"], read["proto"]) == (0, route.tos, route.protocol)
    assert (read["scope"], read["type"]) == (route.scope, route.type)
    assert read["table"] == (route.table if route.table < 256 else 0)
    assert read["flags"] == (4 if route.onlink else 0)
    found = attributes(read)
    metrics = found.pop("RTA_METRICS", {})
    assert {METRICS[name]: value for name, value in metrics.items()} == dict(route.metrics)
    foreign = route.family == 4 and ":" in (route.gateway or "")
    assert found == without_none(
        RTA_OIF=where.ifindex,
        RTA_TABLE=route.table,
        RTA_DST=dst if int(prefix) else None,
        RTA_GATEWAY=None if foreign else route.gateway,
        RTA_VIA={"family": AF_INET6, "addr": route.gateway} if foreign else None,
        RTA_PRIORITY=route.metric or None,
        RTA_PREFSRC=route.prefsrc,
    )


@given(our.routes, wheres)
def test_route_is_dropped_by_what_it_is_added_by(route: Route, where: Where) -> None:
    message = DropRoute("eth0", route).message(where)
    assert (message.type, message.flags) == (nl.RTM_DELROUTE, 0)
    assert message.body == AddRoute("eth0", route).message(where).body


def length_of(prefix: str | None) -> int:
    return int(prefix.rpartition("/")[2]) if prefix else 0


def address_of(prefix: str | None) -> str | None:
    return prefix.rpartition("/")[0] if prefix else None


def span(ends: tuple[int, int] | None) -> str | None:
    return f"{ends[0]}:{ends[1]}" if ends else None


@given(our.rules, wheres)
def test_rule(rule: Rule, where: Where) -> None:
    message = AddRule(rule).message(where)
    read = read_by_pyroute2(fibmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWRULE, NEW_EXCLUSIVE)
    assert (read["family"], read["action"]) == (FAMILIES[rule.family], rule.action)
    assert (read["dst_len"], read["src_len"]) == (length_of(rule.dst), length_of(rule.src))
    assert read["table"] == (rule.table if rule.table < 256 else 0)
    assert (read["tos"], read["flags"]) == (rule.tos, 2 if rule.invert else 0)
    marked = rule.fwmark or rule.fwmask
    assert attributes(read) == without_none(
        FRA_PRIORITY=rule.priority,
        FRA_TABLE=rule.table,
        FRA_SRC=address_of(rule.src),
        FRA_DST=address_of(rule.dst),
        FRA_IIFNAME=rule.iif,
        FRA_OIFNAME=rule.oif,
        FRA_FWMARK=rule.fwmark if marked else None,
        FRA_FWMASK=rule.fwmask if marked else None,
        FRA_SUPPRESS_PREFIXLEN=rule.suppress_prefixlength,
        FRA_IP_PROTO=rule.ip_proto or None,
        FRA_PROTOCOL=rule.protocol or None,
        FRA_SPORT_RANGE=span(rule.sport),
        FRA_DPORT_RANGE=span(rule.dport),
        FRA_UID_RANGE=span(rule.uid_range),
    )


@given(our.neighbours, wheres)
def test_neighbour(neighbour: Neighbour, where: Where) -> None:
    message = SetNeighbour("eth0", neighbour).message(where)
    read = read_by_pyroute2(ndmsg, message)
    assert (message.type, message.flags) == (nl.RTM_NEWNEIGH, 0x500)  # create, replace
    assert (read["family"], read["ifindex"]) == (FAMILIES[neighbour.family], where.ifindex)
    proxy = neighbour.mac is None
    assert (read["state"], read["flags"]) == (
        0 if proxy else 0x80,
        neighbour.flags | (0x08 if proxy else 0),
    )
    assert attributes(read) == without_none(
        NDA_DST=neighbour.address,
        NDA_LLADDR=neighbour.mac,
        NDA_PROTOCOL=neighbour.protocol or None,
    )


@given(st.integers(0, 1 << 20))
def test_question_for_a_namespaces_id(fd: int) -> None:
    message = observe.netnsid_request(fd)
    assert message.type == nl.RTM_GETNSID
    assert attributes(read_by_pyroute2(nsidmsg, message)) == {"NETNSA_FD": fd}


@given(our.ifnames)
def test_question_for_a_link(name: str) -> None:
    by_name = attributes(read_by_pyroute2(ifinfmsg, observe._get_link(name=name)))
    assert by_name == {"IFLA_IFNAME": name, "IFLA_EXT_MASK": 8}
    by_index = read_by_pyroute2(ifinfmsg, observe._get_link(ifindex=7))
    assert (by_index["index"], attributes(by_index)) == (7, {"IFLA_EXT_MASK": 8})


# --- what we read -------------------------------------------------------------------------------

kernel_vlans = st.builds(
    Vlan,
    id=st.integers(1, 4094),
    protocol=st.sampled_from([0x8100, 0x88A8]),
    flags=st.integers(0, 15),
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


def raw_mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


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
    read = observe._host_link(body)
    assert read == replace(link, kind="vlan" if link.vlan else "")


def vlan_info(vlan: Vlan) -> dict[str, Attributes]:
    flags = {"flags": vlan.flags, "mask": 0xFFFFFFFF}
    data: Attributes = [
        ("IFLA_VLAN_PROTOCOL", vlan.protocol),
        ("IFLA_VLAN_ID", vlan.id),
        ("IFLA_VLAN_FLAGS", flags),
    ]
    return {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", {"attrs": data})]}


@given(our.pod_links, indices, our.optional(our.s31), st.booleans(), st.booleans())
def test_pod_link_as_the_kernel_shows_it(
    link: PodLink, master: int, netnsid: int | None, up: bool, carrier: bool
) -> None:
    data: Attributes = [("IFLA_MACVLAN_MODE", link.mode)]
    info: Attributes = [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": data})]
    attrs: Attributes = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_TXQLEN", link.txqueuelen),
        ("IFLA_MTU", link.mtu),
        ("IFLA_LINK", master),
        ("IFLA_ADDRESS", link.mac),
        ("IFLA_LINKINFO", {"attrs": info}),
    ]
    if netnsid is not None:
        attrs.append(("IFLA_LINK_NETNSID", netnsid))
    flags = (IFF_UP if up else 0) | (IFF_RUNNING if carrier else 0) | 0x1002
    body = written_by_pyroute2(ifinfmsg, attrs, index=link.ifindex, flags=flags)
    expected = replace(link, flags=0)
    assert observe.live_link(body) == LiveLink("eth0", expected, up, carrier, master, netnsid)


@given(our.pod_links, wheres)
def test_pod_link_that_we_make_is_read_back_as_it_was(link: PodLink, where: Where) -> None:
    link = replace(link, mtu=link.mtu or 1500)  # 0 leaves it to the kernel
    made = observe.live_link(AddMacvlan("eth0", "eth0.3", link).message(where).body)
    assert made == LiveLink("eth0", link, False, False, where.master, where.node_netnsid)


@pytest.mark.parametrize("mode", MACVLAN_MODES.values())
def test_macvlan_modes_are_the_kernels(mode: str) -> None:
    link = PodLink(7, LINK.mac, 1500, "macvlan", mode, 0, 0)
    read = read_by_pyroute2(ifinfmsg, AddMacvlan("eth0", "m", link).message(Where(7, 5, 0)))
    assert attributes(read)["IFLA_LINKINFO"]["IFLA_INFO_DATA"]["IFLA_MACVLAN_MODE"] == mode


def test_link_of_another_kind_has_no_mode() -> None:
    info = {"attrs": [("IFLA_INFO_KIND", "dummy")]}
    attrs = [("IFLA_IFNAME", "eth0"), ("IFLA_MTU", 1500), ("IFLA_LINKINFO", info)]
    live = observe.live_link(written_by_pyroute2(ifinfmsg, attrs, index=7))
    assert live is not None
    assert (live.link.kind, live.link.mode, live.link.mac) == ("dummy", "", "")
    assert (live.master, live.master_netnsid) == (0, None)


@given(our.addresses, indices, st.sampled_from([0, 0x01, 0x08, 0x20, 0x40, 0x80]))
def test_address_as_the_kernel_shows_it(address: Address, ifindex: int, derived: int) -> None:
    flags = address.flags | derived
    attrs: Attributes = [
        ("IFA_ADDRESS", address.peer or address.address),
        ("IFA_LOCAL", address.address),
        ("IFA_FLAGS", flags),
        ("IFA_CACHEINFO", {"ifa_valid": address.valid, "ifa_preferred": address.preferred}),
    ]
    if address.broadcast:
        attrs.append(("IFA_BROADCAST", address.broadcast))
    if address.label:
        attrs.append(("IFA_LABEL", address.label))
    body = written_by_pyroute2(
        ifaddrmsg, attrs, family=FAMILIES[address.family], prefixlen=address.prefix,
        scope=address.scope, index=ifindex, flags=flags & 0xFF,
    )  # fmt: skip
    family, prefix, scope, found, ours = nl.unpack_address(body)
    assert found == ifindex
    read = observe._address(family, prefix, scope, flags, ours)
    if address.peer == address.address:
        address = replace(address, peer=None)
    assert read == address


@given(our.routes, indices, st.booleans())
def test_route_as_the_kernel_shows_it(route: Route, ifindex: int, zero_dst: bool) -> None:
    dst, _, prefix = route.dst.partition("/")
    attrs: Attributes = [("RTA_TABLE", route.table), ("RTA_OIF", ifindex)]
    if int(prefix):
        attrs.append(("RTA_DST", dst))
    else:
        dst = "0.0.0.0" if route.family == 4 else "::"
    if route.gateway and (route.family == 6 or ":" not in route.gateway):
        attrs.append(("RTA_GATEWAY", route.gateway))
    elif route.gateway:
        attrs.append(("RTA_VIA", {"family": AF_INET6, "addr": route.gateway}))
    if route.metric or zero_dst:
        attrs.append(("RTA_PRIORITY", route.metric))
    if route.prefsrc:
        attrs.append(("RTA_PREFSRC", route.prefsrc))
    if route.metrics:
        names = {number: name for name, number in METRICS.items()}
        nested = [(names[key], value) for key, value in route.metrics]
        attrs.append(("RTA_METRICS", {"attrs": nested}))
    body = written_by_pyroute2(
        rtmsg, attrs, family=FAMILIES[route.family], dst_len=int(prefix), tos=route.tos,
        table=route.table if route.table < 256 else 252, proto=route.protocol, scope=route.scope,
        type=route.type, flags=4 if route.onlink else 0,
    )  # fmt: skip
    read = observe._route(*nl.unpack_route(body))
    assert read == replace(route, dst=f"{dst}/{prefix}")


@given(our.routes, wheres)
def test_route_that_we_add_is_read_back_as_it_was(route: Route, where: Where) -> None:
    read = observe._route(*nl.unpack_route(AddRoute("eth0", route).message(where).body))
    _, _, prefix = route.dst.partition("/")
    dst = route.dst if int(prefix) else read.dst
    assert read == replace(route, dst=dst)


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
    assert rules.rule_in(kernels_rule(rule, flags=flags)) == rule


@given(our.rules, wheres)
def test_rule_that_we_add_is_read_back_as_it_was(rule: Rule, where: Where) -> None:
    assert rules.rule_in(AddRule(rule).message(where).body) == rule


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
    assert rules.rule_in(kernels_rule(RULE)) == RULE
    assert rules.rule_in(kernels_rule(RULE, *more, **fields)) is None


@pytest.mark.parametrize(
    ("mask", "known"), [(b"\xff\xff", True), (b"\xff\xf0", False)], ids=["one-port", "ports"]
)
def test_port_mask_of_newer_kernels(mask: bytes, known: bool) -> None:
    """FRA_SPORT_MASK, 6.15: all ones for a single port, where nobody asked for a mask."""
    rule = replace(RULE, sport=(80, 80))
    body = kernels_rule(rule) + nl.attribute(28, mask)
    assert rules.rule_in(body) == (rule if known else None)


def test_attribute_of_a_future_kernel_is_not_dropped() -> None:
    assert rules.rule_in(kernels_rule(RULE) + nl.u32(77, 1)) is None


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
    assert neighbours.neighbour_in(body, ifindex) == neighbour
    assert neighbours.neighbour_in(body, ifindex + 1) is None


@given(our.neighbours, wheres)
def test_neighbour_that_we_make_is_read_back_as_it_was(neighbour: Neighbour, where: Where) -> None:
    body = SetNeighbour("eth0", neighbour).message(where).body
    assert neighbours.neighbour_in(body, where.ifindex) == neighbour


def test_neighbour_without_an_ethernet_address_is_none_of_ours() -> None:
    attrs: Attributes = [("NDA_DST", "10.0.0.1")]
    body = written_by_pyroute2(ndmsg, attrs, family=AF_INET, ifindex=7, state=0x80)
    assert neighbours.neighbour_in(body, 7) is None


@pytest.mark.parametrize(("netnsid", "meaning"), [(0, 0), (7, 7), (-1, None)])
def test_netns_id(netnsid: int, meaning: int | None) -> None:
    body = written_by_pyroute2(nsidmsg, [("NETNSA_NSID", netnsid & 0xFFFFFFFF)])
    assert observe.netnsid_in(body) == meaning


def test_link_that_is_not_there() -> None:
    refusal = nl.Refusal(errno.ENODEV, "")
    assert observe._host_link(refusal) is None
    assert observe.live_link(refusal) is None


# --- bytes --------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_attributes_of_any_bytes_end(data: bytes) -> None:
    assert all(len(value) <= len(data) for value in nl.attributes_of(data).values())


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=6))
def test_attributes_are_read_as_written(values: dict[int, bytes]) -> None:
    data = b"".join(nl.attribute(kind, payload) for kind, payload in values.items())
    assert len(data) % 4 == 0
    assert nl.attributes_of(data) == values


def test_flags_of_an_attributes_type_are_no_part_of_it() -> None:
    nested, network_order = 0x8000, 0x4000
    for flag in (nested, network_order):
        assert nl.attributes_of(nl.attribute(18 | flag, b"x")) == {18: b"x"}


@pytest.mark.parametrize(
    ("flags", "tail", "words"),
    [
        (0, b"", ""),
        (0x200, b"", ""),
        (0x200 | 0x100, nl.attribute(1, b"Invalid MTU\0"), "Invalid MTU"),
        (0x200, b"\0" * 4 + nl.attribute(1, b"Invalid MTU\0"), "Invalid MTU"),
    ],
    ids=["plain", "no-words", "capped", "with-the-request"],
)
def test_refusal_in_the_kernels_words(flags: int, tail: bytes, words: str) -> None:
    request_length = HEADER if flags & 0x100 else HEADER + 4
    header = struct.pack("=IHHII", request_length, 16, 0, 1, 0)
    refusal = nl._refusal(flags, struct.pack("=i", -errno.EINVAL) + header + tail)
    assert refusal == nl.Refusal(errno.EINVAL, words)
    assert str(refusal) == ("Invalid argument" + (f" ({words})" if words else ""))


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("52:54:00:00:00:01", "fe80::5054:ff:fe00:1"),
        ("6e:92:1a:b4:fc:34", "fe80::6c92:1aff:feb4:fc34"),
        ("", ""),
    ],
)
def test_link_local_address_of_a_mac(mac: str, address: str) -> None:
    assert observe.link_local_of(mac) == address


@pytest.mark.parametrize(
    ("address", "flags", "more", "made_by_kernel"),
    [
        ("10.0.0.1", 0x80, {}, False),
        ("fd00::1", 0x80, {}, False),
        ("fd00::1", 0x80, {nl.IFA_PROTO: b"\0"}, False),
        ("fd00::1", 0x80, {nl.IFA_PROTO: b"\2"}, True),
        ("fd00::1", 0x00, {}, True),
        ("fe80::6c92:1aff:feb4:fc34", 0x80, {}, True),
        ("fe80::1", 0x80, {}, False),
    ],
    ids=["ipv4", "static", "static-5.18", "from-ra-5.18", "from-ra", "derived", "link-local"],
)
def test_what_the_kernel_makes_by_itself(
    address: str, flags: int, more: dict[int, bytes], made_by_kernel: bool
) -> None:
    family = 6 if ":" in address else 4
    one = Address(family, address, 64 if family == 6 else 24)
    assert observe._made_by_kernel(one, flags, more, LINK.mac) == made_by_kernel


# --- announcements ------------------------------------------------------------------------------


def internet_sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def test_gratuitous_arp() -> None:
    mac, own = raw_mac(LINK.mac), inet_pton(AF_INET, "10.0.0.9")
    frame = announce.gratuitous_arp(mac, Address(4, "10.0.0.9", 24))
    assert frame[:14] == b"\xff" * 6 + mac + b"\x08\x06"
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert frame[22:] == mac + own + bytes(6) + own


@given(our.ips(6), our.macs)
def test_unsolicited_advertisement(own: str, mac: str) -> None:
    frame = announce.unsolicited_na(raw_mac(mac), Address(6, own, 64))
    packet, message = frame[14:54], frame[54:]
    assert frame[:14] == bytes.fromhex("333300000001") + raw_mac(mac) + b"\x86\xdd"
    assert struct.unpack("!HBB", packet[4:8]) == (len(message), socket.IPPROTO_ICMPV6, 255)
    assert packet[8:40] == inet_pton(AF_INET6, own) + inet_pton(AF_INET6, "ff02::1")
    assert (message[0], message[4], message[8:24]) == (136, 0x20, inet_pton(AF_INET6, own))
    assert message[24:] == b"\x02\x01" + raw_mac(mac)
    pseudo_header = packet[8:40] + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    assert internet_sum(pseudo_header + message) == 0xFFFF


def test_sample_address_is_announced() -> None:
    assert announce.unsolicited_na(raw_mac(LINK.mac), ADDRESS_6)
