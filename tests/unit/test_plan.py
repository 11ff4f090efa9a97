"""Planning against golden folders: golden/<case>/{desired.json, observed.json, plan.txt}.

desired.json    the attachment, in the checkpoint's own form
observed.json   {"hostNetnsid", "link": {"name", "up", "carrier", "master", "masterNetnsid",
                "sysctls", and the keys of a checkpoint's link} or null, "addresses", "routes",
                "rules", "neighbours", "tentative", "dadfailed", "ifindexTakenBy", "atIfindex" (as
                "link"), "addressesByKernel", "routesByKernel", "links": [[name, index], …],
                "master": the node's link now, or null}; what is absent is empty
plan.txt        the state, "- " and a finding a line, then the commands
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cni_repair.base.frozen import fields, replace
from cni_repair.base.kinds import camel
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.model import (
    IFF_UP,
    Address,
    Attachment,
    Hop,
    HostLink,
    Neighbour,
    PodLink,
    Route,
    Rule,
    Vlan,
)
from cni_repair.network.observed import Observed
from cni_repair.network.operations.link import AddPodLink
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.planning.plan import (
    DEGRADED,
    FOREIGN,
    HEALTHY,
    LOST,
    RENAMED,
    Plan,
    plan,
    with_extras,
)
from cni_repair.uplink import plan as uplink_plan
from cni_repair.uplink.plan import (
    MISSING,
    READY,
    REFUSED,
    ParentPlan,
    is_recorded_card,
    plan_parents,
    renamed,
    same_card,
    same_device,
    same_vlan,
)
from tests.unit.samples import (
    ADDRESS,
    ADDRESS_6,
    ATTACHMENT,
    LINK,
    MASTER,
    NETNS,
    NODE_NETNSID,
    ROUTE,
    ROUTE_6,
    UPLINK,
    as_desired,
    live,
)
from tests.unit.simulator import complete

T = TypeVar("T")
GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def read(cls: type[T], value: dict[str, Any]) -> T:
    """A record of which JSON has the fields, in lower camel case."""
    names = {camel(name): name for name in fields(cls)}
    return cls(**{names[key]: tuples(one) for key, one in value.items()})


def tuples(value: Any) -> Any:
    return tuple(tuples(one) for one in value) if isinstance(value, list) else value


def read_host_link(value: dict[str, Any]) -> HostLink:
    vlan = read(Vlan, value["vlan"]) if "vlan" in value else None
    return read(HostLink, {**value, "vlan": vlan})


def read_live_link(value: dict[str, Any]) -> LiveLink:
    link = {key: one for key, one in value.items() if key in map(camel, fields(PodLink))}
    rest = {key: one for key, one in value.items() if key not in link}
    sysctls = [*rest.pop("sysctls", {}).items()]
    return read(LiveLink, {**rest, "sysctls": sysctls, "link": read(PodLink, link)})


def read_route(value: dict[str, Any]) -> Route:
    hops = [read(Hop, one) for one in value.get("hops", [])]
    return read(Route, {**value, "hops": hops})


ENTRIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "addresses": partial(read, Address),
    "addressesByKernel": partial(read, Address),
    "routes": read_route,
    "absentRoutes": read_route,
    "rules": partial(read, Rule),
    "neighbours": partial(read, Neighbour),
}


def with_entries(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its entries read."""
    entries = {key: [*map(one, document[key])] for key, one in ENTRIES.items() if key in document}
    return {**document, **entries}


def read_desired(case: str) -> Attachment:
    document = with_entries(json.loads((GOLDEN / case / "desired.json").read_text()))
    return read(
        Attachment,
        {
            **document,
            "link": read(PodLink, document["link"]),
            "parents": [*map(read_host_link, document["parents"])],
            "sysctls": [*document["sysctls"].items()],
        },
    )


def read_observed(case: str) -> tuple[Observed, HostLink | None]:
    document = with_entries(json.loads((GOLDEN / case / "observed.json").read_text()))
    master = document.pop("master")
    links = {key: document.pop(key, None) for key in ("link", "atIfindex")}
    found = {key: link and read_live_link(link) for key, link in links.items()}
    observed = read(Observed, {**document, **found})
    return observed, master and read_host_link(master)


def written(made: Plan) -> str:
    commands = [step.describe(NETNS) for step in made.operations]
    findings = [f"- {finding}" for finding in made.findings]
    return "\n".join([made.state, *findings, *commands]) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    observed, master = read_observed(case)
    assert written(plan(read_desired(case), observed, master)) == (
        GOLDEN / case / "plan.txt"
    ).read_text(encoding="utf-8")


