"""When the kernel's acknowledgements prove that a lost interface is as it was recorded."""

from __future__ import annotations

import pytest
from hypothesis import assume, given

from cni_repair.base.frozen import replace
from cni_repair.network.model import Attachment, PodLink, Route
from cni_repair.network.observed import Observed
from cni_repair.network.planning.plan import HEALTHY, Plan, plan
from tests.unit.samples import (
    ADDRESS,
    ADDRESS_6,
    ATTACHMENT,
    LINK,
    MASTER,
    NEIGHBOUR,
    ROUTE,
    ROUTE_6,
    RULE,
)
from tests.unit.simulator import repaired
from tests.unit.test_plan_properties import attachments

PLAIN = replace(ATTACHMENT, addresses=(ADDRESS,), routes=(ROUTE,), settled=True)
NOTHING = Observed(0, None)


def is_proved(made: Plan) -> bool:
    return made.restores_all and not made.waits and all(step.is_proved for step in made.operations)


def with_link(**changes: object) -> Attachment:
    return replace(PLAIN, link=replace(LINK, **changes))


def test_what_most_pods_have_is_proved() -> None:
    assert is_proved(plan(PLAIN, NOTHING, MASTER))


DOUBTS = {
    "IPv6 address": replace(PLAIN, addresses=(ADDRESS, ADDRESS_6)),
    "IPv6 route": replace(PLAIN, routes=(ROUTE, ROUTE_6)),
    "address of limited lifetime": replace(PLAIN, addresses=(replace(ADDRESS, valid=99),)),
    "address with flags": replace(PLAIN, addresses=(replace(ADDRESS, flags=0x200),)),
    "address with a metric": replace(PLAIN, addresses=(replace(ADDRESS, metric=5),)),
    "sysctl in a file": replace(PLAIN, sysctls=(("ipv6/accept_ra", "0"),)),
    "rule": replace(PLAIN, rules=(RULE,)),
    "neighbour": replace(PLAIN, neighbours=(NEIGHBOUR,)),
    "route taken away": replace(
        PLAIN, absent_routes=(Route(4, "10.161.72.0/22", protocol=2, scope=253),)
    ),
    "route through another link": replace(
        PLAIN, routes=(replace(ROUTE, gateway=None, hops=()), ROUTE_6)
    ),
    "alias": with_link(alias="cart"),
    "another name": with_link(altnames=("cart",)),
    "group": with_link(group=7),
    "broadcast queue": with_link(bcqueuelen=2000),
    "queues": with_link(num_tx_queues=4),
    "segments": with_link(gso_max_size=9000),
    "flag of the device": with_link(device_flags=0x1200),
    "no index": with_link(ifindex=0),
    "no MAC": with_link(mac=""),
    "no MTU": with_link(mtu=0),
    "MTU above the master's": with_link(mtu=MASTER.mtu + 1),
    "MTU that may be a later plugin's": replace(with_link(mtu=MASTER.mtu + 1), settled=False),
    "ipvlan": replace(PLAIN, link=PodLink(7, LINK.mac, 1500, "ipvlan", "l2", 0, 0)),
}


@pytest.mark.parametrize("desired", DOUBTS.values(), ids=DOUBTS.keys())
def test_what_only_a_look_can_tell(desired: Attachment) -> None:
    assert not is_proved(plan(desired, NOTHING, MASTER))


def test_not_where_its_index_is_taken() -> None:
    observed = replace(NOTHING, ifindex_taken_by="net1")
    assert not is_proved(plan(PLAIN, observed, MASTER))


def test_not_of_an_interface_that_is_there() -> None:
    there = repaired(plan(PLAIN, NOTHING, MASTER).operations, NOTHING)
    assert there.link is not None
    down = replace(there, link=replace(there.link, up=False), routes=())
    made = plan(PLAIN, down, MASTER)
    assert made.operations
    assert not is_proved(made)


def plain_of(desired: Attachment) -> Attachment:
    """What is left without most of what is doubtful."""
    return replace(
        desired,
        link=replace(PLAIN.link, mode=desired.link.mode, txqueuelen=desired.link.txqueuelen),
        addresses=tuple(one for one in desired.addresses if one.family == 4),
        routes=tuple(one for one in desired.routes if one.family == 4),
        sysctls=tuple(one for one in desired.sysctls if one[0] == "ipv4/arp_notify"),
        addr_gen_mode=None,
        rules=(),
        neighbours=(),
        absent_routes=(),
    )


@given(attachments().filter(lambda one: one.link.kind == "macvlan").map(plain_of))
def test_a_look_after_what_is_proved_has_nothing_to_say(desired: Attachment) -> None:
    made = plan(desired, NOTHING, MASTER)
    assume(is_proved(made))
    again = plan(desired, repaired(made.operations, NOTHING), MASTER)
    assert (again.state, again.findings, again.operations) == (HEALTHY, (), ())
