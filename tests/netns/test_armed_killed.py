"""Whoever fires armed repairs is killed half-way, or fires beside another: nothing is lost, and
nothing is made twice."""

from __future__ import annotations

import json

import pytest

from tests.netns.armedrig import TAKEN, arming, healed
from tests.netns.rig import Attachment, Rig, entry_of, eventually, options
from tests.netns.test_announce import Wire, announced_of
from tests.netns.test_armed_index import assert_as_they_were, fired, told
from tests.processes import is_alive

pytestmark = pytest.mark.slow  # many, though each is short

# Where `die()` is called: of one that fires a pod, or several.
POINTS = {
    "before the links": """
create = Firing._create
Firing._create = lambda *given: (die(), create(*given))
""",
    "before the rest": """
send = firing._send_rest
firing._send_rest = lambda aim: (die(), send(aim))
""",
    "before it is told": """
judge = firing._judge
firing._judge = lambda aim: (judge(aim), die())
""",
}
by_point = pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)


def dying(rig: Rig, point: str, who: str = "True") -> str:
    """Python code by which one process is killed, once."""
    flag = rig.base / "died"
    return f"""
import os, time
from cni_repair.repair.armed import firing
from cni_repair.repair.armed.firing import Firing
first, flag = os.getpid(), {str(flag)!r}
def die():
    if not ({who}):
        return
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), 9)
{point}
"""


# The first process fires nothing before another one was killed: it might be done alone.
LATER = """
fire = Firing.fire
def later(*given):
    until = time.monotonic() + 30
    while os.getpid() == first and not os.path.exists(flag) and time.monotonic() < until:
        time.sleep(0.01)
    return fire(*given)
Firing.fire = later
"""


def has_died(rig: Rig) -> bool:
    return (rig.base / "died").exists()


def pods(rig: Rig, count: int = 6) -> list[Attachment]:
    return [rig.attach(f"pod{number}") for number in range(count)]


@by_point
def test_worker_that_is_killed_while_it_fires(rig: Rig, point: str) -> None:
    were = pods(rig)
    rig.uplink_down()
    with arming(rig, 2, dying(rig, point + LATER, "os.getpid() != first")) as armed:
        rig.uplink_up()
        node = rig.node_links()
        with Wire(rig) as wire:
            document = armed.fire()
            assert [announced_of(wire, was) for was in were] == [{was.address} for was in were]
    assert has_died(rig)
    nothing_made = point == POINTS["before the links"]
    assert {*armed.missed} == ({"who was to do it was killed"} if nothing_made else set())
    for was in were:
        actions = healed(document, was.pod)["actions"]
        # Done by whomever, it is told, and once.
        assert [action.split()[:3] for action in actions].count(["ip", "link", "add"]) == 1
        assert len({*actions}) == len(actions)
    assert_as_they_were(rig, *were)
    assert rig.node_links() == node


@by_point
def test_what_was_not_lost_any_more_is_not_told_as_repaired(rig: Rig, point: str) -> None:
    """A worker has died, and nobody tells what it did. It had one that is well, and one that is
    not."""
    were = pods(rig, 12)
    rig.uplink_down()
    with arming(rig, 2, dying(rig, point + LATER, "os.getpid() != first")) as armed:
        rig.uplink_up()
        well = were[::2]
        for was in well:  # by somebody else, meanwhile
            rig.plugin("REPAIR", was.pod).ok()
        document = armed.fire()
    assert has_died(rig)
    for was in were:
        actions = healed(document, was.pod)["actions"]
        assert bool(actions) == (was not in well)
    assert_as_they_were(rig, *were)


@by_point
def test_repair_that_is_killed_while_it_fires(rig: Rig, point: str) -> None:
    """The next one goes by the same index."""
    were = pods(rig, 3)
    rig.cli("snapshot", *options(rig))
    rig.reload()
    node = rig.node_links()
    assert rig.plugin("REPAIR", patch=dying(rig, point)).status == -9
    assert has_died(rig)
    made = sum("eth0" in rig.links(was.pod) for was in were)
    document = rig.plugin("REPAIR", patch=told(rig)).report(0)
    for was in were:
        healed(document, was.pod)
    assert fired(rig) == (3, 3, {TAKEN: made} if made else {})
    assert_as_they_were(rig, *were)
    assert rig.node_links() == node


def test_first_process_that_is_killed_while_others_fire(rig: Rig) -> None:
    were = pods(rig)
    rig.uplink_down()
    point = """
from cni_repair.repair.armed.ready import Armed
results = Armed._results
def one(self, numbers):
    for number, shots in results(self, numbers):
        yield number, shots
        die()
Armed._results = one
"""
    with pytest.raises(AssertionError), arming(rig, 2, dying(rig, point)) as armed:
        workers = armed.workers()
        rig.uplink_up()
        armed.fire()
    assert has_died(rig)
    document = rig.plugin("REPAIR").report(0)  # (Their locks are waited for.)
    for was in were:
        healed(document, was.pod)
    assert_as_they_were(rig, *were)
    eventually(lambda: not any(map(is_alive, workers)), "the workers to end")


def test_two_that_fire_at_once(rig: Rig) -> None:
    """Each pod is fired by one of them; for whom the other has locked, it waits."""
    were = pods(rig, 3)
    rig.cli("snapshot", *options(rig))
    rig.reload()
    node = rig.node_links()
    holds, go = rig.base / "holds", rig.base / "go"
    first = f"""
import os, time
from cni_repair.repair.armed.firing import Firing
create = Firing._create
def slow(*given):
    open({str(holds)!r}, "w").close()
    while not os.path.exists({str(go)!r}):
        time.sleep(0.01)
    create(*given)
Firing._create = slow
"""
    second = f"""
from cni_repair.repair.scheduler import _Repair
locked = _Repair._repair_locked
def waits(self):
    open({str(go)!r}, "w").close()
    locked(self)
_Repair._repair_locked = waits
"""
    environ = rig.environ("REPAIR", None)
    conf = json.dumps(rig.conf())
    with rig.started(rig.launcher(first), stdin=conf, env=environ) as process:
        eventually(holds.exists, "the first one to have the locks")
        later = rig.plugin("REPAIR", patch=second + told(rig)).report(0)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    _, count, missed = fired(rig)
    assert (count, [*missed.values()]) == (3, [1])
    assert "lslocks" in next(iter(missed))
    did = [
        [bool(healed(document, was.pod)["actions"]) for was in were]
        for document in (json.loads(out), later)
    ]
    assert did == [[True, False, False], [False, True, True]]
    assert_as_they_were(rig, *were)
    assert rig.node_links() == node


def test_index_of_pods_that_are_repaired_in_part(rig: Rig) -> None:
    """By one that was killed: the first ones are there, the others are fired all the same."""
    were = pods(rig)
    rig.cli("snapshot", *options(rig))
    rig.reload()
    for was in were[:3]:
        rig.plugin("REPAIR", was.pod).ok()
    document = rig.plugin("REPAIR", patch=told(rig)).report(0)
    assert fired(rig) == (6, 6, {TAKEN: 3})
    assert [bool(entry_of(document, was.pod)["actions"]) for was in were] == [False] * 3 + [
        True
    ] * 3
    assert_as_they_were(rig, *were)
