"""One table a noun: no field without a row, no row without its halves.

First what the rows say; a half that is missing needs its reason in the row. Then what comes of
them: a value in which one field is unusual goes through netlink, words, record and comparison.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from cni_repair.base.frozen import fields, replace
from cni_repair.base.kinds import any_value
from cni_repair.checkpoint import model
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel import address, link, neighbour, route, rule, vlan
from cni_repair.network.kernel.table import (
    AFTERWARDS,
    ALWAYS,
    ANYTIME,
    AT_CREATION,
    NEVER,
    SETTLED,
    Field,
    Table,
)
from cni_repair.network.model import (
    DEFAULT_BCQUEUELEN,
    IFF_ALLMULTI,
    IFF_MULTICAST,
    IFF_RUNNING,
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
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.base import Operation, Target
from cni_repair.network.operations.link import AddAltname
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.operations.route import AddRoute
from cni_repair.network.operations.rule import AddRule
from cni_repair.network.planning.link import making
from cni_repair.network.planning.plan import plan
from cni_repair.uplink.operations import AddVlan
from tests.unit import samples
from tests.unit.checkpointdocuments import VALIDATOR, document_of
from tests.unit.samples import ATTACHMENT, CHECKPOINT, MASTER, UPLINK
from tests.unit.simulator import complete

TABLES: dict[str, Table] = {
    "PodLink": link.TABLE,
    "HostLink": link.HOST,
    "Vlan": vlan.TABLE,
    "Address": address.TABLE,
    "Route": route.TABLE,
    "Hop": route.HOP,
    "Rule": rule.TABLE,
    "Neighbour": neighbour.TABLE,
}
# A hop is compared with its route.
PARTS = {"Hop"}
TIMES = (ANYTIME, AT_CREATION, AFTERWARDS, NEVER)


# --- what the rows say ----------------------------------------------------------------------------


def missing_halves(name: str, table: Table) -> list[str]:
    """What is wrong with a noun's table: "field: half"."""
    rows = [row.name for row in table.rows]
    wrong = [f"{one}: row" for one in fields(table.noun) if rows.count(one) != 1]
    wrong += [f"{one}: field" for one in rows if one not in fields(table.noun)]
    return wrong + [f"{row.name}: {half}" for row in table.rows for half in _missing(name, row)]


def _missing(noun: str, row: Field) -> Iterator[str]:
    because = row.because or {}
    carried = row.attribute is not None and row.codec is not None
    there = {
        "attribute": row.attribute is not None or "wire" in because,
        "codec": row.codec is not None or "wire" in because,
        "word": row.word is not None or "word" in because,
        "set": row.set_ in TIMES,
        "comparison": row.compared in (ALWAYS, SETTLED)
        or (row.compared == NEVER and ("compared" in because or noun in PARTS)),
        "reader": callable(row.record),
        "schema": bool(row.record and row.record.schema()),
    }
    yield from (half for half, is_there in there.items() if not is_there)
    # A reason for what is not missing would hide the day on which it is.
    idle = {
        "wire": carried,
        "word": row.word is not None,
        "compared": row.compared != NEVER,
    }
    yield from (f"idle reason ({half})" for half in because if idle[half])


@pytest.mark.parametrize(("name", "table"), TABLES.items(), ids=TABLES.keys())
def test_every_field_has_a_row_with_all_its_halves(name: str, table: Table) -> None:
    assert missing_halves(name, table) == []


def test_every_noun_of_a_record_has_a_table() -> None:
    recorded = {PodLink, HostLink, Vlan, Address, Route, Hop, Rule, Neighbour}
    assert {table.noun for table in TABLES.values()} == recorded


ROWS = [(name, row.name) for name, table in TABLES.items() for row in table.rows]
# Neither there, nor a reason why not. (A codec is of no use without its attribute.)
SABOTAGE: dict[str, dict[str, Any]] = {
    "attribute": {"attribute": None, "codec": None, "because": None},
    "codec": {"codec": None, "because": None},
    "word": {"word": None, "because": None},
    "set": {"set_": ""},
    "comparison": {"compared": NEVER, "because": None},
    "reader": {"record": None},
    "schema": {"record": any_value},  # of which a schema says nothing
}


@pytest.mark.parametrize("half", SABOTAGE)
@pytest.mark.parametrize(("name", "field"), ROWS, ids=[".".join(pair) for pair in ROWS])
def test_row_that_lacks_a_half_is_found(name: str, field: str, half: str) -> None:
    found = missing_halves(name, _with_row(name, field, **SABOTAGE[half]))
    assert f"{field}: {half}" in found or (half == "comparison" and name in PARTS)


