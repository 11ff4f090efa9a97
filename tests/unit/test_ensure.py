"""Masters made while their card comes and goes: what is done after which look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.network.model import HostLink
from cni_repair.network.operations.base import Operation
from cni_repair.uplink import ensure
from cni_repair.uplink.apply import Applied
from cni_repair.uplink.plan import ParentPlan, plan_parents
from tests.unit.samples import MASTER, UPLINK

CHAIN = (MASTER, UPLINK)
DOWN = replace(UPLINK, flags=0)


class Node:
    """A card that goes up, or down, just before each piece of work."""

    def __init__(self, card: HostLink, *news: HostLink) -> None:
        self.links = {"eth0": card}
        self.news = [*news]
        self.done: list[str] = []

    def look(self, *arguments: Any) -> tuple[ParentPlan, HostLink | None]:
        return plan_parents(CHAIN, self.links), self.links.get("eth0.3")

    def apply(self, rtnl: Any, operations: Sequence[Operation]) -> Applied:
        if self.news:
            self.links["eth0"] = self.news.pop(0)
        for operation in operations:
            self.done.append(operation.describe(""))
            is_up = self.done[-1].endswith("up") and self.links["eth0"].up
            self.links["eth0.3"] = MASTER if is_up else replace(MASTER, flags=0)
        return Applied(True)


def ensured(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostLink:
    monkeypatch.setattr(ensure, "look", node.look)
    monkeypatch.setattr(ensure, "apply_to_node", node.apply)
    return ensure.ensure(None, str(tmp_path / "run"), CHAIN)  # type: ignore[arg-type]


ADD = "ip link add link eth0 name eth0.3 type vlan id 3"
UP = "ip link set dev eth0.3 up"


@pytest.mark.parametrize(
    ("card", "news", "done", "is_up"),
    [
        (UPLINK, [], [ADD, UP], True),
        (DOWN, [], [ADD], False),  # it follows its card up
        # The card came up between the look and the work: nothing would set the VLAN up any more.
        (DOWN, [UPLINK], [ADD, UP], True),
        (UPLINK, [DOWN], [ADD, UP], False),
        (UPLINK, [DOWN, UPLINK], [ADD, UP], False),
    ],
)
def test_a_vlan_is_up_where_its_card_is(
    card: HostLink,
    news: list[HostLink],
    done: list[str],
    is_up: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(card, *news)
    assert ensured(node, tmp_path, monkeypatch).up == is_up
    assert node.done == done


def test_a_card_that_goes_up_and_down_is_left_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flapping(rtnl: Any, operations: Sequence[Operation]) -> Applied:
        applied = Node.apply(node, rtnl, operations)
        node.links["eth0"] = UPLINK
        node.links["eth0.3"] = replace(MASTER, flags=0)
        return applied

    node = Node(DOWN)
    monkeypatch.setattr(node, "apply", flapping)
    assert not ensured(node, tmp_path, monkeypatch).up
    assert node.done == [ADD, UP, UP]
