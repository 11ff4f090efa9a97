"""What ADD, DEL, REPAIR and status ask of the kernel, and import: their cost, without a clock.

How to read a failure: something on the path asks the kernel for more, or imports more, than was
recorded in costs.json, and each node pays for it. Named is what there is more of. Spare it, or
record it and say in the commit why:

    sudo CNI_REPAIR_RECORD=1 ./tests/run tests/netns/test_cost.py

Messages and modules are exact, system calls have a tenth of room. Less than recorded is no failure;
it is told, and to be recorded by the same command.

"a pod" is what each of 49 more pods adds, the other figures are of one pod. Recorded on Debian 12
(Python 3.11, strace 6.1) with Linux 6.18, IPv4 only. Other Pythons start with other system calls
and modules of their own: there, these two are not judged.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from cni_repair.demo.lab import Lab, Outcome
from cni_repair.demo.private import RUN
from cni_repair.placing.launcher import launcher_text
from integration.bench.node import Node
from tests.netns.costs import (
    CALLS,
    CALLS_A_POD,
    FOREIGN,
    MESSAGES,
    MESSAGES_A_POD,
    OWN,
    STRACE,
    Costs,
    Figures,
    Recorded,
    costs_of,
    judge,
    to_record,
)

PODS = 50
ADD, DEL = "ADD", "DEL"
LOST, NOTHING_LOST, STATUS = "REPAIR, all lost", "REPAIR, nothing lost", "status"
ARMED = "REPAIR, all lost, armed"

_FILE = Path(__file__).with_name("costs.json")
_RECORDING = bool(os.environ.get("CNI_REPAIR_RECORD"))
# Where an older kernel takes more, as measured with Debian 12's 6.1: it ends a dump with a datagram
# apart.
OLDER_KERNEL: dict[str, dict[str, Recorded]] = {
    NOTHING_LOST: {CALLS_A_POD: 31.2},
    STATUS: {CALLS_A_POD: 31.2},
}
_RECORDED_PYTHON = "3.11"
_ONE_STEP = (6, 15)
_PYTHON = "/usr/bin/python3"  # what install.sh takes first
_OWN_PROCESSES = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def _is_older_kernel() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) < _ONE_STEP


def _is_recorded_python() -> bool:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.check_output([_PYTHON, "-c", program], text=True)
    return version.strip() == _RECORDED_PYTHON


def recorded_here(what: str) -> dict[str, Recorded]:
    """What this machine's kernel and Python are to be judged by."""
    recorded: dict[str, Recorded] = json.loads(_FILE.read_text())[what]
    if _is_older_kernel():
        recorded |= OLDER_KERNEL.get(what, {})
    if not _is_recorded_python():
        recorded = {key: recorded[key] for key in recorded if key not in (CALLS, FOREIGN)}
    return recorded


_CHECKOUT = Path(__file__).resolve().parents[2]
# On the node, then in a pod, of whose messages strace knows less.
_TALK = """
import sys
sys.path.append(sys.argv[1])
from cni_repair.netlink import codec as nl, constants as rt, netns
from cni_repair.netlink.socket import Rtnetlink

def talk():
    with Rtnetlink() as rtnl:
        rtnl.get([nl.Message(rt.RTM_GETLINK, 0, nl.link_body(1, 0, 0, b""))] * 3)
        rtnl.send([nl.Message(rt.RTM_SETLINK, 0, nl.link_body(1, 1, 1, b""))] * 40)
        rtnl.dump(nl.Message(rt.RTM_GETLINK, 0, nl.link_body(0, 0, 0, b"")), 100)

talk()
with netns.entered(netns.open_netns(sys.argv[2]), netns.open_own()):
    talk()
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Path]:
    """cni-repair as install.sh makes it, but without pip."""
    # Not in tmp_path, which is deeper or less deep: Python looks for landmarks on the way up.
    new = RUN / f"cni-repair-{secrets.token_hex(4)}"
    new.mkdir()
    try:
        _run(_PYTHON, "-I", "-m", "venv", "--without-pip", new)
        site = _site_packages(new)
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_CHECKOUT / "cni_repair", site / "cni_repair", ignore=without)
        _run(new / "bin/python3", "-I", "-m", "compileall", "-q", site)
        launcher = new / "cni-repair"
        launcher.write_text(launcher_text(f"{new}/bin/python3", [str(site)]))
        launcher.chmod(0o755)
        yield new / "cni-repair"
    finally:
        shutil.rmtree(new)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def _site_packages(environment: Path) -> Path:
    (site,) = environment.glob("lib/python3*/site-packages")
    return site


def traced(lab: Lab, run: Callable[..., Outcome], *arguments: Any) -> tuple[Costs, Outcome]:
    """Run the lab's command under strace, and see that it succeeds."""
    plain, trace = lab.command, lab.directory / "trace"
    # By one processor, and so by one process (worker_count), whatever machine this is; and without
    # the machine's other processes, in whose namespaces `status` looks for pods.
    processor = str(min(os.sched_getaffinity(0)))
    alone = [*_OWN_PROCESSES, "taskset", "-c", processor]
    lab.command = [*alone, *STRACE, str(trace), *plain]
    try:
        outcome = run(*arguments)
    finally:
        lab.command = plain
    assert outcome.returncode == 0, outcome
    with trace.open(encoding="utf-8", errors="replace") as lines:
        return costs_of(lines), outcome


