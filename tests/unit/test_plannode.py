"""What the node has of its own over its pods' masters: which record counts, and what a repair does
about it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.network.model import IFF_UP, Address, HostLink, NodeLink, NodeLinks, Route, Vlan
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.route import AddRoute
from cni_repair.uplink.operations import AddShim, AddVlan, SetNodeLinkUp
from cni_repair.uplink.plan import READY, plan_parents
from cni_repair.uplink.plan_belongings import lacking, newest, plan_shims, with_belongings
from tests.unit.samples import LINK, MASTER, UPLINK
from tests.unit.test_commands import HOSTILE, spoken

CHAIN = (MASTER, UPLINK)
INNER = HostLink(
    "eth0.3.5", 6, "vlan", MASTER.mac, 1500, MASTER.flags, lower=MASTER.ifindex, vlan=Vlan(5)
)
OTHER_VLAN = replace(MASTER, name="eth0.4", vlan=Vlan(4))
OTHER_UPLINK = replace(UPLINK, name="eth1")
ADDRESSES = (
    Address(4, "10.161.72.250", 22, broadcast="10.161.75.255", label="eth0.3"),
    Address(6, "fd00::a", 64),
    Address(6, "fd00::b", 64),
)
NEAR = Route(4, "10.8.0.0/24", scope=253)
FAR = Route(4, "10.7.0.0/16", gateway="10.8.0.1", table=100)
ON_VLAN = NodeLink("eth0.3", ADDRESSES, (FAR, NEAR))
SHIM_LINK = replace(LINK, ifindex=0, mac="52:54:00:00:00:5e", mtu=1400, mode="private")
SHIM_ADDRESS = Address(4, "10.161.72.251", 32)
SHIM = NodeLink("shim0", (SHIM_ADDRESS,), (NEAR,), SHIM_LINK, "eth0.3")

ADD_VLAN = "ip link add link eth0 name eth0.3 type vlan id 3"
VLAN_UP = "ip link set dev eth0.3 up"
ADD_ADDRESSES = [
    "ip address add 10.161.72.250/22 broadcast 10.161.75.255 dev eth0.3",
    # the kernel puts the last one first
    "ip address add fd00::b/64 dev eth0.3",
    "ip address add fd00::a/64 dev eth0.3",
]
ADD_ROUTES = [
    "ip route add 10.8.0.0/24 dev eth0.3 scope link",
    "ip route add 10.7.0.0/16 via 10.8.0.1 dev eth0.3 table 100 scope global",
]
MAKE_SHIM = [
    "ip link add link eth0.3 name shim0 address 52:54:00:00:00:5e mtu 1400 txqueuelen 1000"
    " type macvlan mode private",
    "ip address add 10.161.72.251/32 dev shim0",
]
SHIM_UP = ["ip link set dev shim0 up", "ip route add 10.8.0.0/24 dev shim0 scope link"]


def commands(
    operations: Sequence[Operation],
) -> list[str]:
    return [step.describe("") for step in operations]


# --- VLANs --------------------------------------------------------------------------------------


def planned(*chain: HostLink, present: Sequence[HostLink]) -> list[str]:
    made = plan_parents(chain, {link.name: link for link in present})
    assert made.state == READY
    return commands(made.operations)


def test_all_that_a_vlan_can_have_is_made_again() -> None:
    vlan = Vlan(3, 0x88A8, 0x12, egress=((0, 3), (1, 2)), ingress=((5, 1),))
    wanted = replace(MASTER, vlan=vlan, mtu=1400, mac="52:54:00:00:00:99")
    assert planned(wanted, UPLINK, present=[UPLINK]) == [
        "ip link add link eth0 name eth0.3 address 52:54:00:00:00:99 mtu 1400 type vlan"
        " protocol 802.1ad id 3 reorder_hdr off gvrp on bridge_binding on"
        " egress-qos-map 0:3 1:2 ingress-qos-map 5:1",
        VLAN_UP,
    ]


def test_vlan_with_the_mac_of_its_card_gets_that_of_the_new_one() -> None:
    card = replace(UPLINK, mac="52:54:00:00:00:77", permanent_mac=None)
    assert planned(MASTER, replace(UPLINK, permanent_mac=None), present=[card])[0] == ADD_VLAN


def test_vlan_over_a_vlan_takes_its_mtu_and_mac() -> None:
    outer = replace(MASTER, mtu=1400, mac="52:54:00:00:00:99")
    inner = replace(INNER, mtu=1400, mac="52:54:00:00:00:99")
    assert planned(inner, outer, UPLINK, present=[UPLINK]) == [
        "ip link add link eth0 name eth0.3 address 52:54:00:00:00:99 mtu 1400 type vlan id 3",
        VLAN_UP,
        "ip link add link eth0.3 name eth0.3.5 type vlan id 5",
        "ip link set dev eth0.3.5 up",
    ]


def test_vlans_over_a_card_that_is_down_are_made_and_left_down() -> None:
    down = replace(UPLINK, flags=0)
    assert planned(INNER, MASTER, UPLINK, present=[down]) == [
        ADD_VLAN,
        "ip link add link eth0.3 name eth0.3.5 type vlan id 5",
    ]


def test_vlan_over_a_renamed_one_is_refused() -> None:
    """eth0.3 bears another name: what stands on it must not pass for a VLAN on the new one."""
    moved = replace(MASTER, name="vlan3")
    made = plan_parents(
        (INNER, MASTER, UPLINK), {"eth0.3.5": INNER, "vlan3": moved, "eth0": UPLINK}
    )
    assert made.reason == "eth0.3.5 exists over vlan3, not over eth0.3"


def test_vlan_of_another_namespace_is_waited_for() -> None:
    """Of a VLAN whose link is elsewhere (in a container that is a node) nothing below is known."""
    assert plan_parents((MASTER,), {"eth0.3": MASTER}).state == READY
    made = plan_parents((MASTER,), {})
    assert (made.state, made.operations) == ("missing", ())


# --- which record counts ------------------------------------------------------------------------


def record_of(seen_at: int, *links: NodeLink, chain: tuple[HostLink, ...] = CHAIN) -> tuple[
    tuple[HostLink, ...], NodeLinks
]:  # fmt: skip
    return chain, NodeLinks(seen_at, links)


def test_newest_record_counts() -> None:
    """The address was moved to another host since."""
    older, newer = record_of(1, ON_VLAN, SHIM), record_of(2, SHIM)
    for records in itertools.permutations([older, newer]):
        assert newest(CHAIN, records) == (SHIM,)


def test_record_that_nothing_is_there_counts() -> None:
    assert newest(CHAIN, [record_of(1, ON_VLAN), record_of(2)]) == ()


def test_records_of_other_chains_know_the_links_that_they_share() -> None:
    """A pod on eth0.4 knows nothing of eth0.3, but of shims over eth0."""
    over_eth0 = replace(SHIM, name="shim1", master="eth0")
    other = record_of(9, over_eth0, NodeLink("eth0.4", ADDRESSES), chain=(OTHER_VLAN, UPLINK))
    assert newest(CHAIN, [record_of(1, ON_VLAN), other]) == (ON_VLAN, over_eth0)
    assert newest(CHAIN, [other]) == (over_eth0,)
    assert newest((UPLINK,), [record_of(1, ON_VLAN, SHIM)]) == ()


def test_record_by_other_names_of_the_same_links_counts() -> None:
    """The card has a predictable name since, and its VLAN was made again under that."""
    card = replace(UPLINK, name="enp6s0f0np0", altnames=("eth0",))
    vlan = replace(MASTER, name="enp6s0f0np0.3")
    over_card = replace(SHIM, name="shim1", master="eth0")
    known = [record_of(1, ON_VLAN, SHIM, over_card)]
    assert newest((vlan, card), known) == (
        replace(ON_VLAN, name="enp6s0f0np0.3"),
        replace(SHIM, master="enp6s0f0np0.3"),
        replace(over_card, master="enp6s0f0np0"),
    )
    assert newest((replace(vlan, vlan=Vlan(4)), card), known) == (
        replace(over_card, master="enp6s0f0np0"),
    )
    assert newest((vlan, replace(card, altnames=())), known) == ()


def test_record_over_another_uplink_does_not_count() -> None:
    bridge = replace(UPLINK, name="br0", kind="bridge")
    assert newest(CHAIN, [record_of(1, NodeLink("br0", ADDRESSES), chain=(bridge, UPLINK))]) == ()
    assert newest(CHAIN, [record_of(1, ON_VLAN, chain=(MASTER, OTHER_UPLINK))]) == ()
    assert newest(CHAIN, []) == ()


# --- addresses and routes of VLANs --------------------------------------------------------------


def test_addresses_before_up_and_routes_after() -> None:
    made = plan_parents(CHAIN, {"eth0": UPLINK})
    steps = with_belongings(made.operations, (ON_VLAN, SHIM), {})
    assert commands(steps) == [ADD_VLAN, *ADD_ADDRESSES, VLAN_UP, *ADD_ROUTES]


def test_each_vlan_gets_its_own() -> None:
    on_inner = NodeLink("eth0.3.5", (SHIM_ADDRESS,))
    made = plan_parents((INNER, MASTER, UPLINK), {"eth0": UPLINK})
    assert commands(with_belongings(made.operations, (ON_VLAN, on_inner), {})) == [
        ADD_VLAN,
        *ADD_ADDRESSES,
        VLAN_UP,
        *ADD_ROUTES,
        "ip link add link eth0.3 name eth0.3.5 type vlan id 5",
        "ip address add 10.161.72.251/32 dev eth0.3.5",
        "ip link set dev eth0.3.5 up",
    ]


def test_over_a_card_that_is_down_they_are_given_at_once() -> None:
    made = plan_parents(CHAIN, {"eth0": replace(UPLINK, flags=0)})
    steps = with_belongings(made.operations, (ON_VLAN,), {})
    assert commands(steps) == [ADD_VLAN, *ADD_ADDRESSES, *ADD_ROUTES]


def test_vlan_that_a_killed_repair_left_down_gets_the_rest() -> None:
    made = plan_parents(CHAIN, {"eth0": UPLINK, "eth0.3": replace(MASTER, flags=0)})
    there = {"eth0.3": NodeLink("eth0.3", ADDRESSES[:1], ())}
    steps = with_belongings(made.operations, (ON_VLAN,), there)
    assert commands(steps) == [*ADD_ADDRESSES[1:], VLAN_UP, *ADD_ROUTES]


def test_vlan_that_is_up_gets_nothing_but_words() -> None:
    made = plan_parents(CHAIN, {"eth0": UPLINK, "eth0.3": MASTER})
    assert with_belongings(made.operations, (ON_VLAN,), {}) == ()
    lack = lacking((ON_VLAN,), {"eth0.3": NodeLink("eth0.3", ADDRESSES, (NEAR,))})
    assert commands(lack) == ADD_ROUTES[1:]
    assert lacking((ON_VLAN,), {}) == ()
    there = {one.name: NodeLink(one.name, ADDRESSES, (NEAR,)) for one in (ON_VLAN, SHIM)}
    lack = lacking((ON_VLAN, SHIM), there)
    assert commands(lack) == [*ADD_ROUTES[1:], "ip address add 10.161.72.251/32 dev shim0"]


@given(
    st.integers(0, 3),
    st.booleans(),
    st.lists(st.sampled_from([ON_VLAN, NodeLink("eth0.3.5", ADDRESSES[1:], (FAR,)), SHIM])),
    st.integers(0, 3),
)
def test_each_thing_is_given_once_and_nothing_else_changes(
    missing: int, card_up: bool, recorded: list[NodeLink], kept: int
) -> None:
    """The upper `missing` VLANs are gone; the others are down, with `kept` of their addresses."""
    chain = (INNER, MASTER, UPLINK)
    present = {"eth0": replace(UPLINK, flags=UPLINK.flags if card_up else 0)}
    present |= {link.name: replace(link, flags=0) for link in chain[min(missing, 2) : 2]}
    on_vlans = tuple(dict.fromkeys(recorded))
    there = {one.name: replace(one, addresses=one.addresses[:kept], routes=())
             for one in on_vlans if one.name in present}  # fmt: skip
    made = plan_parents(chain, present).operations
    steps = with_belongings(made, on_vlans, there)
    added = [step for step in steps if isinstance(step, (AddAddress, AddRoute))]
    assert tuple(step for step in steps if step not in added) == made
    touched = {step.ifname for step in made}
    wanted = {
        (one.name, thing)
        for one in on_vlans
        if one.shim is None and one.name in touched
        for thing in (*one.addresses, *one.routes)
        if one.name not in there or thing not in there[one.name].addresses
    }
    assert {(step.ifname, given_by(step)) for step in added} == wanted
    assert len(added) == len(wanted)
    for step in added:
        assert is_in_its_place(step, steps)


def given_by(step: AddAddress | AddRoute) -> Address | Route:
    return step.address if isinstance(step, AddAddress) else step.route


def is_in_its_place(step: AddAddress | AddRoute, steps: Sequence[Operation]) -> bool:
    """Addresses before the link is set up, routes after; both after it was made."""
    at, name = steps.index(step), step.ifname
    made = [n for n, one in enumerate(steps) if isinstance(one, AddVlan) and one.name == name]
    up = [n for n, one in enumerate(steps) if one == SetNodeLinkUp(name)]
    is_address = isinstance(step, AddAddress)
    return all(n < at for n in made) and all((at < n) == is_address for n in up)


# --- shims --------------------------------------------------------------------------------------

THERE = HostLink("shim0", 20, "macvlan", SHIM_LINK.mac, 1400, IFF_UP, lower=MASTER.ifindex)
PRESENT = {"eth0.3": MASTER, "eth0": UPLINK}


def one_shim(*links: HostLink, shim: NodeLink = SHIM, **there: NodeLink) -> tuple[str, list[str]]:
    present = {link.name: link for link in links}
    (made,) = plan_shims((ON_VLAN, shim), present, frozenset(), there)
    assert made.name == shim.name
    return made.finding, commands(made.operations)


def test_missing_shim_is_made() -> None:
    finding, steps = one_shim(MASTER)
    assert finding == "the node's shim0, a macvlan over eth0.3, is gone"
    assert steps == [*MAKE_SHIM, *SHIM_UP]


def test_shim_that_was_down_stays_down() -> None:
    assert one_shim(MASTER, shim=replace(SHIM, up=False))[1] == MAKE_SHIM
    down = replace(THERE, flags=0)
    present = {"eth0.3": MASTER, "shim0": down}
    assert plan_shims((replace(SHIM, up=False),), present, frozenset(), {}) == ()


def test_shim_over_a_vlan_that_comes_first() -> None:
    (made,) = plan_shims((SHIM,), {}, frozenset(["eth0.3"]), {})
    assert commands(made.operations) == [*MAKE_SHIM, *SHIM_UP]


@pytest.mark.parametrize(
    "present",
    [{}, {"shim0": THERE}, {**PRESENT, "shim0": THERE}],
    ids=["no master", "no master, but its name", "all there"],
)
def test_nothing_to_do_about_a_shim(present: dict[str, HostLink]) -> None:
    assert plan_shims((SHIM,), present, frozenset(), {}) == ()


def test_shim_that_a_killed_repair_left_down_gets_the_rest() -> None:
    down = replace(THERE, flags=0)
    finding, steps = one_shim(MASTER, down, shim0=NodeLink("shim0", (SHIM_ADDRESS,)))
    assert finding == "the node's shim0, a macvlan over eth0.3, is down"
    assert steps == SHIM_UP
    assert plan_shims((SHIM,), {"eth0.3": replace(MASTER, flags=0), "shim0": down},
        frozenset(), {}) == ()  # fmt: skip


@pytest.mark.parametrize(
    ("stranger", "what"),
    [
        (replace(THERE, kind="dummy", lower=0), "a dummy link over nothing"),
        (replace(THERE, kind="", lower=0), "a hardware link over nothing"),
        (replace(THERE, kind="ipvlan"), "a ipvlan link over eth0.3"),
        (replace(THERE, lower=UPLINK.ifindex), "a macvlan link over eth0"),
        (replace(THERE, lower=77), "a macvlan link over link 77"),
    ],
)
def test_link_of_the_shims_name_is_left_alone(stranger: HostLink, what: str) -> None:
    finding, steps = one_shim(MASTER, UPLINK, stranger)
    assert steps == []
    assert finding == (
        f"the node had shim0, a macvlan over eth0.3, which is {what} now: left alone"
    )


def test_link_of_the_shims_name_over_what_is_gone_is_left_alone() -> None:
    """Its VLAN is to be made: it stands on another one."""
    (made,) = plan_shims((SHIM,), {"shim0": THERE}, frozenset(["eth0.3"]), {})
    assert made.operations == ()
    assert made.finding.endswith("which is a macvlan link over link 5 now: left alone")


@pytest.mark.parametrize(
    "command",
    [
        AddShim(HOSTILE, "eth0.3", SHIM_LINK).describe(""),
        AddShim("shim0", HOSTILE, SHIM_LINK).describe(""),
        *commands(lacking((replace(ON_VLAN, name=HOSTILE),), {HOSTILE: NodeLink(HOSTILE)})),
    ],
)
def test_hostile_name_stays_one_word_in_a_shell(command: str) -> None:
    assert any(HOSTILE in word for word in spoken(command))
