"""Restored IPv6 addresses that are used while it is asked whether others have them: the plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import IFA_F_NODAD, link_local_of
from cni_repair.network.kernel.sysctl import (
    ACCEPT_DAD,
    ADDR_GEN_MODE,
    DAD_TRANSMITS,
    DISABLE_IPV6,
    STABLE_SECRET,
)
from cni_repair.network.model import IFF_NOARP, Address, Attachment, PodLink
from cni_repair.network.observed import Observed
from cni_repair.network.operations.address import AddAddress, ChangeAddress, SetAddress
from cni_repair.network.operations.link import SetUp, SetUpWithLinkLocal
from cni_repair.network.planning.address import as_verified, unverified
from cni_repair.network.planning.plan import HEALTHY, Plan, plan
from tests.unit.samples import (
    ADDRESS,
    ADDRESS_6,
    ATTACHMENT,
    LINK,
    MASTER,
    NODE_NETNSID,
    live,
)
from tests.unit.simulator import complete, repaired
from tests.unit.test_plan_properties import attachments

USUAL = {ACCEPT_DAD: "1", ADDR_GEN_MODE: "0", DAD_TRANSMITS: "1", DISABLE_IPV6: "0"}
LINK_LOCAL = Address(6, link_local_of(LINK.mac), 64, scope=253, proto=3)


def nothing(**begins_with: str) -> Observed:
    """No interface, in a namespace that gives a new one these sysctls."""
    given = {**USUAL, **{f"ipv6/{name}": value for name, value in begins_with.items()}}
    return Observed(NODE_NETNSID, None, begins_with=tuple(given.items()))


def at_once(address: Address) -> Address:
    return replace(address, flags=address.flags | IFA_F_NODAD)


def lost(desired: Attachment, before: Observed, beside: bool = True) -> Plan:
    return plan(desired, before, MASTER, beside)


def made_usable(made: Plan) -> list[Address]:
    """The addresses that are added for use at once, and left so."""
    added = [step.address for step in made.operations if isinstance(step, AddAddress)]
    added += [step.address for step in made.operations if isinstance(step, SetUpWithLinkLocal)]
    plain = [step.address.key for step in made.operations if isinstance(step, ChangeAddress)]
    return [one for one in added if one.flags & IFA_F_NODAD and one.key not in plain]


def test_addresses_of_a_lost_interface() -> None:
    made = lost(ATTACHMENT, nothing())
    assert made_usable(made) == [at_once(ADDRESS_6), at_once(LINK_LOCAL)]
    assert SetUp("eth0") not in made.operations
    assert {step.ifname for step in made.operations} == {"eth0"}


def with_link(**changes: object) -> PodLink:
    return replace(LINK, **changes)


FOUR_ALONE = replace(ATTACHMENT, addresses=(ADDRESS,))
WITHOUT = replace(ATTACHMENT, addresses=(ADDRESS, at_once(ADDRESS_6)))
L3 = replace(ATTACHMENT, link=with_link(kind="ipvlan", mode="l3"))
NO_ARP = replace(ATTACHMENT, link=with_link(device_flags=IFF_NOARP))
ACCEPTS = replace(ATTACHMENT, sysctls=((ACCEPT_DAD, "0"),))
KERNELS_WAY = {
    "IPv4 alone": (FOUR_ALONE, nothing()),
    "a namespace that accepts duplicates": (ATTACHMENT, nothing(accept_dad="0")),
    "and so in another way": (ATTACHMENT, nothing(accept_dad="-1")),
    "an interface that accepts them": (ACCEPTS, nothing()),
    "one without neighbours": (L3, nothing()),
    "one that does not ask for them": (NO_ARP, nothing()),
    "a kernel without IPv6": (ATTACHMENT, Observed(NODE_NETNSID, None)),
}


@pytest.mark.parametrize("desired, before", KERNELS_WAY.values(), ids=KERNELS_WAY)
def test_who_need_not_wait(desired: Attachment, before: Observed) -> None:
    assert lost(desired, before) == lost(desired, before, beside=False)


def test_left_to_the_kernel() -> None:
    assert made_usable(lost(ATTACHMENT, nothing(), beside=False)) == []
    assert SetUp("eth0") in lost(ATTACHMENT, nothing(), beside=False).operations
    assert plan(ATTACHMENT, nothing(), MASTER) == lost(ATTACHMENT, nothing(), beside=False)


IPVLAN = replace(ATTACHMENT, link=with_link(kind="ipvlan", mode="l2", bcqueuelen=0))
OTHER_LINK_LOCALS = {
    "none": (ATTACHMENT, nothing(addr_gen_mode="1")),
    "at random": (ATTACHMENT, nothing(addr_gen_mode="3")),
    "IPv6 is off": (ATTACHMENT, nothing(disable_ipv6="1")),
    "by a secret": (
        replace(ATTACHMENT, sysctls=((STABLE_SECRET, "2001:db8::1"), (ADDR_GEN_MODE, "2"))),
        nothing(),
    ),
    "by another MAC": (replace(ATTACHMENT, addr_gen_mode=0), nothing()),
    "of a MAC that is not known": (replace(ATTACHMENT, link=with_link(mac="")), nothing()),
    "of an ipvlan": (IPVLAN, nothing()),
    "on a link that is itself recorded": (
        replace(ATTACHMENT, addresses=(ADDRESS_6, replace(LINK_LOCAL, proto=0))),
        nothing(),
    ),
}


@pytest.mark.parametrize("desired, before", OTHER_LINK_LOCALS.values(), ids=OTHER_LINK_LOCALS)
def test_link_local_address_that_is_the_kernels_affair(
    desired: Attachment, before: Observed
) -> None:
    made = lost(desired, before)
    assert SetUp("eth0") in made.operations
    assert at_once(ADDRESS_6) in made_usable(made)


def test_who_asks_nobody_is_not_asked_about() -> None:
    made = lost(ATTACHMENT, nothing(dad_transmits="0"))
    assert made_usable(made) == []
    step = ChangeAddress("eth0", ADDRESS_6, at_once(ADDRESS_6))
    assert step in made.operations
    assert step.steps == (SetAddress("eth0", ADDRESS_6),)


def test_recorded_so_stays_so() -> None:
    before = nothing(dad_transmits="0")
    assert not any(isinstance(one, ChangeAddress) for one in lost(WITHOUT, before).operations)
    after = repaired(lost(WITHOUT, nothing()).operations, nothing())
    assert [one.address for one in unverified(WITHOUT, after)] == [LINK_LOCAL.address]


# --- afterwards ----------------------------------------------------------------------------------

SETTLED = replace(ATTACHMENT, settled=True)


def found(desired: Attachment, *addresses: Address) -> Observed:
    return replace(complete(desired), link=live(), addresses=addresses)


@pytest.mark.parametrize("desired", [ATTACHMENT, SETTLED])
def test_to_be_verified_is_no_fault(desired: Attachment) -> None:
    made = plan(desired, found(desired, ADDRESS, at_once(ADDRESS_6)), MASTER)
    assert made == Plan(HEALTHY, unverified=(ADDRESS_6,))


def test_as_it_will_be_once_it_is_verified() -> None:
    """The kernel's own address, too; what the pod added itself keeps its flag."""
    own = at_once(Address(6, "fd00::99", 64))
    midway = found(ATTACHMENT, ADDRESS, at_once(ADDRESS_6), own)
    midway = replace(midway, addresses_by_kernel=(at_once(LINK_LOCAL),))
    assert as_verified(ATTACHMENT, midway) == replace(
        midway, addresses=(ADDRESS, ADDRESS_6, own), addresses_by_kernel=(LINK_LOCAL,)
    )


