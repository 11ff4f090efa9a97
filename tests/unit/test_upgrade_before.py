"""No worse than before: what an upgrade asks for afterwards, by what was measured beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_repair.base.errors import DAMAGED, CniError
from cni_repair.base.frozen import replace
from cni_repair.network.reachability.duplicates import Holder
from cni_repair.network.reachability.gateways import (
    ANSWERED,
    PERMANENT,
    REFUSED,
    SILENT,
    Gateway,
    gateways_of,
)
from cni_repair.node.asking import Answers
from cni_repair.node.report import Report
from cni_repair.node.verify import judge
from cni_repair.upgrade.baseline import (
    BETTER,
    NOT_ASKED,
    NOTHING_KNOWN,
    SAME,
    WORSE,
    Demand,
    LinkFacts,
    Measure,
    PodFacts,
    as_bad_as_before,
    change_of_link,
    change_of_pod,
    demand_on,
    facts_of,
    is_left_as_before,
    is_no_worse,
    measured_before,
    thinner_bonds,
)
from cni_repair.upgrade.kubelet import Found, _release_script
from cni_repair.upgrade.planfile import Plan, plan_of
from cni_repair.upgrade.progress import progress_of
from cni_repair.upgrade.requirements import links_required, unmet
from cni_repair.upgrade.uplinks import awaited, words
from tests.unit.samples import CHECKPOINT, KEY, NETNS

# --- attachments ----------------------------------------------------------------------------------

NO_CARRIER = "eth0 has no carrier: look at its master eth1"


def pod(state: str = "healthy", **changes: Any) -> PodFacts:
    """One whose gateways 1 and 2 answer, or that was not asked; it passes only if it is so."""
    fine = state == "healthy" and not changes
    asked = {"1": ANSWERED, "2": ANSWERED} if state in ("healthy", "degraded") else {}
    return replace(
        PodFacts("shop/a", state, state, fine, "" if fine else "why", gateways=asked), **changes
    )


def hears(**gateways: str) -> PodFacts:
    """A healthy one by its gateways (`g1` is 1); it does not pass."""
    return pod(gateways={name[1:]: state for name, state in gateways.items()})


WELL = pod()
SILENT_2 = hears(g1=ANSWERED, g2=SILENT)
LOST = pod("lost")
OFF = pod("degraded", carrier=False, findings=(NO_CARRIER,), gateways={"1": NOT_ASKED})
LACKS_ROUTE = pod("degraded", findings=("route a is missing",))

NO_WORSE = {
    "all is well": (WELL, WELL),
    "better: a silent gateway answers": (SILENT_2, WELL),
    "better: a lost pod is back": (LOST, WELL),
    "a silent gateway still is": (SILENT_2, SILENT_2),
    "one of two silent ones answers": (hears(g1=SILENT, g2=SILENT), SILENT_2),
    "one family only, as before": (hears(g1=ANSWERED, g2=SILENT), hears(g1=ANSWERED, g2=SILENT)),
    "a gateway that is not asked: kept by somebody": (WELL, hears(g1=ANSWERED, g2=PERMANENT)),
    "the neighbour table is full, as before": (hears(g1=REFUSED), hears(g1=REFUSED)),
    "lost still": (LOST, LOST),
    "lost, now there: its gateway is silent": (LOST, SILENT_2),
    "lost, now there: degraded by what is new": (LOST, LACKS_ROUTE),
    "lost, and its repair fails": (LOST, pod("lost", error=(1, "no"))),
    "no carrier still": (OFF, OFF),
    "no carrier still, for another reason": (
        OFF,
        replace(OFF, findings=("eth0 has no carrier: its master eth1 is down",)),
    ),
    "no carrier, now there is: its gateway is silent": (OFF, SILENT_2),
    "degraded still": (LACKS_ROUTE, LACKS_ROUTE),
    "degraded in one thing less": (
        pod("degraded", findings=("route a is missing", "route b is missing")),
        LACKS_ROUTE,
    ),
    "degraded, now healthy: a gateway that was silent": (
        replace(LACKS_ROUTE, gateways={"1": ANSWERED, "2": SILENT}),
        SILENT_2,
    ),
    "foreign still": (pod("foreign"), pod("foreign")),
    "unreadable still": (pod("unreadable"), pod("unreadable")),
    "renamed inside the pod": (WELL, pod("renamed")),
    "lost, and its address freed meanwhile": (LOST, pod("released", error=(1, "no"))),
    "its address freed still": (pod("released"), pod("released")),
    "a state of a later version": (pod("of later"), pod("of later")),
    "its address is another's, too, still": (pod(conflicts=("10.9.0.2",)),) * 2,
    "more gateways than are asked, still": (pod(error=(DAMAGED, "17 gateways")),) * 2,
}
IS_WORSE = {
    "a gateway fell silent": (WELL, SILENT_2),
    "another than before is silent": (SILENT_2, hears(g1=SILENT, g2=SILENT)),
    "the other family is silent now": (SILENT_2, hears(g1=SILENT, g2=ANSWERED)),
    "a gateway that nobody asked before": (hears(g1=ANSWERED, g2=NOT_ASKED), SILENT_2),
    "a gateway that nobody knew of": (hears(g1=SILENT), hears(g1=SILENT, g3=SILENT)),
    "a gateway that could not be asked is silent": (hears(g1=REFUSED), hears(g1=SILENT)),
    "lost": (WELL, LOST),
    "lost, and its address freed": (WELL, pod("released")),
    "lost, and it was renamed": (pod("renamed"), LOST),
    "lost, and it was degraded": (LACKS_ROUTE, LOST),
    "lost, and it was without carrier": (OFF, LOST),
    "degraded": (WELL, LACKS_ROUTE),
    "degraded, and a gateway was silent": (SILENT_2, LACKS_ROUTE),
    "degraded in something else": (LACKS_ROUTE, pod("degraded", findings=("route b is missing",))),
    "no carrier any more": (LACKS_ROUTE, OFF),
    "degraded, now healthy: a gateway fell silent": (LACKS_ROUTE, SILENT_2),
    "foreign": (LOST, pod("foreign")),
    "foreign, and what it was is lost": (pod("foreign"), LOST),
    "somebody took its address": (WELL, pod(conflicts=("10.9.0.2",))),
    "somebody took its address while it was lost": (LOST, pod(conflicts=("10.9.0.2",))),
    "another cannot be asked": (pod(error=(DAMAGED, "a")), pod(error=(DAMAGED, "b"))),
    "nothing is known of before": (None, SILENT_2),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), NO_WORSE.values(), ids=NO_WORSE)
def test_what_was_so_before_is_no_failure(before: PodFacts, after: PodFacts) -> None:
    assert is_no_worse(before, after)
    better = after.passed and not before.passed
    assert change_of_pod(before, after) == (BETTER if better else SAME)


@pytest.mark.parametrize(("before", "after"), IS_WORSE.values(), ids=IS_WORSE)
def test_what_got_worse_is_a_failure(before: PodFacts | None, after: PodFacts) -> None:
    assert not is_no_worse(before, after)
    if before is not None:
        assert change_of_pod(before, after) == WORSE


def report(state: str, error: CniError | None = None) -> Report:
    return Report(KEY, CHECKPOINT, NETNS, state, error=error)


FAILS = CniError(DAMAGED, "it fails")


@pytest.mark.parametrize(
    ("before", "after", "as_before"),
    [
        (LOST, report("lost", FAILS), True),
        (LOST, report("degraded"), True),
        (LACKS_ROUTE, report("degraded", FAILS), True),
        (LACKS_ROUTE, report("lost"), False),
        (pod("foreign"), report("foreign"), True),
        (pod("foreign"), report("lost"), False),
        (WELL, report("lost"), False),
        (WELL, report("degraded"), False),
        (WELL, report("healthy", FAILS), False),
        (pod(error=(DAMAGED, "it fails")), report("healthy", FAILS), True),
        (None, report("lost"), False),
    ],
)
def test_repair_that_leaves_what_was_broken(
    before: PodFacts | None, after: Report, as_before: bool
) -> None:
    assert is_left_as_before(before, after) == as_before


def test_facts_of_a_verdict() -> None:
    """A gateway that was not asked is one of its facts."""
    first, *rest = gateways_of(CHECKPOINT.attachment)
    heard = Answers(
        carrier=False,
        gateways=(Gateway(first, SILENT),),
        holders=(Holder("10.9.0.2", "02:00:00:00:00:07"),),
        error=FAILS,
    )
    facts = facts_of(judge(report("healthy"), heard, {}))
    assert facts.gateways == {first: SILENT, **dict.fromkeys(rest, NOT_ASKED)}
    assert (facts.passed, facts.carrier, facts.is_cut_off) == (False, False, True)
    assert facts.conflicts == ("10.9.0.2",)
    assert facts.error == (DAMAGED, "it fails")
    assert f"gateway {first} does not answer" in facts.reason
    lost = facts_of(judge(report("lost"), Answers(), {}))
    assert set(lost.gateways.values()) == {NOT_ASKED}
    unreadable = Report(KEY, None, "", "unreadable", error=FAILS)
    assert facts_of(judge(unreadable, Answers(), {})).gateways == {}


# --- links ----------------------------------------------------------------------------------------


def link(name: str = "eth0", state: str = "carrier", **changes: Any) -> LinkFacts:
    up, carrier = state in ("carrier", "up"), state == "carrier"
    return replace(LinkFacts(name, state != "gone", up, carrier, 1500), **changes)


@pytest.mark.parametrize(
    ("before", "carrier", "demand"),
    [
        (None, True, Demand(True, True, True, 9000)),  # an older version began the upgrade
        (None, False, Demand(True, False, False, 9000)),
        (link(), True, Demand(True, True, True, 1500)),
        (link(mtu=9200), True, Demand(True, True, True, 9000)),
        (link(), False, Demand(True, False, False, 1500)),
        (link(state="up"), True, Demand(True, True, False, 1500)),
        (link(state="down"), True, Demand(True, False, False, 1500)),
        (link(state="gone", mtu=0), True, Demand(False, False, False, 0)),
    ],
)
def test_what_is_waited_for_of_a_link(
    before: LinkFacts | None, carrier: bool, demand: Demand
) -> None:
    assert demand_on(before, carrier, 9000) == demand


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("carrier", "carrier", SAME),
        ("carrier", "up", WORSE),
        ("carrier", "gone", WORSE),
        ("up", "carrier", BETTER),
        ("up", "up", SAME),
        ("up", "down", WORSE),
        ("down", "up", BETTER),
        ("gone", "gone", SAME),
        ("gone", "down", BETTER),
    ],
)
def test_change_of_a_link(before: str, after: str, change: str) -> None:
    assert change_of_link(link(state=before), link(state=after)) == change


def legs(**states: str) -> Measure:
    made = [link(name, state, bond="bond4") for name, state in states.items()]
    return Measure({one.name: one for one in [link("bond4"), *made]})


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        (legs(eth0="carrier", eth1="carrier"), legs(eth0="carrier", eth1="carrier"), ""),
        (
            legs(eth0="carrier", eth1="up"),
            legs(eth0="carrier", eth1="up"),
            "",
        ),  # standby, unplugged
        (legs(eth0="carrier", eth1="up"), legs(eth0="carrier"), ""),
        (legs(eth0="carrier", eth1="up"), legs(eth0="up", eth1="carrier"), ""),
        (legs(eth0="carrier"), legs(eth0="carrier", eth1="carrier"), ""),
        (legs(eth0="carrier", eth1="carrier"), legs(ens1="carrier", ens2="carrier"), ""),
        (legs(eth0="carrier", eth1="carrier"), legs(eth0="carrier", eth1="up"), "eth1"),
        (legs(eth0="carrier", eth1="carrier"), legs(eth1="carrier"), "eth0"),
        (legs(eth0="carrier", eth1="carrier"), NOTHING_KNOWN, "eth0, eth1"),
        (NOTHING_KNOWN, legs(eth0="carrier"), ""),
    ],
)
def test_bond_with_fewer_legs_than_before(before: Measure, after: Measure, missing: str) -> None:
    found = thinner_bonds(before, after)
    assert [text.partition(": look at ")[2] for text in found] == ([missing] if missing else [])


MASTER, CARD = CHECKPOINT.attachment.parents[0].name, CHECKPOINT.attachment.parents[-1].name


def plan(**changes: Any) -> Plan:
    return plan_of({"version": 1, "driver": {"command": ["/bin/true"]}, **changes})


def measure(*links: LinkFacts, **pods: PodFacts) -> Measure:
    return Measure({one.name: one for one in links}, pods)


def test_links_that_are_waited_for() -> None:
    before = measure(link(MASTER), link(CARD, "up"))
    (found,) = awaited(plan(), [CHECKPOINT], before)
    assert (found.name, found.demand.up, found.demand.carrier) == (CARD, True, False)
    assert found.uplink is not None
    assert words([found], True) == f"{CARD}: there (it had no carrier before)"
    (found,) = awaited(plan(), [CHECKPOINT], measure(link(MASTER, usable=False), link(CARD)))
    assert found.uplink is None  # what stands on it was not as recorded before, either
    (found,) = awaited(plan(), [CHECKPOINT], measure(link(MASTER), link(CARD, "gone")))
    assert not found.demand.there
    named = plan(masters={"names": ["eth7"]}, require={"carrier": ["eth8"]})
    assert [one.name for one in awaited(named, [CHECKPOINT], before)] == ["eth7", "eth8"]


def test_nothing_to_wait_for() -> None:
    assert words([], True) == "none to wait for"


# --- what a plan requires -------------------------------------------------------------------------

NAMED: dict[str, Any] = {"masters": {"names": ["eth7"]}}
LEGS = measure(link(CARD), link("eth5", bond=CARD), link("eth6", "up", bond=CARD))


def test_links_that_are_required() -> None:
    assert links_required(plan(), [CHECKPOINT], LEGS) == []
    everything = plan(require={"carrier": "all"}, **NAMED)
    assert links_required(everything, [CHECKPOINT], LEGS) == [CARD, "eth5", "eth6", "eth7"]
    vlan = plan(require={"carrier": [MASTER, CARD, "eth9"]})
    assert links_required(vlan, [CHECKPOINT], LEGS) == [CARD, "eth9"]


PUT_RIGHT = ": put that right, or do not require it"


@pytest.mark.parametrize(
    ("require", "now", "problem"),
    [
        ({}, measure(link(CARD, "up"), a=SILENT_2), ""),
        ({"carrier": [CARD]}, LEGS, ""),
        ({"carrier": "all"}, LEGS, f"carrier: eth6 (a leg of {CARD}) has no carrier now"),
        ({"carrier": [CARD]}, measure(link(CARD, "down")), f"carrier: {CARD} is down now"),
        ({"carrier": ["eth9"]}, LEGS, "carrier: eth9 does not exist now"),
        ({"gateways": "all"}, measure(a=WELL), ""),
        ({"gateways": "all"}, measure(), ""),
        ({"gateways": "all"}, measure(a=hears(g1=PERMANENT)), ""),
        ({"gateways": "all"}, measure(a=WELL, b=SILENT_2), "gateways: shop/a: gateway 2 does not"
         " answer now"),
        ({"gateways": "all"}, measure(a=pod("lost", gateways={"1": NOT_ASKED})), "gateways: shop/a:"
         " gateway 1 cannot be asked now (why)"),
        ({"gateways": ["10.9.0.1"]}, measure(a=pod(gateways={"10.9.0.1": ANSWERED, "2": SILENT})),
         ""),
        ({"gateways": ["10.9.0.1"]}, measure(a=WELL), "gateways: no pod has 10.9.0.1 as its"
         " gateway"),
        ({"gateways": ["10.9.0.1"]}, measure(a=pod(gateways={"10.9.0.1": SILENT})), "gateways:"
         " shop/a: gateway 10.9.0.1 does not answer now"),
    ],
)  # fmt: skip
def test_requirement_that_does_not_hold_now(
    require: dict[str, Any], now: Measure, problem: str
) -> None:
    found = unmet(plan(require=require), [CHECKPOINT], now)
    assert found == ([f"$.require.{problem}{PUT_RIGHT}"] if problem else [])


def test_of_many_silent_pods_few_are_named() -> None:
    pods = {str(n): replace(SILENT_2, title=f"shop/{n}") for n in range(2000)}
    (problem,) = unmet(plan(require={"gateways": "all"}), [], measure(**pods))
    assert (
        problem
        == f"$.require.gateways: shop/0 and 1999 more: gateway 2 does not answer now{PUT_RIGHT}"
    )


# --- the journal ----------------------------------------------------------------------------------

WHOLE = measure(
    link("bond4"),
    link("eth0", "down", bond="bond4", usable=False),
    a=SILENT_2,
    b=pod("degraded", findings=("x",), conflicts=("1",), error=(1, "e"), carrier=False),
)


def test_measure_in_the_journal_is_the_same() -> None:
    event = json.loads(json.dumps({"event": "before", "at": 1.0, **WHOLE.document()}))
    assert measured_before(progress_of([event])) == WHOLE
    assert measured_before(progress_of([])) == NOTHING_KNOWN


def test_what_a_newer_version_has_noted_beside_is_no_trouble() -> None:
    """After a rollback: `upgrade --status` reads the same journal."""
    noted = WHOLE.document()
    for one in (*noted["links"], *noted["attachments"].values()):
        one["since"] = "1.0"
    assert Measure.of(noted) == WHOLE


def test_what_is_told_apart() -> None:
    before = measure(link("eth0"), link("eth1", "up"), a=SILENT_2, b=WELL, c=LOST)
    after = measure(
        link("eth0", "up"), link("eth1", "up"), link("eth2", "up"), a=SILENT_2, b=SILENT_2, c=WELL
    )
    assert as_bad_as_before(before, after) == [("", "eth1 has no carrier"), ("shop/a", "why")]
    assert as_bad_as_before(NOTHING_KNOWN, after) == []


# --- the kubelet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_kubelet_becomes_what_it_was(active: bool, masked: bool) -> None:
    """By us, and by the dead man's timer: one that was stopped stays so, a mask of others stays."""
    script = _release_script(Found("kubelet.service", active, masked))
    assert ("systemctl start kubelet.service" in script) == active
    assert ("unmask" in script) == (not masked)
