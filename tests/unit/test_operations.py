"""Steps have one protocol, and who applies them knows no kinds."""

from __future__ import annotations

import ast
import errno
from pathlib import Path

import pytest

from cni_repair.network.model import Vlan
from cni_repair.network.operations import address, link, neighbour, route, rule
from cni_repair.network.operations.base import Operation
from cni_repair.uplink import operations as of_the_node
from tests.unit.samples import ADDRESS, LINK, REPOSITORY, ROUTE, ROUTE_6

MODULES = (address, link, neighbour, route, rule, of_the_node)
KINDS = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Operation) and kind is not Operation
    },
    key=lambda kind: kind.__name__,
)


def test_there_are_all_of_them() -> None:
    assert len(KINDS) == 18


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_step_says_and_does_for_itself(kind: type[Operation]) -> None:
    assert {"describe", "requests"} <= vars(kind).keys()


@pytest.mark.parametrize("module", ["network/apply.py", "uplink/apply.py"])
def test_who_applies_steps_asks_for_no_class(module: str) -> None:
    source = Path(REPOSITORY, "cni_repair", module).read_text(encoding="utf-8")
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert not {"isinstance", "type", "issubclass"} & names
    # The neighbours that a step made the kernel forget are given back by one of their own.
    assert {kind.__name__ for kind in KINDS} & names <= {"SetNeighbour"}


@pytest.mark.parametrize(
    ("step", "tolerated"),
    [
        (address.AddAddress("eth0", ADDRESS), {errno.EEXIST}),
        (address.DropAddress("eth0", ADDRESS), {errno.ESRCH, errno.EADDRNOTAVAIL}),
        (route.AddRoute("eth0", ROUTE), {errno.EEXIST}),
        (route.AddRoute("eth0", ROUTE_6), {errno.EEXIST}),
        (route.DropRoute("eth0", ROUTE), {errno.ESRCH, errno.EADDRNOTAVAIL}),
        (of_the_node.SetNodeLinkUp("eth0.3"), {errno.ENETDOWN}),
    ],
)
def test_refusals_that_mean_already_so(step: Operation, tolerated: set[int]) -> None:
    assert step.tolerated == tolerated


def test_only_what_makes_a_link_stands_over_another() -> None:
    made: dict[Operation, str] = {
        link.AddPodLink("eth0", "eth0.3", LINK): "eth0.3",
        of_the_node.AddVlan("eth0.3", "eth0", Vlan(3), 0): "eth0",
        of_the_node.AddShim("shim0", "eth0.3", LINK): "eth0.3",
        of_the_node.SetNodeLinkUp("eth0.3"): "",
        link.SetUp("eth0"): "",
        address.AddAddress("eth0", ADDRESS): "",
    }
    assert [step.over for step in made] == [*made.values()]


@pytest.mark.parametrize(
    ("what", "flushed"), [("mac", "eth0"), ("arp", "eth0"), ("mtu", ""), ("alias", "")]
)
def test_what_the_kernel_forgets_neighbours_with(what: str, flushed: str) -> None:
    assert link.SetLink("eth0", what, LINK).flushes_neighbours_of == flushed


def test_sysctl_goes_into_a_file_where_no_message_sets_it() -> None:
    by_file = link.SetSysctl("eth0", "ipv6/accept_ra", "0")
    assert by_file.file == ("ipv6/accept_ra", "eth0", "0")
    assert link.SetSysctl("eth0", "ipv4/arp_notify", "1").file is None
