"""Armed repairs: prepared while the master is away, fired once it is back, and each of the doubts
that leaves a pod to the ordinary way."""

from __future__ import annotations

import pytest

from tests.netns.armedrig import arming, healed
from tests.netns.rig import Rig

pytestmark = pytest.mark.slow  # many, though each is short


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_all_are_as_they_were(rig: Rig, processes: int) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(1, 4)]
    rig.uplink_down()
    with arming(rig, processes) as armed:
        assert (armed.count, armed.refused) == (3, {})
        rig.uplink_up()
        document = armed.fire()
    assert armed.missed == {}
    for was in pods:
        assert rig.state(was.pod) == was.state
        actions = healed(document, was.pod)["actions"]
        assert actions[0].startswith("ip link add link eth0 name eth0")
    again = rig.plugin("REPAIR").report(0)
    assert [entry["actions"] for entry in again["attachments"]] == [[], [], []]
