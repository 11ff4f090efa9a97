"""What the daemon knows of attachments, and of the node's links: pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cni_repair.watch.attachments import Attachments, Place
from cni_repair.watch.events import LinkEvent
from cni_repair.watch.links import Links
from cni_repair.watch.policy import DRIFT, START, UPLINK

DIRECTORY = "/checkpoints"


def line(name: str = "a", state: str = "healthy", over: int = 7, **changes: Any) -> dict[str, Any]:
    """What a child says of an attachment."""
    return {
        "file": f"{name}@eth0.json",
        "containerID": name,
        "ifname": "eth0",
        "pod": f"shop/{name}",
        "network": "pods",
        "chain": ["eth0.3", "eth0"],
        "over": over,
        "state": state,
        "reason": "",
        "code": 0,
        "unverified": False,
        "mark": "1:2:3",
        **changes,
    }


def states(known: Attachments) -> Counter[str]:
    return Counter(one.state for one in known)


def place(name: str) -> Place:
    return Place(DIRECTORY, f"{name}@eth0.json")


class TestCause:
    def test_of_the_first_look_is_the_start(self) -> None:
        known = Attachments()
        assert known.saw(DIRECTORY, line(state="lost", over=0), 1.0).one.cause == START

    @pytest.mark.parametrize("state", ["lost", "degraded"])
    def test_is_drift_while_the_master_is_the_same(self, state: str) -> None:
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        assert known.saw(DIRECTORY, line(state=state), 2.0).one.cause == DRIFT

    @pytest.mark.parametrize("over", [0, 8])
    def test_is_the_uplink_where_the_master_is_another_or_gone(self, over: int) -> None:
        """Messages may have been missed."""
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        assert known.saw(DIRECTORY, line(state="lost", over=over), 2.0).one.cause == UPLINK

    def test_stays_until_it_is_well(self) -> None:
        """A VLAN is made again with its old index: the master is the same, and yet it was gone."""
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        known.uplink_lost("eth0", 2.0)
        one = known.saw(DIRECTORY, line(state="degraded"), 3.0).one
        assert (one.cause, one.lost_at) == (UPLINK, 2.0)
        assert known.saw(DIRECTORY, line(), 4.0).one.cause == ""
        assert known.saw(DIRECTORY, line(state="lost"), 5.0).one.cause == DRIFT

    def test_a_change_tells_how_it_was(self) -> None:
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        known.uplink_lost("eth0.3", 2.0)
        change = known.saw(DIRECTORY, line(), 3.0)
        assert (change.before, change.lost_at, change.one.lost_at) == ("lost", 2.0, None)


class TestAnUplink:
    def test_takes_all_that_stands_on_it(self) -> None:
        known = Attachments()
        known.saw(DIRECTORY, line("a"), 1.0)
        known.saw(DIRECTORY, line("b", chain=["eth1"]), 1.0)
        known.saw(DIRECTORY, line("c", chain=["eth0"]), 1.0)
        gone = known.uplink_lost("eth0", 2.0)
        assert [one.container_id for one in gone] == ["a", "c"]
        assert states(known) == {"lost": 2, "healthy": 1}

    def test_is_lost_once_with_its_vlan(self) -> None:
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        assert len(known.uplink_lost("eth0.3", 2.0)) == 1
        assert known.uplink_lost("eth0", 2.1) == []

    def test_overtakes_a_look_that_began_before(self) -> None:
        """Else it would be told as lost, seen as healthy, and told as lost again."""
        known = Attachments()
        one = known.saw(DIRECTORY, line(), 1.0).one
        assert not one.was_lost_since(0.5)
        known.uplink_lost("eth0", 2.0)
        assert one.was_lost_since(1.9)
        assert not one.was_lost_since(2.1)

    def test_is_when_the_loss_was_that_a_look_has_seen_already(self) -> None:
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        known.saw(DIRECTORY, line(state="lost", over=0), 2.0)
        (one,) = known.uplink_lost("eth0", 2.1)
        assert (one.lost_at, one.cause) == (2.1, UPLINK)

    def test_is_told_once_though_a_look_at_others_is_still_at_work(self) -> None:
        """Its changes are told at its end; by then the first of them are old."""
        known = Attachments()
        change = known.saw(DIRECTORY, line(), 1.0)
        known.uplink_lost("eth0", 2.0)
        assert not change.is_news
        assert known.saw(DIRECTORY, line(), 3.0).is_news
        assert known.saw(DIRECTORY, line(state="lost"), 4.0).is_news

    def test_does_not_take_what_is_not_there(self) -> None:
        """A stale record's pod is no more."""
        known = Attachments()
        known.saw(DIRECTORY, line(state="stale"), 1.0)
        assert known.uplink_lost("eth0", 2.0) == []
        assert states(known) == {"stale": 1}


class TestAttachments:
    def test_are_forgotten_with_their_records(self) -> None:
        known = Attachments()
        for name in "abc":
            known.saw(DIRECTORY, line(name), 1.0)
        assert known.masters() == {"eth0.3": 3, "eth0": 3}
        known.drop(place("a"))
        known.keep_files(DIRECTORY, ["b@eth0.json"])
        assert [one.container_id for one in known] == ["b"]
        assert known.masters() == {"eth0.3": 1, "eth0": 1}
        known.keep_directories(["/others"])
        assert len(known) == 0
        assert known.masters() == {}

    def test_stand_on_what_was_said_last(self) -> None:
        known = Attachments()
        known.saw(DIRECTORY, line(), 1.0)
        assert "eth0" in known.masters()
        known.saw(DIRECTORY, line(chain=["bond4"]), 2.0)
        assert known.masters() == {"bond4": 1}


def link(names: str, ifindex: int = 2, gone: bool = False, carrier: bool = True) -> LinkEvent:
    return LinkEvent(gone, ifindex, tuple(names.split()), True, carrier)


class TestLinks:
    def test_what_is_said_again_is_no_news(self) -> None:
        links = Links()
        assert links.saw(link("eth0"))
        assert not links.saw(link("eth0"))

    @pytest.mark.parametrize(
        "event",
        [link("eth0", carrier=False), link("eth0 wan"), link("eth1"), link("eth0", gone=True)],
    )
    def test_what_is_otherwise_is(self, event: LinkEvent) -> None:
        links = Links()
        links.saw(link("eth0"))
        assert links.saw(event)

    def test_a_renamed_link_has_its_old_name_no_more(self) -> None:
        links = Links()
        links.saw(link("eth1"))
        links.saw(link("eth0"))
        assert links.get("eth1") is None
        assert links.get("eth0") is not None

    def test_a_name_that_another_has_taken_stays_its_own(self) -> None:
        links = Links()
        links.saw(link("eth0", 2))
        links.saw(link("eth0", 3))  # the message of the first one's end comes late
        links.saw(link("eth0", 2, gone=True))
        found = links.get("eth0")
        assert found is not None
        assert found.ifindex == 3

    def test_a_new_beginning_forgets(self) -> None:
        links = Links()
        links.saw(link("eth0"))
        links.begin([link("lo", 1)])
        assert links.get("eth0") is None
        assert links.get("lo") is not None