@pytest.mark.parametrize(("name", "field"), ROWS, ids=[".".join(pair) for pair in ROWS])
def test_row_that_is_left_out_is_found(name: str, field: str) -> None:
    table = TABLES[name]
    rows = [row for row in table.rows if row.name != field]
    assert missing_halves(name, Table(table.noun, *rows)) == [f"{field}: row"]


def test_reason_for_what_is_not_missing_is_found() -> None:
    table = _with_row("PodLink", "mtu", because={"word": "none"})
    assert missing_halves("PodLink", table) == ["mtu: idle reason (word)"]


def _with_row(name: str, field: str, **changes: Any) -> Table:
    table = TABLES[name]
    rows = [replace(row, **changes) if row.name == field else row for row in table.rows]
    return Table(table.noun, *rows)


# --- what comes of them ---------------------------------------------------------------------------


class Noun(NamedTuple):
    usual: Any
    unusual: dict[str, Any]  # by field: a value of which that is unusual
    recorded: Callable[[Any], Attachment]
    steps: Callable[[Any], Sequence[Operation]]
    read: Callable[[Sequence[Operation], Any], Any]  # what the kernel would show of these


POD_LINK = replace(samples.LINK, device_flags=IFF_MULTICAST, bcqueuelen=DEFAULT_BCQUEUELEN)
ADDRESS = samples.ADDRESS
ADDRESS_6 = replace(samples.ADDRESS_6, peer=None)
ROUTE = Route(4, "10.8.0.0/24", gateway="10.161.72.1")
ROUTE_6 = Route(6, "fd08::/64", gateway="fd00::1", metric=1024)
MULTIPATH = replace(ROUTE, gateway=None, hops=(Hop("eth0", "10.161.72.1"), Hop("net1")))
RULE = Rule(4, 1000, src="10.161.75.155/32", table=100)
NEIGHBOUR = samples.NEIGHBOUR
TARGET = Target(7, MASTER.ifindex, 11, (("net1", 9),))
NAMES = {7: "eth0", 9: "net1"}


def changed(value: Any, **changes: Any) -> dict[str, Any]:
    return {name: replace(value, **{name: one}) for name, one in changes.items()}


def body_of(step: Operation) -> bytes:
    (message,) = step.requests(TARGET)
    return message.body


def link_as_shown(steps: Sequence[Operation], wanted: PodLink) -> PodLink:
    """The messages' attributes in one, and the flags that they change."""
    first, *others = [body_of(step) for step in steps]
    flags, attributes = wanted.usual_flags, first[16:] + nl.u32(rt.IFLA_MTU, wanted.mtu)
    for body in others:
        _, _, _, set_to, mask = struct.unpack_from("=BxHiII", body)
        flags = flags & ~mask | set_to
        attributes += body[16:]
    flags &= ~IFF_UP
    index = struct.unpack_from("=i", first, 4)[0]
    shown = link.live_link(nl.link_body(index, flags, 0, attributes)).link
    queue = DEFAULT_BCQUEUELEN if shown.kind == "macvlan" else 0
    return replace(shown, bcqueuelen=shown.bcqueuelen or queue)


def made_link(wanted: PodLink) -> list[Operation]:
    desired = replace(ATTACHMENT, link=wanted, sysctls=())
    return making(desired, wanted, MASTER)


def address_as_shown(steps: Sequence[Operation], _: Address) -> Address:
    family, prefix, scope, _index, attributes = nl.unpack_address(body_of(steps[0]))
    attributes.setdefault(rt.IFA_CACHEINFO, b"\xff" * 8)
    return address.decode(family, prefix, scope, attributes)


def route_as_shown(steps: Sequence[Operation], _: Route) -> Route:
    body = body_of(steps[0])
    attributes = nl.route_attributes(body)
    if rt.RTA_EXPIRES in attributes:  # in seconds; told in clock ticks, as the third of many
        ticks = 100 * nl.u32_of(attributes[rt.RTA_EXPIRES])
        body += nl.attribute(rt.RTA_CACHEINFO, struct.pack("=IIi", 0, 0, ticks))
    (shown,) = route.routes_in([body], 7, NAMES.__getitem__).configured
    return shown


def rule_as_shown(steps: Sequence[Operation], _: Rule) -> Rule | None:
    return rule.decode(body_of(steps[0]))