def test_all_states_that_planning_knows_have_a_golden_case() -> None:
    states = {(GOLDEN / case / "plan.txt").read_text().split()[0] for case in CASES}
    assert states == {"healthy", "lost", "degraded", "foreign", "renamed"}


OTHER_WAY = replace(ROUTE, gateway="10.161.72.2")
ANOTHER_WAY = replace(ROUTE, gateway="10.161.72.3")
STRANGERS = {
    "other-kind": (live(replace(LINK, kind="veth", mode="")), "is a veth link, not a macvlan"),
    "no-kind": (live(replace(LINK, kind="", mode="")), "is a hardware link, not a macvlan"),
    "within-the-pod": (replace(live(), master_netnsid=None), "over a link of the pod itself"),
    "other-netns": (replace(live(), master_netnsid=3), "another namespace than the node's"),
    "altname": (live(replace(LINK, ifindex=9), "evil0"), "another name of the pod's link evil0"),
    "other-master": (replace(live(), master=9), "over the node's link 9, not over eth0.3 (5)"),
}


@pytest.mark.parametrize(("stranger", "why"), STRANGERS.values(), ids=STRANGERS.keys())
def test_stranger_is_named_and_never_touched(stranger: LiveLink, why: str) -> None:
    made = plan(ATTACHMENT, replace(as_desired(ATTACHMENT), link=stranger), MASTER)
    assert made.state == FOREIGN
    assert made.operations == ()
    assert why in made.findings[0]


# --- what is told ---------------------------------------------------------------------------------

SETTLED = replace(ATTACHMENT, settled=True)
NO_CARRIER = replace(as_desired(ATTACHMENT), link=live(carrier=False))
WITHOUT_CARRIER = "the pod's eth0 has no carrier"
BRIEF = replace(ADDRESS, valid=600, preferred=300)
OVER_TWO = Route(4, "198.51.100.0/24", hops=(Hop("net2"), Hop("eth0"), Hop("net1")))
CARD = replace(UPLINK, ifindex=MASTER.ifindex, flags=0)


def with_link(desired: Attachment = SETTLED, **changes: object) -> Attachment:
    return replace(desired, link=replace(LINK, **changes))