def test_another_change_leaves_it_to_be_verified() -> None:
    changed = replace(at_once(ADDRESS_6), valid=600)
    made = plan(SETTLED, found(SETTLED, ADDRESS, changed), MASTER)
    assert [step.address for step in made.operations] == [at_once(ADDRESS_6)]  # type: ignore[attr-defined]
    assert made.unverified == (replace(ADDRESS_6, valid=600),)


def test_flag_that_the_record_has_and_the_pod_has_not_is_a_fault() -> None:
    desired = replace(SETTLED, addresses=(ADDRESS, at_once(ADDRESS_6)))
    made = plan(desired, found(desired, ADDRESS, ADDRESS_6), MASTER)
    assert made.findings == ("address fd00::155/64 has flags 0x0, it had 0x2",)
    assert made.unverified == ()


def test_what_the_pod_added_itself_is_its_own() -> None:
    own = at_once(Address(6, "fd00::99", 64))
    assert plan(SETTLED, found(SETTLED, ADDRESS, ADDRESS_6, own), MASTER) == Plan(HEALTHY)


@pytest.mark.parametrize(("recorded_mode", "to_verify"), [(None, (LINK_LOCAL,)), (0, ())])
def test_kernels_link_local_address_is_ours_where_a_new_link_would_get_it(
    recorded_mode: int | None, to_verify: tuple[Address, ...]
) -> None:
    """With a recorded way of making such addresses they are recorded themselves."""
    desired = replace(SETTLED, addr_gen_mode=recorded_mode)
    there = replace(found(SETTLED, ADDRESS), addresses_by_kernel=(at_once(LINK_LOCAL),))
    assert unverified(desired, there) == to_verify


begins = st.fixed_dictionaries(
    {
        "accept_dad": st.sampled_from(["0", "1", "2"]),
        "addr_gen_mode": st.sampled_from(["0", "1"]),
        "dad_transmits": st.sampled_from(["0", "1", "3"]),
    }
)


def addresses_of(observed: Observed) -> set[Address]:
    return {*observed.addresses, *observed.addresses_by_kernel}


@given(attachments(), begins)
def test_once_verified_it_is_as_the_kernel_would_have_it(
    desired: Attachment, begins_with: dict[str, str]
) -> None:
    before = nothing(**begins_with)
    kernels = repaired(lost(desired, before, beside=False).operations, before)
    midway = repaired(lost(desired, before).operations, before)
    to_verify = unverified(desired, midway)
    assert plan(desired, midway, MASTER).operations == ()
    after = repaired([SetAddress("eth0", one) for one in to_verify], midway)
    assert addresses_of(after) == addresses_of(kernels)
    assert addresses_of(as_verified(desired, midway)) == addresses_of(kernels)
    assert replace(after, addresses=(), addresses_by_kernel=()) == replace(
        kernels, addresses=(), addresses_by_kernel=()
    )
    assert plan(desired, after, MASTER).unverified == ()


@given(attachments(), begins)
def test_killed_after_any_step_the_next_repair_finishes_it(
    desired: Attachment, begins_with: dict[str, str]
) -> None:
    before = nothing(**begins_with)
    steps = lost(desired, before).operations
    for done in range(1, len(steps) + 1):
        midway = repaired(steps[:done], before)
        after = repaired(plan(desired, midway, MASTER).operations, midway)
        assert plan(desired, after, MASTER).operations == ()
        wanted = {one.key: one for one in desired.addresses}
        odd = {one.key for one in after.addresses if one.flags != wanted[one.key].flags}
        assert odd <= {one.key for one in unverified(desired, after)}
