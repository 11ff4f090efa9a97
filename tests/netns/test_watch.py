"""`cni-repair watch`: pods are healed, and nobody calls anything."""

from __future__ import annotations

from tests.netns.rig import Rig
from tests.netns.watching import watching


def test_pods_come_back_with_their_uplink(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(3)]
    with watching(rig) as watch:
        watch.until_healthy(3)
        rig.uplink_down()
        watch.until(lambda status: status["attachments"] == {"lost": 3}, "the loss to be seen")
        rig.uplink_up()
        watch.until_healthy(3)
        for one in pods:
            assert rig.state(one.pod) == one.state
        assert watch.status()["heals"]["total"] == 3
        assert watch.end() == 0


def test_interfaces_without_a_record_are_counted(rig: Rig) -> None:
    """Those, and none that has one: nobody must look for pods that are well."""
    for number in range(2):
        rig.attach(f"pod{number}")
    rig.bare("ADD", rig.pod("bare"), rig.conf()).ok()
    with watching(rig) as watch:
        status = watch.until(lambda status: status["unmanaged"], "the survey")
        assert status["unmanaged"] == 1
        assert status["coverage"] == {"restorable": 2, "interfaces": 3}