def neighbour_as_shown(steps: Sequence[Operation], _: Neighbour) -> Neighbour | None:
    return neighbour.decode(body_of(steps[0]), 7)


def vlan_link(value: Vlan) -> HostLink:
    return replace(MASTER, vlan=value)


def made_vlan(value: HostLink) -> list[Operation]:
    assert value.vlan is not None
    made = AddVlan(value.name, f"link{value.lower}", value.vlan, value.mtu, value.mac)
    return [made, *(AddAltname(value.name, name) for name in value.altnames)]


def host_link_as_shown(steps: Sequence[Operation], wanted: HostLink) -> HostLink:
    """What the messages of a VLAN say, and what the kernel tells besides."""
    message, *more = [
        message for step in steps for message in step.requests(Target(0, wanted.lower))
    ]
    told = b"".join(
        link.HOST.encode_field(row.name, value)
        for row in link.HOST.rows
        if row.set_ == NEVER and row.codec and (value := getattr(wanted, row.name)) is not None
    )
    told += b"".join(one.body[16:] for one in more)
    body = nl.link_body(wanted.ifindex, wanted.flags, 0, message.body[16:] + told)
    return link.host_link(body)


NOUNS: dict[str, Noun] = {
    "PodLink": Noun(
        POD_LINK,
        {
            **changed(
                POD_LINK, ifindex=9, mac="6e:92:1a:b4:fc:35", mtu=1400, txqueuelen=500, group=7,
                mode="private", flags=2, bcqueuelen=2000, alias="shop/cart-0",
                altnames=("podnet0",), device_flags=IFF_MULTICAST | IFF_ALLMULTI, gso_max_size=9000,
                gso_max_segs=20, gro_max_size=0, gso_ipv4_max_size=200_000,
                gro_ipv4_max_size=8000, num_tx_queues=4, num_rx_queues=3,
            ),
            "kind": replace(POD_LINK, kind="ipvlan", mode="l2", bcqueuelen=0, mac=""),
        },
        lambda value: replace(ATTACHMENT, link=value, sysctls=()),
        made_link,
        link_as_shown,
    ),
    "HostLink": Noun(
        MASTER,
        changed(
            MASTER, name="net3", ifindex=9, mac="52:54:00:00:00:09", mtu=1400, flags=0, lower=3,
            permanent_mac="52:54:00:00:00:08", bus_address="0000:00:04.0", vlan=Vlan(4),
            altnames=("a-name-of-more-than-15-bytes",),
        ) | {"kind": replace(UPLINK, kind="bond")},
        lambda value: replace(ATTACHMENT, parents=(value, UPLINK)),
        made_vlan,
        host_link_as_shown,
    ),
    "Vlan": Noun(
        Vlan(3),
        changed(Vlan(3), id=4, protocol=0x88A8, flags=3, egress=((0, 3),), ingress=((5, 1),)),
        lambda value: replace(ATTACHMENT, parents=(vlan_link(value), UPLINK)),
        lambda value: made_vlan(vlan_link(value)),
        lambda steps, value: host_link_as_shown(steps, vlan_link(value)).vlan,
    ),
    "Address": Noun(
        ADDRESS,
        {
            **changed(
                ADDRESS, address="10.161.75.156", prefix=24, broadcast="10.161.75.254", scope=253,
                label="eth0:1", flags=0x200, valid=600, preferred=60, peer="10.161.75.1", metric=5,
                proto=4,
            ),
            "family": ADDRESS_6,
        },
        lambda value: replace(ATTACHMENT, addresses=(value,)),
        lambda value: [AddAddress("eth0", value)],
        address_as_shown,
    ),
    "Route": Noun(
        ROUTE,
        {
            **changed(
                ROUTE, dst="10.9.0.0/16", gateway="fd00::1", table=1000, metric=5, scope=253,
                type=2, protocol=4, prefsrc=ADDRESS.address, tos=0x10, onlink=True,
                metrics=((2, 1400),), congctl="bbr", realm=7,
            ),
            "family": ROUTE_6,
            "hops": MULTIPATH,
            **changed(ROUTE_6, src="fd00::/64", pref=1, expires=60),
            "weight": replace(ROUTE_6, weight=2, shared=True),
            "shared": replace(ROUTE_6, weight=3, shared=True),
        },
        lambda value: replace(ATTACHMENT, routes=(value,)),
        lambda value: [AddRoute("eth0", value)],
        route_as_shown,
    ),
    "Hop": Noun(
        Hop("eth0", "10.161.72.1"),
        changed(
            Hop("eth0", "10.161.72.1"), ifname="net1", gateway="fd00::1", weight=2, onlink=True,
            realm=7,
        ),
        lambda value: replace(ATTACHMENT, routes=(replace(MULTIPATH, hops=(Hop("eth0"), value)),)),
        lambda value: [AddRoute("eth0", replace(MULTIPATH, hops=(Hop("eth0"), value)))],
        lambda steps, _: route_as_shown(steps, MULTIPATH).hops[1],
    ),
    "Rule": Noun(
        RULE,
        {
            **changed(
                RULE, priority=7, src="10.161.75.156/32", dst="10.8.0.0/16", iif="eth0",
                oif="eth0", tos=0x10, fwmark=5, ip_proto=6, sport=(80, 90), dport=(1, 2),
                uid_range=(5, 6), invert=True, action=7, table=7, suppress_prefixlength=0,
                protocol=4,
            ),
            "fwmask": replace(RULE, fwmark=5, fwmask=0xF),
            "family": Rule(6, 1000, table=100),
        },
        lambda value: replace(ATTACHMENT, rules=(value,)),
        lambda value: [AddRule(value)],
        rule_as_shown,
    ),
    "Neighbour": Noun(
        NEIGHBOUR,
        {
            **changed(
                NEIGHBOUR, address="10.161.72.2", mac="52:54:00:00:00:fd", flags=0x80, protocol=4
            ),
            "family": Neighbour(6, "fd00::1", NEIGHBOUR.mac),
        },
        lambda value: replace(ATTACHMENT, neighbours=(value,)),
        lambda value: [SetNeighbour("eth0", value)],
        neighbour_as_shown,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOUNS)
def test_every_field_is_tried(name: str) -> None:
    assert {*NOUNS[name].unusual} == {*fields(TABLES[name].noun)}
    for field, value in NOUNS[name].unusual.items():
        assert getattr(value, field) != getattr(NOUNS[name].usual, field) or field == "kind"


@pytest.mark.parametrize(("name", "field"), ROWS, ids=[".".join(pair) for pair in ROWS])
def test_what_is_sent_is_what_is_read(name: str, field: str) -> None:
    noun = NOUNS[name]
    value = noun.unusual[field]
    if (name, field) == ("HostLink", "kind"):
        return  # of what a repair never makes
    assert noun.read(noun.steps(value), value) == value


@pytest.mark.parametrize(("name", "field"), ROWS, ids=[".".join(pair) for pair in ROWS])
def test_words_tell_it(name: str, field: str) -> None:
    noun = NOUNS[name]
    """By the row, or by the noun's own hand."""
    row = TABLES[name].by_name[field]
    if row.set_ == NEVER or (row.because or {}).get("word", "").startswith("none"):
        return
    usual = [step.describe("") for step in noun.steps(noun.usual)]
    told = [step.describe("") for step in noun.steps(noun.unusual[field])]
    assert told != usual


@pytest.mark.parametrize(("name", "field"), ROWS, ids=[".".join(pair) for pair in ROWS])
def test_record_keeps_it(name: str, field: str) -> None:
    """Written, valid by the published schema, and read."""
    value = NOUNS[name].unusual[field]
    if isinstance(value, PodLink) and not value.mac:
        value = replace(value, mac="6e:92:1a:b4:fc:35")  # an ipvlan's, of which none is given
    checkpoint = replace(CHECKPOINT, attachment=NOUNS[name].recorded(value))
    VALIDATOR.validate(document_of(checkpoint))
    raw = model.encode(checkpoint).encode()
    assert model.decode(raw, f"{checkpoint.key.name}.json") == checkpoint


@pytest.mark.parametrize(("name", "field"), ROWS, ids=[".".join(pair) for pair in ROWS])
def test_comparison_finds_it(name: str, field: str) -> None:
    """Recorded otherwise than it is now; of a record that is not settled, what is always
    compared."""
    noun, compared = NOUNS[name], TABLES[name].by_name[field].compared
    if compared == NEVER or name in PARTS:
        return  # with its reason
    desired = replace(noun.recorded(noun.unusual[field]), settled=compared == SETTLED)
    observed = complete(replace(noun.recorded(noun.usual), settled=True))
    master = replace(MASTER, flags=IFF_UP | IFF_RUNNING)
    before = plan(replace(noun.recorded(noun.usual), settled=True), observed, master)
    assert before.findings == ()
    assert plan(desired, observed, master).findings != ()