TOLD: dict[str, tuple[Attachment, Observed, HostLink | None, list[str]]] = {
    "no carrier": (
        ATTACHMENT, NO_CARRIER, MASTER, [f"{WITHOUT_CARRIER}: look at the node's eth0.3"],
    ),
    "no carrier, and the master is not known": (
        ATTACHMENT, NO_CARRIER, None, [WITHOUT_CARRIER],
    ),
    "no carrier over a VLAN that is down: what is below it may have another name by now": (
        ATTACHMENT, NO_CARRIER, replace(MASTER, flags=0),
        [f"{WITHOUT_CARRIER}: the node's eth0.3 is down"],
    ),
    "no carrier over a card that is down, by its name now": (
        replace(ATTACHMENT, parents=(UPLINK,)), NO_CARRIER, replace(CARD, name="enp6s0"),
        [f"{WITHOUT_CARRIER}: the node's enp6s0 is down: ip link set dev enp6s0 up"],
    ),
    "an address has changed, and time has passed": (
        replace(SETTLED, addresses=(BRIEF,)),
        replace(
            complete(SETTLED), addresses=(replace(BRIEF, valid=500, preferred=200, flags=0x200),)
        ),
        MASTER, ["address 10.161.75.155/22 has flags 0x200, it had 0x0"],
    ),
    "an address ends, which did not": (
        SETTLED,
        replace(complete(SETTLED), addresses=(replace(ADDRESS, valid=600), ADDRESS_6)),
        MASTER, ["address 10.161.75.155/22 has valid 600, it had for ever"],
    ),
    "what only a new link can get": (
        with_link(num_tx_queues=4), complete(SETTLED), MASTER,
        ["eth0 has num_tx_queues 1, it had 4: only a new pod gets that back"],
    ),
    "what a link has without a word": (
        with_link(gso_max_size=9000), complete(SETTLED), MASTER,
        ["eth0 has gso_max_size 65536, it had 9000"],
    ),
    "a MAC in another case": (with_link(mac=LINK.mac.upper()), complete(SETTLED), MASTER, []),
    "an MTU that nobody recorded": (with_link(mtu=0), complete(SETTLED), MASTER, []),
    "a route through links that are not there": (
        replace(ATTACHMENT, routes=(OVER_TWO,)), as_desired(replace(ATTACHMENT, routes=())), MASTER,
        ["route 198.51.100.0/24 via net2, eth0, net1 waits for net1, net2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("desired", "observed", "master", "findings"), TOLD.values(), ids=TOLD.keys()
)
def test_what_is_told(
    desired: Attachment, observed: Observed, master: HostLink | None, findings: list[str]
) -> None:
    made = plan(desired, observed, master)
    assert [*made.findings] == findings
    assert made.state == (DEGRADED if findings else HEALTHY)


@pytest.mark.parametrize(
    ("routes", "there", "step"),
    [
        # Beside another link's, where one has its place: an IPv6 one would share its traffic.
        ((ROUTE,), (), AddRoute("eth0", ROUTE, beside=True)),
        ((ROUTE_6,), (), AddRoute("eth0", ROUTE_6)),
        ((ROUTE, OTHER_WAY), (ROUTE,), AddRoute("eth0", OTHER_WAY, "append")),
        # `replace` might take the recorded one.
        ((ROUTE, OTHER_WAY), (ROUTE, ANOTHER_WAY), AddRoute("eth0", OTHER_WAY, "append")),
    ],
    ids=["IPv4", "IPv6", "beside one of its own", "and beside a stranger"],
)
def test_route_beside_others(
    routes: tuple[Route, ...], there: tuple[Route, ...], step: AddRoute
) -> None:
    observed = replace(complete(SETTLED), routes=there)
    assert plan(replace(SETTLED, routes=routes), observed, MASTER).operations == (step,)


def test_route_of_a_record_that_is_not_settled_stands_back() -> None:
    """A later plugin of the chain may have put another link's into its place."""
    made = plan(ATTACHMENT, replace(as_desired(ATTACHMENT), routes=(ROUTE_6,)), MASTER)
    assert made.operations == (AddRoute("eth0", ROUTE),)


NEAR = Route(4, "10.161.72.0/22", scope=253, protocol=2, prefsrc=ADDRESS.address)
NEAR_6 = Route(6, "fd00::/64", protocol=2, metric=256)


@pytest.mark.parametrize(
    ("near", "far", "for_the_moment"),
    [
        (NEAR, ROUTE, True),
        (NEAR_6, ROUTE_6, True),
        (NEAR, replace(ROUTE, gateway="10.161.80.1", onlink=True), False),
        (NEAR, replace(ROUTE, onlink=True), False),
        (NEAR_6, replace(ROUTE_6, gateway="fe80::1"), False),
    ],
    ids=["IPv4", "IPv6", "another network", "on the link by its word", "link-local"],
)
def test_gateway_whose_network_was_taken_away_is_reachable_for_the_moment(
    near: Route, far: Route, for_the_moment: bool
) -> None:
    desired = replace(SETTLED, routes=(far,), absent_routes=(near,))
    made = plan(desired, replace(complete(desired), routes=()), MASTER)
    helps = [AddRoute("eth0", near)] if for_the_moment else []
    drops = [DropRoute("eth0", near)] if for_the_moment else []
    added = AddRoute("eth0", far, beside=far.family == 4)
    assert made.operations == (*helps, added, *drops)


@pytest.mark.parametrize(("settled", "mtu"), [(True, 1500), (False, 9000)])
def test_what_a_smaller_master_leaves_of_the_mtu(settled: bool, mtu: int) -> None:
    """A record that is not settled may have been taken before a later plugin made it smaller."""
    desired = with_link(replace(ATTACHMENT, settled=settled), mtu=9000)
    made = plan(desired, Observed(NODE_NETNSID, None), MASTER)
    assert made.operations[0] == AddPodLink("eth0", "eth0.3", replace(LINK, mtu=mtu))
    assert not made.restores_all


@pytest.mark.parametrize(("routes", "waits"), [((OVER_TWO,), True), ((ROUTE,), False)])
@pytest.mark.parametrize("link", [None, live()], ids=["lost", "there"])
def test_routes_wait_for_the_pods_other_links(
    link: LiveLink | None, routes: tuple[Route, ...], waits: bool
) -> None:
    made = plan(replace(ATTACHMENT, routes=routes), Observed(NODE_NETNSID, link), MASTER)
    assert made.waits is waits


def test_extras_are_what_is_not_recorded() -> None:
    """The kernel takes them along with an address that is taken away for a moment."""
    own, near = Address(4, "10.161.75.200", 22), Route(4, "10.9.0.0/16", gateway="10.161.72.9")
    changed = replace(ADDRESS, label="")
    observed = replace(as_desired(ATTACHMENT), addresses=(own, changed), routes=(near, OTHER_WAY))
    assert with_extras(ATTACHMENT, observed) == replace(
        ATTACHMENT,
        addresses=(*ATTACHMENT.addresses, own),
        routes=(*ATTACHMENT.routes, near),
    )


# --- renamed ------------------------------------------------------------------------------------

NIC = live(replace(LINK, mac="02:00:00:00:00:77"), "eth0-nic")
GONE = Observed(NODE_NETNSID, None, at_ifindex=NIC, ifindex_taken_by=NIC.name)


def test_a_link_over_an_unknown_namespace_is_not_ours() -> None:
    made = plan(ATTACHMENT, replace(GONE, host_netnsid=None), MASTER)
    assert made.state == LOST


@pytest.mark.parametrize("name", ["eth0-nic", "an-altname-too"])
def test_our_link_is_known_by_index_and_master(name: str) -> None:
    made = plan(ATTACHMENT, replace(GONE, at_ifindex=replace(NIC, name=name)), MASTER)
    assert (made.state, made.operations) == (RENAMED, ())
    assert made.findings[0].startswith(f"eth0 is called {name} now")
    assert made.findings[1:] == (f"{name} has MAC 02:00:00:00:00:77, it had {LINK.mac}",)


def test_altname_of_ours() -> None:
    """The kernel finds the link by it: there is no other one to ask for."""
    observed = replace(as_desired(ATTACHMENT), link=live(name="net0"))
    made = plan(ATTACHMENT, observed, MASTER)
    assert made.state == RENAMED
    assert made.findings == ("eth0 is called net0 now: it was renamed inside the pod",)


@pytest.mark.parametrize(("kind", "word"), [("bridge", "bridge"), ("", "hardware")])
def test_another_link_has_the_recorded_name(kind: str, word: str) -> None:
    impostor = live(replace(LINK, ifindex=9, kind=kind, mode=""), "eth0")
    made = plan(ATTACHMENT, replace(GONE, link=impostor), MASTER)
    assert made.state == RENAMED
    assert f"eth0 is a {word} link of another index now" in made.findings


def test_a_link_of_the_name_and_mac_over_another_master_is_not_ours_made_again() -> None:
    impostor = replace(live(replace(LINK, ifindex=9), "eth0"), master=9)
    made = plan(ATTACHMENT, replace(GONE, link=impostor), MASTER)
    assert made.state == RENAMED


NOT_OURS = {
    "other kind": replace(NIC, link=replace(NIC.link, kind="bridge", mode="")),
    "within the pod": replace(NIC, master_netnsid=None),
    "another namespace": replace(NIC, master_netnsid=3),
    "other master": replace(NIC, master=9),
}


@pytest.mark.parametrize("link", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_what_else_has_the_index_is_not_ours(link: LiveLink) -> None:
    made = plan(ATTACHMENT, replace(GONE, at_ifindex=link), MASTER)
    assert made.state == LOST
    assert any("belongs to eth0-nic now" in finding for finding in made.findings)


def test_what_a_repair_has_on_its_way_is_not_renamed_and_its_index_is_free() -> None:
    """It was killed, or is at it: the next one removes that link first."""
    on_its_way = replace(NIC, name="cnirep01234567")
    observed = replace(GONE, at_ifindex=on_its_way, ifindex_taken_by=on_its_way.name)
    made = plan(ATTACHMENT, observed, MASTER)
    assert made.findings == ("the pod's eth0 is gone",)
    assert made == plan(ATTACHMENT, replace(GONE, at_ifindex=None, ifindex_taken_by=None), MASTER)


def test_our_link_is_known_though_another_has_its_name_as_an_altname() -> None:
    stranger = live(replace(LINK, ifindex=9), "evil0")
    assert plan(ATTACHMENT, replace(GONE, link=stranger), MASTER).state == RENAMED


@pytest.mark.parametrize(("master", "state"), [(13, RENAMED), (MASTER.ifindex, LOST)])
def test_a_master_that_was_made_again_is_known_by_its_index_now(master: int, state: str) -> None:
    observed = replace(GONE, at_ifindex=replace(NIC, master=master))
    assert plan(ATTACHMENT, observed, replace(MASTER, ifindex=13)).state == state


@pytest.mark.parametrize(("master", "state"), [(MASTER.ifindex, RENAMED), (9, LOST)])
def test_a_master_that_is_renamed_itself_is_known_by_its_index(master: int, state: str) -> None:
    """The node has no link of the master's recorded name."""
    observed = replace(GONE, at_ifindex=replace(NIC, master=master))
    assert plan(ATTACHMENT, observed, None).state == state


def test_a_repair_that_had_to_take_another_index_is_not_a_rename() -> None:
    again = live(replace(LINK, ifindex=9), "eth0")
    made = plan(ATTACHMENT, replace(as_desired(ATTACHMENT), link=again, at_ifindex=NIC), MASTER)
    assert made.state == HEALTHY


def test_a_link_that_got_its_name_back_meanwhile_is_not_renamed() -> None:
    """Between the look by name and that by index: of two repairs at once."""
    made = plan(ATTACHMENT, replace(GONE, at_ifindex=live()), MASTER)
    assert made.state == LOST


def test_two_of_ours_that_changed_their_names() -> None:
    other = live(replace(LINK, ifindex=9, mac="02:00:00:00:00:99"), "eth0")
    made = plan(ATTACHMENT, replace(GONE, link=other), MASTER)
    assert made.state == RENAMED


def test_an_index_that_is_not_recorded_says_nothing() -> None:
    link = replace(LINK, ifindex=0)
    observed = replace(GONE, at_ifindex=live(link, "net0"))
    assert plan(replace(ATTACHMENT, link=link), observed, MASTER).state == LOST


def test_a_renamed_link_that_does_not_work_is_told_so() -> None:
    down = replace(GONE, at_ifindex=replace(NIC, up=False, carrier=False))
    assert plan(ATTACHMENT, down, MASTER).findings[-1] == "eth0-nic is down"
    dead = replace(GONE, at_ifindex=replace(NIC, carrier=False))
    assert plan(ATTACHMENT, dead, MASTER).findings[-1] == "eth0-nic has no carrier"


def test_unknown_namespace_of_the_node_proves_nothing() -> None:
    made = plan(ATTACHMENT, replace(as_desired(ATTACHMENT), host_netnsid=None), MASTER)
    assert (made.state, made.operations) == (FOREIGN, ())


# --- parents ------------------------------------------------------------------------------------

CHAIN = (MASTER, UPLINK)
NEW_UPLINK = replace(UPLINK, ifindex=12)
DOWN_UPLINK = replace(NEW_UPLINK, flags=0)
NEW_MASTER = replace(MASTER, ifindex=13, lower=12)
INNER = HostLink("eth0.3.5", 6, "vlan", MASTER.mac, 1500, MASTER.flags, lower=5, vlan=Vlan(5))
BOND = HostLink("bond4", 3, "bond", MASTER.mac, 1500, MASTER.flags)
OTHER_CARD = HostLink("eth1", 9, "", "52:54:00:00:00:09", 1500, IFF_UP,
    permanent_mac="52:54:00:00:00:09", bus_address="0000:00:09.0")  # fmt: skip
BARE = HostLink("eth0", 0, "", "", 0)  # as the seed's hints name an uplink that is not there yet

PREDICTABLE = replace(NEW_UPLINK, name="enp6s0f0np0", altnames=("eth0",))

ADD_VLAN = "ip link add link eth0 name eth0.3 type vlan id 3"
SET_UP = "ip link set dev eth0.3 up"
UPLINK_DOWN = "the node's eth0 is down: ip link set dev eth0 up"

PARENTS: dict[str, tuple[tuple[HostLink, ...], list[HostLink], str, str, list[str]]] = {
    "all-there": (CHAIN, [MASTER, UPLINK], READY, "", []),
    "all-there-renumbered": (CHAIN, [NEW_MASTER, NEW_UPLINK], READY, "", []),
    "no-vlan-at-all": ((UPLINK,), [UPLINK], READY, "", []),
    "vlan-missing": (CHAIN, [NEW_UPLINK], READY, "", [ADD_VLAN, SET_UP]),
    "vlan-missing-over-down-uplink": (CHAIN, [DOWN_UPLINK], READY, UPLINK_DOWN, [ADD_VLAN]),
    "vlan-down": (CHAIN, [replace(MASTER, flags=0), UPLINK], READY, "", [SET_UP]),
    "vlan-down-over-down-uplink": (
        CHAIN, [replace(NEW_MASTER, flags=0), DOWN_UPLINK], READY, UPLINK_DOWN, [],
    ),
    "vlan-of-smaller-mtu": (
        (replace(MASTER, mtu=1400), UPLINK), [UPLINK], READY, "",
        ["ip link add link eth0 name eth0.3 mtu 1400 type vlan id 3", SET_UP],
    ),
    "vlan-of-seed": ((replace(MASTER, mtu=0, ifindex=0), BARE), [UPLINK], READY, "",
        [ADD_VLAN, SET_UP]),
    "vlan-of-larger-mtu": (
        (replace(MASTER, mtu=9000), replace(UPLINK, mtu=9000)), [NEW_UPLINK], MISSING,
        "eth0 has MTU 1500, eth0.3 over it had 9000: ip link set dev eth0 mtu 9000", [],
    ),
    "bond-of-seed": ((replace(BARE, name="bond4"),), [BOND], READY, "", []),
    "vlan-with-flags": (
        (replace(MASTER, vlan=Vlan(3, 0x88A8, 0xE)), UPLINK), [UPLINK], READY, "",
        ["ip link add link eth0 name eth0.3 type vlan protocol 802.1ad id 3 reorder_hdr off"
         " gvrp on loose_binding on mvrp on", SET_UP],
    ),
    "uplink-missing": (CHAIN, [], MISSING, "the node's master eth0 does not exist", []),
    "uplink-missing-vlan-left": (CHAIN, [MASTER], MISSING,
        "the node's master eth0 does not exist", []),
    "bond-missing": ((replace(MASTER, name="bond4.3"), BOND), [], MISSING,
        "the node's master bond4 does not exist", []),
    "bond-with-new-mac": ((BOND,), [replace(BOND, mac="0a:00:00:00:00:01")], READY, "", []),
    "vlan-other-id": (CHAIN, [replace(MASTER, vlan=Vlan(4)), UPLINK], REFUSED,
        "eth0.3 exists with VLAN id 4, not 3", []),
    "vlan-other-protocol": (CHAIN, [replace(MASTER, vlan=Vlan(3, 0x88A8)), UPLINK], REFUSED,
        "eth0.3 exists with VLAN protocol 0x88a8, not 0x8100", []),
    "vlan-is-a-bridge": (CHAIN, [replace(MASTER, kind="bridge", vlan=None), UPLINK], REFUSED,
        "eth0.3 exists, but it is a bridge link, not VLAN 3", []),
    "vlan-is-hardware": (CHAIN, [replace(MASTER, kind="", vlan=None), UPLINK], REFUSED,
        "eth0.3 exists, but it is a hardware link, not VLAN 3", []),
    "vlan-over-another-link": (CHAIN, [MASTER, NEW_UPLINK], REFUSED,
        "eth0.3 exists over link 2, not over eth0", []),
    "vlan-over-another-known-link": (CHAIN, [replace(MASTER, lower=9), UPLINK, OTHER_CARD], REFUSED,
        "eth0.3 exists over eth1, not over eth0", []),
    "uplink-of-another-kind": (CHAIN, [MASTER, replace(UPLINK, kind="dummy")], REFUSED,
        "the node's eth0 is a dummy link now, it was a hardware link", []),
    "bond-is-hardware-now": ((BOND,), [replace(BOND, kind="")], REFUSED,
        "the node's bond4 is a hardware link now, it was a bond link", []),
    "uplink-other-permanent-mac": (
        CHAIN, [MASTER, replace(UPLINK, permanent_mac="52:54:00:00:00:09")], REFUSED,
        "the node's eth0 is another card now: permanent MAC 52:54:00:00:00:09,"
        " it was 52:54:00:00:00:01", [],
    ),
    "uplink-other-bus-same-card": (CHAIN, [MASTER, replace(UPLINK, bus_address="0000:09:00.0")],
        READY, "", []),
    "uplink-other-bus-address": (
        (MASTER, replace(UPLINK, permanent_mac=None)),
        [MASTER, replace(UPLINK, bus_address="0000:09:00.0")], REFUSED,
        "the node's eth0 is another card now: at 0000:09:00.0, it was at 0000:00:03.0", [],
    ),
    "uplink-says-nothing-of-itself": (
        CHAIN, [MASTER, replace(UPLINK, permanent_mac=None, bus_address=None)], READY, "", [],
    ),
    "qinq-all-there": ((INNER, MASTER, UPLINK), [INNER, MASTER, UPLINK], READY, "", []),
    "qinq-both-missing": (
        (INNER, MASTER, UPLINK), [NEW_UPLINK], READY, "",
        [ADD_VLAN, SET_UP, "ip link add link eth0.3 name eth0.3.5 type vlan id 5",
         "ip link set dev eth0.3.5 up"],
    ),
    "qinq-both-missing-outer-of-seed": (
        (INNER, replace(MASTER, mtu=0), UPLINK), [NEW_UPLINK], READY, "",
        [ADD_VLAN, SET_UP, "ip link add link eth0.3 name eth0.3.5 type vlan id 5",
         "ip link set dev eth0.3.5 up"],
    ),
    "qinq-inner-missing": (
        (INNER, MASTER, UPLINK), [NEW_MASTER, NEW_UPLINK], READY, "",
        ["ip link add link eth0.3 name eth0.3.5 type vlan id 5", "ip link set dev eth0.3.5 up"],
    ),
    "qinq-outer-down": (
        (INNER, MASTER, UPLINK),
        [replace(INNER, flags=0), replace(MASTER, flags=0), UPLINK], READY, "",
        [SET_UP, "ip link set dev eth0.3.5 up"],
    ),
    "uplink-by-an-altname": (CHAIN, [PREDICTABLE, replace(MASTER, lower=12)], READY, "", []),
    "vlan-missing-over-an-altname": (
        CHAIN, [PREDICTABLE], READY, "",
        ["ip link add link enp6s0f0np0 name eth0.3 type vlan id 3", SET_UP],
    ),
    "uplink-by-an-altname-is-down": (
        CHAIN, [replace(PREDICTABLE, flags=0), replace(MASTER, lower=12)], READY,
        "the node's enp6s0f0np0 is down: ip link set dev enp6s0f0np0 up", [],
    ),
    "uplink-by-an-altname-is-another-card": (
        CHAIN, [replace(PREDICTABLE, permanent_mac="52:54:00:00:00:09")], REFUSED,
        "the node's eth0 (another name of enp6s0f0np0) is another card now: permanent MAC"
        " 52:54:00:00:00:09, it was 52:54:00:00:00:01", [],
    ),
    "vlan-by-an-altname-is-a-bridge": (
        CHAIN, [UPLINK, HostLink("br0", 9, "bridge", "", 1500, altnames=("eth0.3",))], REFUSED,
        "eth0.3 (another name of br0) exists, but it is a bridge link, not VLAN 3", [],
    ),
    "vlan-had-altnames": (
        (replace(MASTER, altnames=("storage",)), UPLINK), [UPLINK], READY, "",
        [ADD_VLAN, "ip link property add dev eth0.3 altname storage", SET_UP],
    ),
    "vlan-of-too-long-a-name": (
        (replace(MASTER, name="enp65s0f0np0.4000", vlan=Vlan(4000)), UPLINK), [UPLINK], REFUSED,
        "enp65s0f0np0.4000 is too long for a link's name (at most 15 bytes): make this VLAN of eth0"
        " under a shorter one; it is used whatever its name is", [],
    ),
    "qinq-inner-over-another-link": (
        (INNER, MASTER, UPLINK), [INNER, NEW_MASTER, NEW_UPLINK], REFUSED,
        "eth0.3.5 exists over link 5, not over eth0.3", [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "present", "state", "reason", "commands"), PARENTS.values(), ids=PARENTS.keys()
)
def test_parents(
    chain: tuple[HostLink, ...],
    present: list[HostLink],
    state: str,
    reason: str,
    commands: list[str],
) -> None:
    made = plan_parents(chain, {name: link for link in present for name in link.names})
    assert (made.state, made.reason) == (state, reason)
    assert [step.describe("") for step in made.operations] == commands


RENAMED_UPLINK = replace(UPLINK, name="eth1", ifindex=12)


@pytest.mark.parametrize(
    ("wanted", "links", "found"),
    [
        (UPLINK, [OTHER_CARD, RENAMED_UPLINK], RENAMED_UPLINK),
        (UPLINK, [OTHER_CARD], None),
        (UPLINK, [], None),
        # by its PCI address, where one of the two has no permanent MAC
        (UPLINK, [replace(RENAMED_UPLINK, permanent_mac=None)],
            replace(RENAMED_UPLINK, permanent_mac=None)),
        # a MAC says more than a slot
        (UPLINK, [replace(OTHER_CARD, bus_address=UPLINK.bus_address)], None),
        (replace(UPLINK, permanent_mac=None, bus_address=None), [RENAMED_UPLINK], None),
        (UPLINK, [replace(RENAMED_UPLINK, bus_address="0000:00:04.0")],
            replace(RENAMED_UPLINK, bus_address="0000:00:04.0")),
        (replace(UPLINK, bus_address=None), [RENAMED_UPLINK], RENAMED_UPLINK),
        (replace(UPLINK, permanent_mac=None), [RENAMED_UPLINK], RENAMED_UPLINK),
        # a MAC says nothing of a slot
        (replace(UPLINK, bus_address=None), [replace(RENAMED_UPLINK, permanent_mac=None)], None),
        (replace(UPLINK, permanent_mac=None), [replace(RENAMED_UPLINK, bus_address=None)], None),
        (BOND, [replace(BOND, name="bond5")], None),
        (replace(UPLINK, kind="bond", ifindex=0), [RENAMED_UPLINK], None),
    ],
    ids=[
        "renamed", "another", "none", "by-slot", "other-in-slot", "unknown", "in-another-slot",
        "mac-known", "slot-known", "mac-known-of-one", "slot-known-of-one", "bond",
        "bond-with-its-mac",
    ],
)  # fmt: skip
def test_same_card(wanted: HostLink, links: list[HostLink], found: HostLink | None) -> None:
    assert same_card(wanted, links) == found


def test_link_of_the_cards_name_is_the_card_unless_something_speaks_against_it() -> None:
    assert is_recorded_card(UPLINK, UPLINK)
    assert is_recorded_card(UPLINK, replace(UPLINK, permanent_mac=None, bus_address=None))
    assert not is_recorded_card(UPLINK, OTHER_CARD)


def test_renamed_card_is_told_with_what_disturbs_no_pod() -> None:
    assert renamed(UPLINK, RENAMED_UPLINK) == ParentPlan(
        uplink_plan.RENAMED,
        "the node's master eth0 does not exist; its card is called eth1 now:"
        " ip link property add dev eth1 altname eth0",
        remedy=("ip link property add dev eth1 altname eth0",),
        at="eth0",
    )
    assert "; it is called eth1 now" in renamed(BOND, replace(BOND, name="eth1")).reason


def test_link_without_an_identity_of_its_own_is_known_by_its_index() -> None:
    """A bond that was renamed is not to be made again."""
    assert same_device(BOND, replace(BOND, name="bond9", mac="52:54:00:00:00:99"))
    assert not same_device(BOND, replace(BOND, kind="bridge"))
    assert not same_device(UPLINK, UPLINK), "a card has a permanent MAC, or a place"
    assert not same_device(BOND, None)


@pytest.mark.parametrize(
    ("wanted", "present", "at", "said"),
    [
        ((MASTER, UPLINK), {}, "", "repair again once it is there"),
        (
            (replace(MASTER, mtu=9000), UPLINK), {UPLINK.name: UPLINK}, "eth0",
            "then repair again",
        ),
        (
            (MASTER, UPLINK), {UPLINK.name: UPLINK, MASTER.name: replace(MASTER, vlan=Vlan(4))},
            "eth0.3",
            "nothing was changed; look at that link: ip -d link show dev eth0.3;"
            " if nothing needs it, remove it: ip link del dev eth0.3;"
            " else rename it: ip link set dev eth0.3 down; ip link set dev eth0.3 name NAME;"
            " then repair again",
        ),
        (
            (MASTER, UPLINK), {UPLINK.name: replace(OTHER_CARD, name="eth0")}, "eth0",
            "nothing was changed; look at that link: ip -d link show dev eth0;"
            " rename it: ip link set dev eth0 down; ip link set dev eth0 name NAME;"
            " then repair again",
        ),
        (
            (MASTER, UPLINK), {UPLINK.name: replace(OTHER_CARD, name="ens9")}, "eth0",
            "nothing was changed; look at that link: ip -d link show dev ens9;"
            " take that name from it: ip link property del dev ens9 altname eth0;"
            " then repair again",
        ),
    ],
    ids=["missing", "mtu", "vlan", "card", "altname"],
)  # fmt: skip
def test_what_is_to_be_done_before_a_repair_goes_on(
    wanted: tuple[HostLink, ...], present: dict[str, HostLink], at: str, said: str
) -> None:
    """And with which link: the card below a VLAN is not the VLAN."""
    made = plan_parents(wanted, present)
    assert (made.at, made.afterwards) == (at, said)


def test_vlan_is_known_by_its_id_over_the_same_link() -> None:
    named = replace(MASTER, name="vlan3")
    others = [
        replace(named, vlan=Vlan(4)), replace(named, vlan=Vlan(3, 0x88A8)),
        replace(named, lower=9), UPLINK,
    ]  # fmt: skip
    assert same_vlan(MASTER, UPLINK, others) is None
    assert same_vlan(MASTER, UPLINK, [*others, named]) == named
    made = plan_parents(CHAIN, {"eth0": UPLINK, "eth0.3": replace(named, flags=0)})
    assert [step.describe("") for step in made.operations] == ["ip link set dev vlan3 up"]


def test_vlan_over_a_renamed_card() -> None:
    """The VLAN keeps its name: the next look finds it by that."""
    made = plan_parents(CHAIN, {UPLINK.name: RENAMED_UPLINK})
    assert [step.describe('') for step in made.operations] == [
        "ip link add link eth1 name eth0.3 type vlan id 3", SET_UP,
    ]  # fmt: skip
    over = replace(MASTER, lower=RENAMED_UPLINK.ifindex)
    assert plan_parents(CHAIN, {MASTER.name: over, UPLINK.name: RENAMED_UPLINK}).operations == ()


@pytest.mark.parametrize("flags", [0, IFF_UP], ids=["down", "up"])
def test_parents_satisfied_plan_nothing(flags: int) -> None:
    chain = tuple(replace(link, flags=flags) for link in (INNER, MASTER, UPLINK))
    made = plan_parents(chain, {link.name: link for link in chain})
    assert made == ParentPlan(READY, "" if flags else UPLINK_DOWN)
