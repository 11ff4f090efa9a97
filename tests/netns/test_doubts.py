"""Addresses for which no store speaks (the real `static` IPAM): the wire is asked before a lost
interface is made again."""

from __future__ import annotations

import json

import pytest

from tests.netns.onwire import FOUR, MAC, SIX, another_host, static
from tests.netns.rig import Attachment, Rig, entry_of, eventually, options, states

pytestmark = pytest.mark.slow  # many, though each is short

COUNTING = """
from cni_repair.network.reachability import holders
ask_for = holders.ask_for
def counted(rtnl, wanted):
    with open({path!r}, "a") as file:
        print(*sorted(address for one in wanted.values() for address in one), file=file)
    return ask_for(rtnl, wanted)
holders.ask_for = counted
"""


def asked(rig: Rig) -> list[str]:
    path = rig.base / "asked"
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def counting(rig: Rig) -> str:
    return COUNTING.format(path=str(rig.base / "asked"))


def assert_refused(rig: Rig, was: Attachment, *words: str) -> None:
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    assert (entry["state"], entry["actions"]) == ("lost", [])
    assert entry["error"]["code"] == 110
    assert all(word in entry["error"]["details"] for word in words), entry["error"]
    assert "eth0" not in rig.links(was.pod)


def test_nobody_has_it(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig))
    rig.reload()
    entry = entry_of(rig.plugin("REPAIR", patch=counting(rig)).report(0), was.pod)
    assert (entry["state"], entry["notes"]) == ("healthy", [])
    assert asked(rig) == [FOUR]
    assert rig.state(was.pod) == was.state


def test_another_host_has_it(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig))
    rig.reload()
    another_host(rig)
    assert_refused(rig, was, f"address {FOUR} is in use by {MAC}", "--no-probe")
    rig.plugin("REPAIR", was.pod).error(110)
    # What is known from the wire alone, the operator may know better.
    report = rig.cli("repair", "--all", "--no-probe", "-o", "json", *options(rig)).report(0)
    assert states(report) == {was.pod.id: "healthy"}


def test_another_host_has_the_ipv6_address(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig, FOUR, SIX), ipv6=True)
    rig.reload()
    another_host(rig, SIX)
    assert_refused(rig, was, f"address {SIX} is in use by {MAC}")


# What keeps the one who asks from reading an answer that has come.
LATE = {
    # On a busy node all the time may be over before the question's sender has its turn again.
    "the first": """
import time
from cni_repair.network.reachability import holders
send = holders.Asker._send
def sent_and_slept(self):
    send(self)
    time.sleep(holders.SECONDS)
holders.Asker._send = sent_and_slept
""",
    # It came to the last question, after which the sender slept for longer than it waits.
    "the last": """
import time
from cni_repair.network.reachability import holders
begin = holders._Question.begin
def only_the_last(self):
    begin(self)
    self.rounds = getattr(self, "rounds", 0) + 1
    if self.rounds < holders.BEFORE.times:
        self.unsent = []
send = holders.Asker._send
def sent_and_slept(self):
    send(self)
    if self._rounds == holders.BEFORE.times:
        time.sleep(2 * holders.BEFORE.seconds)
holders._Question.begin, holders.Asker._send = only_the_last, sent_and_slept
""",
}


@pytest.mark.parametrize("patch", LATE.values(), ids=LATE)
def test_an_answer_that_is_read_late_counts(rig: Rig, patch: str) -> None:
    was = rig.attach("pod1", static(rig))
    rig.reload()
    another_host(rig)
    entry = entry_of(rig.plugin("REPAIR", patch=patch).report(1), was.pod)
    assert f"address {FOUR} is in use by {MAC}" in entry["error"]["details"]


def test_force_does_not_make_what_the_wire_says_is_taken(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig))
    rig.reload()
    another_host(rig)
    words = ("repair", "--all", "--force", "-o", "json", *options(rig))
    assert entry_of(rig.cli(*words).report(1), was.pod)["state"] == "lost"
    assert "eth0" not in rig.links(was.pod)


