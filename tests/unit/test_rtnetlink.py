"""Our netlink against pyroute2's: what we send, it must read."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from socket import AF_INET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from cni_repair.base.frozen import replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink, ack_in
from cni_repair.network import observe
from cni_repair.network.kernel import address, link, neighbour, route, rule
from cni_repair.network.kernel.link import link_request
from cni_repair.network.kernel.sysctl import BY_MESSAGE, sysctls_in
from cni_repair.network.model import IFF_UP, SETTABLE_FLAGS, Address, PodLink, Route, Vlan
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.base import Target
from cni_repair.network.operations.link import (
    AddAltname,
    AddPodLink,
    SetAddrGenMode,
    SetLink,
    SetSysctl,
    SetUp,
)
from cni_repair.network.operations.route import AddRoute
from cni_repair.uplink.operations import AddShim, AddVlan, SetNodeLinkUp
from tests.unit import strategies as our
from tests.unit.samples import LINK
from tests.unit.wire import (
    HEADER,
    NEW_EXCLUSIVE,
    attributes,
    indices,
    mtus,
    read_by_pyroute2,
    wheres,
    without_none,
)


@given(our.pod_links, wheres)
def test_pod_link_is_made_in_its_place(link: PodLink, where: Target) -> None:
    message = AddPodLink("eth0", "eth0.3", link).requests(where)[0]
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, NEW_EXCLUSIVE)
    assert (read["index"], read["flags"], read["change"]) == (link.ifindex, 0, 0)
    check_made_of(message.body, link)
    assert without_info(read) == without_none(
        IFLA_IFNAME="eth0",
        IFLA_LINK=where.master,
        IFLA_NET_NS_FD=where.netns,
        IFLA_ADDRESS=own_mac(link),
        IFLA_MTU=link.mtu or None,
        IFLA_TXQLEN=link.txqueuelen,
        IFLA_GROUP=link.group or None,
        **queues(link),
    )


def queues(link: PodLink) -> dict[str, int | None]:
    return {f"IFLA_{name.upper()}": getattr(link, name) for name in our.QUEUES}


def own_mac(link: PodLink) -> str | None:
    """An ipvlan has its master's, and refuses to be given one."""
    return link.mac if link.kind == "macvlan" else None