def figures_of(costs: Costs) -> Figures:
    assert costs.sources == set(), "these were compiled while it ran"
    return {
        CALLS: costs.calls,
        MESSAGES: costs.messages,
        OWN: dict.fromkeys(costs.own, 1),
        FOREIGN: dict.fromkeys(costs.foreign, 1),
    }


def figures_a_pod(one: Costs, many: Costs) -> Figures:
    pairs = {CALLS_A_POD: (one.calls, many.calls), MESSAGES_A_POD: (one.messages, many.messages)}
    return {
        figure: {name: (of_many[name] - of_one[name]) / (PODS - 1) for name in of_one | of_many}
        for figure, (of_one, of_many) in pairs.items()
    }


Expect: TypeAlias = Callable[[Mapping[str, Figures]], None]


@pytest.fixture
def expect_recorded(capsys: pytest.CaptureFixture[str]) -> Expect:
    """A function that fails where a figure is more than was recorded, and tells where it is less;
    or, where one is recording, records it."""

    def expect(measured: Mapping[str, Figures]) -> None:
        if _RECORDING:
            record(measured)
            return
        more, less = [], []
        for what, figures in measured.items():
            for figure, recorded in recorded_here(what).items():
                verdict = judge(figure, figures[figure], recorded)
                more += [f"{what}: {verdict.more}"] if verdict.more else []
                less += [f"{what}: {verdict.less}"] if verdict.less else []
        if less:
            with capsys.disabled():
                print("", "To be recorded, see tests/netns/test_cost.py:", *less, sep="\n    ")
        if more:
            pytest.fail("\n".join(more), pytrace=False)

    return expect


def record(measured: Mapping[str, Figures]) -> None:
    assert _is_recorded_python() and not _is_older_kernel(), "record where it was recorded before"
    recorded = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    for what, figures in measured.items():
        recorded[what] = {figure: to_record(figure, parts) for figure, parts in figures.items()}
    _FILE.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")


def test_add_and_del(launcher: Path, expect_recorded: Expect) -> None:
    with Node(launcher) as node:
        node.attach(1)  # the first makes the directories
        pod = node.add_pod()
        of_add, _ = traced(node, node.cni, "ADD", pod, node.netconf())
        of_del, _ = traced(node, node.cni, "DEL", pod, node.netconf())
    expect_recorded({ADD: figures_of(of_add), DEL: figures_of(of_del)})


@pytest.fixture(scope="module")
def of_one_and_many(launcher: Path) -> dict[str, list[Costs]]:
    """What each costs on a node of one pod, and on one of PODS."""
    found: dict[str, list[Costs]] = {LOST: [], NOTHING_LOST: [], STATUS: []}
    with Node(launcher) as node:
        for pods in (1, PODS):
            node.attach(pods)
            node.lose()
            for what in (LOST, NOTHING_LOST):
                costs, outcome = traced(node, node.cni, "REPAIR", None, node.netconf())
                acted = [bool(report["actions"]) for report in outcome.document["attachments"]]
                assert acted == [what == LOST] * pods
                found[what].append(costs)
            node.check("REPAIR")
            options = ("--checkpoint-dir", node.checkpoint_dir, "--run-dir", node.run_dir)
            costs, outcome = traced(node, node.cli, "status", "-o", "json", *options)
            assert outcome.document["summary"]["healthy"] == pods
            found[STATUS].append(costs)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", [LOST, NOTHING_LOST, STATUS])
def test_of_many(
    of_one_and_many: dict[str, list[Costs]], what: str, expect_recorded: Expect
) -> None:
    one, many = of_one_and_many[what]
    assert (many.own, many.foreign) == (one.own, one.foreign)
    expect_recorded({what: {**figures_of(one), **figures_a_pod(one, many)}})


@pytest.mark.slow
def test_armed(launcher: Path, expect_recorded: Expect) -> None:
    """By the index that a snapshot leaves: records are not read, and pods not looked at."""
    found = []
    with Node(launcher) as node:
        for pods in (1, PODS):
            node.attach(pods)
            node.cli_run("snapshot")
            node.lose()
            costs, _ = traced(node, node.cni, "REPAIR", None, node.netconf())
            node.check("REPAIR")
            found.append(costs)
    one, many = found
    # One for all that a pod has; the links of many pods share theirs.
    assert many.sends - one.sends <= 1.2 * (PODS - 1)
    expect_recorded({ARMED: {**figures_of(one), **figures_a_pod(one, many)}})


def test_every_message_is_counted(launcher: Path) -> None:
    talk = [_PYTHON, "-IS", "-c", _TALK, str(_site_packages(launcher.parent))]
    with Lab(1, command=talk, ipv6=False) as lab:
        costs, _ = traced(lab, lab.cli, lab.pods[0].path)
    assert costs.messages == {"RTM_GETLINK": 2 * (3 + 1), "RTM_SETLINK": 2 * 40}
    assert costs.sends == costs.calls["sendto"] == 2 * 3
