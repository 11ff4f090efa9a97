"""The phase `driver`: the plan's command, and the links that go with it."""

from __future__ import annotations

import time

from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.upgrade import driver
from cni_repair.upgrade.context import living
from cni_repair.upgrade.link_monitor import LinkMonitor
from cni_repair.upgrade.uplinks import stacked_names, with_carrier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.upgrade.context import Outcome, Upgrade


def run(upgrade: Upgrade) -> Outcome:
    """Run the driver command to its end, or wait for the one that a killed upgrade started."""
    with upgrade.node() as (node, _, entries):
        # What has no carrier now cannot lose it: its first news would be of its return.
        names = with_carrier(node.rtnl, stacked_names(living(node, entries)))
    began = time.monotonic()

    def note_lost(link: str) -> None:
        upgrade.events.add("lost", durable=False, link=link)

    with LinkMonitor(names, note_lost) as monitor:
        ended = _driver_of_before(upgrade, monitor)
        if ended is None:
            ended = _watched(upgrade, _started(upgrade), monitor)
    took = f"after {time.monotonic() - began:.1f} s"
    if ended.timed_out:
        deadline = f"{upgrade.plan.driver.deadline:g} s"
        return False, f"killed at its deadline of {deadline}", {"timedOut": True}
    if ended.status is None:
        return False, f"ended {took}, nobody knows how: was it killed?", {}
    last = upgrade.events.progress.events.get("output", {}).get("line", "").strip()
    why = f": {last}" if ended.status and last else ""
    return ended.status == 0, f"exit {ended.status} {took}{why}", {"status": ended.status}


def _watched(upgrade: Upgrade, running: driver.Running, monitor: LinkMonitor) -> driver.Ended:
    def note_output(line: str) -> None:
        upgrade.events.add("output", durable=False, line=line)

    return driver.watch(running, RUN_DIR, note_output, monitor.listen)


def _driver_of_before(upgrade: Upgrade, monitor: LinkMonitor) -> driver.Ended | None:
    """What came of the command that a killed upgrade started; None where there was none, or where
    it was killed, too, and has to be run again."""
    noted = upgrade.events.progress.events.get("driver")
    if noted is None:
        return None
    running = driver.noted(noted)
    if driver.is_alive(running, RUN_DIR):
        upgrade.events.say(f"the driver command is still at work (PID {running.pid})")
    ended = _watched(upgrade, running, monitor)
    if ended.status is None and not ended.timed_out:
        upgrade.events.say("the driver command did not come to its end: it is run again")
        return None
    return ended


def _started(upgrade: Upgrade) -> driver.Running:
    plan = upgrade.plan.driver
    with driver.Prepared(plan.command, RUN_DIR, plan.deadline) as prepared:
        running = prepared.running
        deadline = round(running.deadline, 3)
        upgrade.events.commit("driver", pid=running.pid, start=running.start, deadline=deadline)
        return prepared.go()