def test_what_was_freed_is_asked_for_when_forced(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    rig.bare("DEL", was.pod, rig.conf()).ok()
    another_host(rig, was.address)
    words = ("repair", "--all", "--force", "-o", "json", *options(rig))
    entry = entry_of(rig.cli(*words).report(1), was.pod)
    assert f"address {was.address} is in use by {MAC}" in entry["error"]["details"]
    assert "eth0" not in rig.links(was.pod)


def test_host_locals_word_is_enough(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    assert states(rig.plugin("REPAIR", patch=counting(rig)).report(0)) == {was.pod.id: "healthy"}
    assert asked(rig) == []


def test_without_its_store_the_wire_is_asked(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    (rig.base / "ipam" / "pods").rename(rig.base / "away")
    another_host(rig, was.address)
    assert_refused(rig, was, f"address {was.address} is in use by {MAC}")


def test_all_pods_are_asked_for_at_once(rig: Rig) -> None:
    addresses = [f"10.9.0.{number}" for number in (50, 51, 52)]
    pods = [rig.attach(f"pod{one[-1]}", static(rig, one)) for one in addresses]
    rig.reload()
    another_host(rig, addresses[1])
    report = rig.plugin("REPAIR", patch=counting(rig)).report(1)
    assert states(report) == {
        pods[0].pod.id: "healthy",
        pods[1].pod.id: "lost",
        pods[2].pod.id: "healthy",
    }
    assert asked(rig) == [" ".join(addresses)]


def test_configured_not_to_ask(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig, probeBeforeRepair=False))
    rig.reload()
    another_host(rig)
    assert states(rig.plugin("REPAIR", patch=counting(rig)).report(0)) == {was.pod.id: "healthy"}
    assert asked(rig) == []


def test_no_carrier_nobody_to_ask(rig: Rig) -> None:
    """Pods are made before the wire is there; what could not be asked is said."""
    was = rig.attach("pod1", static(rig))
    rig.reload()
    rig.ip("link set tor0 down", "tor")
    patch = "from cni_repair.repair import scheduler\nscheduler.SETTLE_SECONDS = 0.0"
    report = rig.plugin("REPAIR", patch=patch).report(1)  # it has no carrier
    entry = entry_of(report, was.pod)
    (note,) = entry["notes"]
    assert note.startswith("not verified that nobody else has its addresses: nobody could be")
    assert "eth0" in rig.links(was.pod)


def test_carrier_that_comes_while_it_is_waited_for(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig))
    rig.reload()
    another_host(rig)
    rig.ip("link set tor0 down", "tor")
    looked = rig.base / "looked"
    patch = f"""
from cni_repair.network.reachability import holders
holders.SECONDS = 30.0
link_named = holders.link_named
def looking(*words):
    open({str(looked)!r}, "w").close()
    return link_named(*words)
holders.link_named = looking
"""
    environ = rig.environ("REPAIR", None)
    with rig.started(rig.launcher(patch), stdin=json.dumps(rig.conf()), env=environ) as process:
        eventually(looked.exists, "REPAIR to look for carrier")
        rig.ip("link set tor0 up", "tor")
        out, err = process.communicate(timeout=60)
    entry = entry_of(json.loads(out), was.pod)
    assert MAC in entry["error"]["details"], (out, err)


def test_a_later_pod_of_the_node_has_it(rig: Rig) -> None:
    """It does not hear its master's question: its record answers, as long as it lives."""
    was = rig.attach("pod1", static(rig))
    rig.reload()
    heir = rig.attach("heir", static(rig))
    assert_refused(rig, was, f"address {FOUR} is in use by shop/heir eth0 on this node")
    rig.reload()
    report = rig.plugin("REPAIR").report(1)
    assert states(report) == {was.pod.id: "lost", heir.pod.id: "healthy"}
    rig.drop_pod(heir.pod)
    report = json.loads(rig.plugin("REPAIR").out)
    assert states(report) == {was.pod.id: "healthy", heir.pod.id: "stale"}


def test_an_interface_that_is_there_is_not_asked_for(rig: Rig) -> None:
    was = rig.attach("pod1", static(rig))
    another_host(rig)
    rig.ip("link set eth0 down", was.pod)
    assert states(rig.plugin("REPAIR", patch=counting(rig)).report(0)) == {was.pod.id: "healthy"}
    assert asked(rig) == []


@pytest.mark.parametrize("command", ["status", "plan"])
def test_a_look_asks_nobody(rig: Rig, command: str) -> None:
    was = rig.attach("pod1", static(rig))
    rig.reload()
    another_host(rig)
    report = rig.cli(command, "-o", "json", *options(rig), patch=counting(rig)).report(1)
    assert states(report) == {was.pod.id: "lost"}
    assert asked(rig) == []
