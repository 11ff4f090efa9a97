"""What trust/crowded and trust/long look with sees what they look for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.demo.lab import Lab, Netns
from integration.trust.watched.calls import Calls, netconf_of, processes_on
from integration.trust.watched.leftovers import leftovers
from integration.trust.watched.pods import given_by, whole_state
from integration.trust.watched.wire import Wire
from tests.patience import eventually
from tests.processes import ended


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(detect_duplicates=False) as lab:
        yield lab


@pytest.mark.parametrize("address", ["10.9.0.2/24", "fd00:9::2/64"])
def test_an_address_of_two_pods_is_heard(lab: Lab, address: str) -> None:
    for pod in lab.add_pods(2):
        ip(lab, lab.node, "link add link eth0 name pod type macvlan mode bridge")
        ip(lab, lab.node, f"link set pod netns {pod.name} name eth0")
        ip(lab, pod, "link set eth0 up")
        ip(lab, pod, f"addr add {address} dev eth0")
    bare = address.partition("/")[0]
    with Wire(lab, [bare]) as wire:
        eventually(lambda: wire.speakers.twice, "both to be heard")
        assert wire.speakers.twice[0].startswith(f"{bare} was ")
        assert wire.troubles == []


@pytest.fixture
def attached(lab: Lab) -> Netns:
    pod = lab.add_pod()
    done = Calls(lab, netconf_of(lab, 20)).plugin("ADD", pod)
    given = given_by(done.document)
    assert given.differs(whole_state(pod)) == ""
    assert leftovers(lab, {pod.name: given.bare}) == []
    return pod


def test_an_interface_that_is_another_is_told(lab: Lab, attached: Netns) -> None:
    given = given_by(json.loads(record(lab, attached).read_text())["result"])
    ip(lab, attached, "addr del fd00:9::a/64 dev eth0")
    assert given.differs(whole_state(attached)).startswith("('10.9.0.10/16',) for ")
    ip(lab, attached, "link del eth0")
    assert given.differs(whole_state(attached)) == "no eth0 with an address"


def test_what_is_left_over_or_lost_is_told(lab: Lab, attached: Netns) -> None:
    name = attached.name
    kept = {name: ("10.9.0.10", "fd00:9::a")}
    assert leftovers(lab, {}) == [
        f"address left over: 10.9.0.10 of {name}",
        f"address left over: fd00:9::a of {name}",
        f"record left over: {name}@eth0.json",
        f"left over in the run directory: {name}@eth0.lock",
    ]
    record(lab, attached).unlink()
    Path(lab.ipam_dir, "pods", "10.9.0.10").unlink()
    ip(lab, lab.node, "link add cnirep1 type veth peer name cnirep2")
    assert leftovers(lab, kept) == [
        f"address lost: 10.9.0.10 of {name}",
        f"record lost: {name}@eth0.json",
        "temporary link cnirep1",
        "temporary link cnirep2",
    ]


def test_a_process_on_the_node_is_seen(lab: Lab) -> None:
    assert processes_on(lab) == []
    with ended(subprocess.Popen([*lab.ground.entering(lab.node), "sleep", "infinity"])) as process:
        eventually(lambda: processes_on(lab) == [process.pid], "the process to be there")
        process.kill()
    assert processes_on(lab) == []


def test_an_answer_that_is_a_bug_or_no_document_is_told(lab: Lab) -> None:
    broken = Lab.__new__(Lab)
    broken.__dict__.update(lab.__dict__, command=["sh", "-c", "echo words; exit 1"])
    done = Calls(broken, {}).plugin("VERSION")
    assert done.fault == "no document: VERSION: exit 1: words"
    broken.command = ["sh", "-c", "echo 'Traceback (most recent call last)' >&2"]
    assert Calls(broken, {}).plugin("VERSION").fault.startswith("a bug is told: ")


def ip(lab: Lab, netns: Netns, words: str) -> None:
    lab.ip(netns, *words.split())


def record(lab: Lab, pod: Netns) -> Path:
    return Path(lab.checkpoint_dir) / f"{pod.name}@eth0.json"