def info_of(body: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Kind and data of a link: pyroute2 does not know all of ipvlan's and macvlan's attributes."""
    info = nl.attributes_of(nl.attributes_of(body, 16)[18])
    return info[1], nl.attributes_of(info[2])


def check_made_of(body: bytes, link: PodLink) -> None:
    """By the numbers of include/uapi/linux/if_link.h."""
    kind, data = info_of(body)
    assert kind == link.kind.encode() + b"\0"
    if link.kind == "ipvlan":
        assert data == {
            1: struct.pack("=H", ["l2", "l3", "l3s"].index(link.mode)),
            2: struct.pack("=H", link.flags),
        }
        return
    mode = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}[link.mode]
    queue = {7: struct.pack("=I", link.bcqueuelen)} if link.bcqueuelen not in (0, 1000) else {}
    # What is left out stays as it is: to set them back to 0, they have to be said.
    assert data == {1: struct.pack("=I", mode), 2: struct.pack("=H", link.flags), **queue}


def test_unknown_values_of_a_seed_are_the_kernels_to_choose() -> None:
    link = PodLink(0, "", 0, "macvlan", "bridge", 0, 0)
    read = read_by_pyroute2(ifinfmsg, AddPodLink("eth0", "m", link).requests(Target(0, 5))[0])
    assert read["index"] == 0
    assert not {"IFLA_ADDRESS", "IFLA_MTU"} & attributes(read).keys()


@given(our.pod_links, indices)
def test_temporary_link_is_exclusive_and_down(link: PodLink, master: int) -> None:
    message = AddPodLink("eth0", "eth0.3", link).temporary("cnirep00000000", master)
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, NEW_EXCLUSIVE)
    assert (read["index"], read["flags"], read["change"]) == (0, 0, 0)
    check_made_of(message.body, link)
    assert without_info(read) == without_none(
        IFLA_IFNAME="cnirep00000000",
        IFLA_LINK=master,
        IFLA_ADDRESS=own_mac(link),
        IFLA_MTU=link.mtu or None,
        IFLA_TXQLEN=link.txqueuelen,
        IFLA_GROUP=link.group or None,
        **queues(link),
    )


@pytest.mark.parametrize(("queue", "asked"), [(0, False), (1000, False), (1, True), (1001, True)])
def test_queue_of_broadcasts_is_asked_for_where_it_is_not_the_usual(
    queue: int, asked: bool
) -> None:
    """Kernels before 5.12 ignore it."""
    link = replace(LINK, bcqueuelen=queue)
    _, data = info_of(AddPodLink("eth0", "m", link).requests(Target(7, 5))[0].body)
    assert data.get(7) == (struct.pack("=I", queue) if asked else None)


@given(our.pod_links, indices, st.integers(0, 1 << 20))
def test_temporary_link_is_moved_and_named_in_one_message(
    link: PodLink, ifindex: int, netns: int
) -> None:
    message = AddPodLink("eth0", "eth0.3", link).move(ifindex, netns)
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
    assert read["index"] == ifindex
    assert attributes(read) == without_none(
        IFLA_NET_NS_FD=netns, IFLA_IFNAME="eth0", IFLA_NEW_IFINDEX=link.ifindex or None
    )


@given(our.ifnames, our.vlans, mtus, indices, st.just("") | our.macs)
def test_vlan(ifname: str, vlan: Vlan, mtu: int, below: int, mac: str) -> None:
    message = AddVlan(ifname, "eth0", vlan, mtu, mac).requests(Target(0, below))[0]
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, NEW_EXCLUSIVE)
    info = dict(read.get_attr("IFLA_LINKINFO")["attrs"])
    data = dict(info["IFLA_INFO_DATA"]["attrs"])
    for kind, pairs in (("EGRESS", vlan.egress), ("INGRESS", vlan.ingress)):
        entries = data.pop(f"IFLA_VLAN_{kind}_QOS", {"attrs": []})["attrs"]
        assert [(one["from"], one["to"]) for _, one in entries] == [*pairs]
        assert {name for name, _ in entries} <= {"IFLA_VLAN_QOS_MAPPING"}
    assert info["IFLA_INFO_KIND"] == "vlan"
    assert data == {
        "IFLA_VLAN_ID": vlan.id,
        "IFLA_VLAN_PROTOCOL": vlan.protocol,
        # bridge_binding, which older kernels refuse, only where it is wanted
        "IFLA_VLAN_FLAGS": {"flags": vlan.flags, "mask": 0xF | vlan.flags},
    }
    assert without_info(read) == without_none(
        IFLA_IFNAME=ifname, IFLA_LINK=below, IFLA_MTU=mtu or None, IFLA_ADDRESS=mac or None
    )


def without_info(read: Any) -> dict[str, Any]:
    """A link's attributes but for those of its kind, where a name may stand twice."""
    return {name: value for name, value in read["attrs"] if name != "IFLA_LINKINFO"}


@given(our.ifnames, our.pod_links, indices)
def test_shim_is_made_in_the_node(name: str, link: PodLink, below: int) -> None:
    message = AddShim(name, "eth0.3", link).requests(Target(0, below))[0]
    assert message == AddPodLink("eth0", "eth0.3", link).temporary(name, below)


@given(our.addresses, our.single_routes)
def test_command_for_the_node_is_that_for_a_pod_without_its_namespace(
    address: Address, route: Route
) -> None:
    for step in (AddAddress("eth0.3", address), AddRoute("eth0.3", route)):
        assert step.describe("/n").replace("nsenter --net=/n ", "") == step.describe("")


@given(indices)
def test_up_changes_the_one_flag(ifindex: int) -> None:
    for message in (
        SetNodeLinkUp("eth0.3").requests(Target(ifindex, ifindex))[0],
        SetUp("eth0").requests(Target(ifindex, 5))[0],
    ):
        read = read_by_pyroute2(ifinfmsg, message)
        assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
        assert (read["index"], read["flags"], read["change"]) == (ifindex, IFF_UP, IFF_UP)
        assert attributes(read) == {}


SETTINGS = {
    "mac": ("IFLA_ADDRESS", "mac"),
    "mtu": ("IFLA_MTU", "mtu"),
    "txqueuelen": ("IFLA_TXQLEN", "txqueuelen"),
    "group": ("IFLA_GROUP", "group"),
    "alias": ("IFLA_IFALIAS", "alias"),
}


@given(our.pod_links, st.sampled_from(sorted(SETTINGS)), wheres)
def test_attribute_of_a_link_is_set_alone(link: PodLink, what: str, where: Target) -> None:
    message = SetLink("eth0", what, link).requests(where)[0]
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
    assert (read["index"], read["flags"], read["change"]) == (where.ifindex, 0, 0)
    name, field = SETTINGS[what]
    if what == "alias":  # pyroute2 takes its last byte for a NUL, which the kernel needs not
        assert nl.attributes_of(message.body, 16) == {20: link.alias.encode()}
    else:
        assert attributes(read) == {name: getattr(link, field)}


@given(our.pod_links, wheres)
def test_mode_of_a_link_is_set_with_its_flags_alone(link: PodLink, where: Target) -> None:
    message = SetLink("eth0", "mode", link).requests(where)[0]
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
    assert nl.attributes_of(message.body, 16).keys() == {18}
    check_made_of(message.body, replace(link, bcqueuelen=0))


@given(our.macvlans, wheres)
def test_queue_of_a_link_is_set_alone(link: PodLink, where: Target) -> None:
    message = SetLink("eth0", "bcqueuelen", link).requests(where)[0]
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
    assert info_of(message.body) == (b"macvlan\0", {7: struct.pack("=I", link.bcqueuelen)})


@pytest.mark.parametrize("what", SETTABLE_FLAGS)
@given(our.pod_links, wheres)
def test_one_flag_of_a_link_is_changed(what: str, link: PodLink, where: Target) -> None:
    message = SetLink("eth0", what, link).requests(where)[0]
    read = read_by_pyroute2(ifinfmsg, message)
    flag = SETTABLE_FLAGS[what]
    assert (message.type, message.flags, attributes(read)) == (rt.RTM_NEWLINK, 0, {})
    assert (read["index"], read["change"]) == (where.ifindex, flag)
    assert read["flags"] == (link.device_flags or 0) & flag


@given(our.altnames, wheres)
def test_name_is_added(altname: str, where: Target) -> None:
    message = AddAltname("eth0", altname).requests(where)[0]
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (108, NEW_EXCLUSIVE)  # RTM_NEWLINKPROP
    assert (read["index"], read["flags"], read["change"]) == (where.ifindex, 0, 0)
    assert attributes(read) == {"IFLA_PROP_LIST": {"IFLA_ALT_IFNAME": altname}}


@given(st.integers(0, 3), wheres)
def test_way_of_making_link_local_addresses(mode: int, where: Target) -> None:
    message = SetAddrGenMode("eth0", mode).requests(where)[0]
    read = read_by_pyroute2(ifinfmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
    assert (read["index"], read["flags"], read["change"]) == (where.ifindex, 0, 0)
    assert attributes(read) == {"IFLA_AF_SPEC": {"AF_INET6": {"IFLA_INET6_ADDR_GEN_MODE": mode}}}


@pytest.mark.parametrize("key", sorted(BY_MESSAGE))
def test_set_sysctl(key: str) -> None:
    """As read: AF_INET's array of all, from 1 on (pyroute2 knows no message that sets one)."""
    where = Target(ifindex=7, master=0)
    message = SetSysctl("eth0", key, "-2").requests(where)[0]
    assert (message.type, message.flags) == (rt.RTM_NEWLINK, 0)
    ifindex, flags, found = nl.unpack_link(message.body)
    assert (ifindex, flags) == (7, 0)
    (family, inside), *rest = nl.entries_of(found[rt.IFLA_AF_SPEC])
    assert (family, rest) == (AF_INET, [])
    (place, value) = nl.entries_of(nl.attributes_of(inside)[rt.IFLA_INET_CONF])[0]
    assert int.from_bytes(value, "little", signed=True) == -2
    array = [0] * 40
    array[place - 1] = -2
    inet = nl.attribute(rt.IFLA_INET_CONF, struct.pack("=40i", *array))
    assert dict(sysctls_in(nl.attribute(AF_INET, inet)))[key] == "-2"


@given(st.integers(0, 1 << 20))
def test_question_for_a_namespaces_id(fd: int) -> None:
    message = observe.netnsid_request(fd)
    assert message.type == rt.RTM_GETNSID
    assert attributes(read_by_pyroute2(nsidmsg, message)) == {"NETNSA_FD": fd}


@given(our.ifnames)
def test_question_for_a_link(name: str) -> None:
    by_name = attributes(read_by_pyroute2(ifinfmsg, link_request(name=name)))
    assert by_name == {"IFLA_IFNAME": name, "IFLA_EXT_MASK": 8}
    by_index = read_by_pyroute2(ifinfmsg, link_request(ifindex=7))
    assert (by_index["index"], attributes(by_index)) == (7, {"IFLA_EXT_MASK": 8})


def test_numbers_of_a_links_attributes_are_the_kernels() -> None:
    theirs = {nla[0]: number for number, nla in enumerate(ifinfmsg.nla_map)}
    ours = {name: number for name, number in vars(rt).items() if name in theirs}
    assert len(ours) > 30
    assert ours == {name: theirs[name] for name in ours}


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
    ack = ack_in(flags, struct.pack("=i", -errno.EINVAL) + header + tail)
    assert ack == Ack(errno.EINVAL, words)
    assert str(ack) == ("Invalid argument" + (f" ({words})" if words else ""))


_LINK = nl.link_body(5, 0, 0, nl.text(rt.IFLA_IFNAME, "a"))  # without an MTU
_VLAN = nl.u32(rt.IFLA_MTU, 1500) + nl.link_info("vlan", b"")  # without its id
_IPV4 = nl.address_body(2, 24, 0, 0, 5, b"")  # without its lifetimes


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (link.name_in, b""),
        (link.host_link, _LINK),
        (link.host_link, _LINK + _VLAN),
        (link.live_link, _LINK),
        (lambda body: address.addresses_in([body], 5, ""), b""),
        (lambda body: address.addresses_in([body], 5, ""), _IPV4),
        (lambda body: route.routes_in([body], 5, str), b"\2"),
        (lambda body: rule.rules_in([body]), b"\2"),
        (lambda body: neighbour.neighbours_in([body], 5), b"\2"),
        (neighbour.is_permanent, b"\2"),
        (observe.netnsid_in, b""),
        (observe.netnsid_in, bytes(4) + nl.attribute(rt.NETNSA_NSID, b"\1")),
        (nl.unpack_link, b"\2"),
        (nl.is_about_bridge_port, b""),
        (lambda body: ack_in(0, body), b"\1"),
        (lambda body: ack_in(0x200, body), b"\xff\xff\xff\xff"),
        (lambda body: ack_in(0, body), struct.pack("=i", -(1 << 31))),
        (lambda body: ack_in(0, body), struct.pack("=i", 1)),
    ],
)
def test_answer_that_no_kernel_gives_is_one_error(
    read: Callable[[bytes], object], body: bytes
) -> None:
    with pytest.raises(nl.Malformed, match="not understood") as caught:
        read(body)
    assert caught.value.details


@given(st.binary().filter(lambda raw: not raw.endswith(b"\0")))
def test_names_of_any_bytes_stay_what_they_are(raw: bytes) -> None:
    assert nl.raw_string(nl.string_of(raw + b"\0")) == raw


def test_names_do_not_depend_on_the_locale() -> None:
    """Kubelet's is not the engineer's: os.fsdecode() would read "m\xfcller0" by the one, and not by
    the other."""
    assert nl.string_of("müller0".encode() + b"\0") == "müller0"
    assert nl.string_of(b"m\xfcller0\0") == "m\udcfcller0"


def test_nothing_to_ask_or_to_do_is_no_message() -> None:
    """The kernel refuses an empty one with ENODATA."""
    with Rtnetlink() as rtnl:
        assert rtnl.get([]) == []
        assert rtnl.send([]) == []
