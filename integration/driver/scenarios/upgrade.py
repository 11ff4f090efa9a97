"""`cni-repair upgrade` as a unit of systemd's: over pods, under a kubelet, cut short, failing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from integration.driver.checks import Checks, said
from integration.driver.node import (
    KUBELET,
    OPERATORS_UNITS,
    Connection,
    LabError,
    Moment,
    Node,
    Outcome,
    Wire,
    has_carrier,
    poll_until,
)
from integration.driver.scenarios.common import ANSWER_SECONDS, Json, check_pings, check_same

_BUSYBOX = "/run/busybox"
RMMOD, MODPROBE = f"{_BUSYBOX} rmmod e1000e", f"{_BUSYBOX} modprobe e1000e"
_RELOAD = f"{RMMOD}; {MODPROBE}"
PLAN = Path("/run/upgrade.yaml")
_JOURNAL = Path("/var/lib/cni-repair/upgrade/journal")
_PHASES = [
    "preflight", "snapshot", "hold", "driver", "masters", "repair", "verify", "release",
]  # fmt: skip
# A driver command takes away, and brings back, the NIC once these are there: who is to be killed at
# some point may come further than that before it is, but no further than here.
_MAY_BEGIN, _MAY_END = Path("/run/driver-may-begin"), Path("/run/driver-may-end")
_GATE = "until test -e {}; do sleep 0.2; done"
_TRIES = 20
_TIMERS = "cni-repair-deadman-*.timer"
# Where systemd keeps what is of this boot.
_RUNTIME = ("/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient")
# k3s is the kubelet, and its pods are in its cgroup: it must be stopped by its own unit's rules.
_K3S = "k3s.service"
_K3S_UNIT = f"""\
[Unit]
Description=Stands in for k3s
[Service]
ExecStart=/bin/sh -c '{_BUSYBOX} sleep 2147483646 & exec {_BUSYBOX} sleep 2147483647'
KillMode=process
Restart=always
"""
_EVENT_SECONDS = 240.0
# What hangs takes longer: a healer that waits for nothing needs a second, and a busy machine ten.
PINGS_TO_RESTORED = 300
_IFF_UP = 1


def upgrade(node: Node, check: Checks) -> None:
    """The driver is reloaded under eight pods, each with an open TCP connection."""
    node.up()
    wire = node.attach(*[{}] * 8)
    before, files = node.interfaces(), runtime_files()
    connections = connected(node)
    write_plan(_RELOAD)
    with node.kubelet(), distribution(node), Moment(carrier_returned()) as carrier:
        since = time.monotonic()
        answer = node.cli("upgrade", str(PLAN))
        check("upgrade PLAN: exit 0", answer.returncode == 0, said(answer))
        check_report(check, node)
        check_window(check, node, since, KUBELET)
        check_free(check, node, files, KUBELET)
        check_log(check, node)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check_carry_on(check, connections)
    check_restored(check, wire, carrier.at or since)
    check.outage = wire.outage(since)


def connected(node: Node) -> list[Connection]:
    """A TCP connection of each pod's, bound to eth0, over which something went."""
    connections = [node.connect(pod) for pod in node.pods]
    for connection in connections:
        connection.exchange("before the loss")
    return connections


def check_carry_on(check: Checks, connections: list[Connection]) -> None:
    check.succeeds(
        "the TCP connections of all pods, bound to eth0, carry on", lambda: _carry_on(connections)
    )


def _carry_on(connections: list[Connection]) -> None:
    for connection in connections:
        connection.send("after the loss")
    for connection in connections:
        connection.answer("after the loss")


def carrier_returned(name: str = "eth0") -> Callable[[], bool]:
    """A question: whether an uplink has carrier again, after it was without."""
    gone: list[bool] = []

    def returned() -> bool:
        carrier = has_carrier(name)
        if not carrier:
            gone.append(True)
        return carrier and bool(gone)

    return returned


def check_restored(check: Checks, wire: Wire, carrier: float) -> None:
    """From the uplink's carrier to the last pod's first answer."""
    firsts = [min(one.at for one in got if one.at > carrier) for got in wire.replies.values()]
    took = max(firsts) - carrier
    # In pings, not in seconds: on a slow machine both take longer.
    pings = wire.sent_between(carrier, max(firsts))
    check(
        f"from carrier to the last pod's first reply it took {took:.1f} s, less than 300 pings",
        pings < PINGS_TO_RESTORED,
        pings,
    )


def check_report(check: Checks, node: Node, *failed: str) -> None:
    """The upgrade ended as it should, with all pods healthy, and tells so."""
    status = node.cli("upgrade", "--status", "-o", "json")
    report = status.document
    bad = [one["phase"] for one in report["phases"] if not one["ok"]]
    pods = report["attachments"]
    told = f"{', '.join(failed)} failed, the rest did not" if failed else "every phase ok"
    check(
        f"the report: {told}; every pod healthy, with its loss and its outage",
        status.returncode == report["status"] == (1 if failed else 0)
        and [one["phase"] for one in report["phases"]] == _PHASES
        and bad == list(failed)
        and len(pods) == len(node.pods)
        and all(pod["state"] == "healthy" and pod["lost"] and pod["outageMs"] for pod in pods),
        report,
    )
    runs = [event for event in events() if event["event"] == "driver"]
    check("the driver command was run once", len(runs) == 1, runs)


def check_log(check: Checks, node: Node) -> None:
    """The morning after: the node's journal has the night, and journalctl finds it."""
    node.run(["journalctl", "--sync"], check=True)
    told = node.cli("log", "-n", "10000", "-o", "json").document["events"]
    ours = [event for event in told if event["command"] == "upgrade"]
    kinds = [event["event"] for event in ours]
    order = ["upgrade", "held", "uplink-lost", "uplink-back", "repaired", "released", "upgrade"]
    found = iter(kinds)
    check(
        f"cni-repair log tells of it in order: {', '.join(order)}; nothing failed",
        all(kind in found for kind in order) and not {"failed", "refused", "trouble"} & {*kinds},
        told,
    )
    pods = node.cli("upgrade", "--status", "-o", "json").document["attachments"]
    outages = {pod["containerID"]: pod["outageMs"] for pod in pods}
    repaired = [event for event in ours if event["event"] == "repaired"]
    check(
        "a line for each pod, with its outage and what it had lost",
        {event["containerID"]: event["outageMs"] for event in repaired} == outages
        and len(repaired) == len(node.pods)
        and all(event["cause"].startswith("lost: ") for event in repaired),
        repaired,
    )
    first = pods[0]["containerID"]
    of_one = node.cli("log", first[:12], "-o", "json").document["events"]
    check(
        "cni-repair log POD: its ADD, its record, and its repair",
        [event["event"] for event in of_one] == ["added", "snapshot", "repaired"],
        of_one,
    )


def check_window(check: Checks, node: Node, since: float, unit: str) -> None:
    """When kubelet was up, by systemd's own journal."""
    done = jobs(node, unit, since)
    down = done[-1][1] - done[0][1] if done else 0.0
    times = (at("driver"), at("done", phase="verify"), at("done", phase="release"))
    rmmod, verified, released = times
    check(
        f"{unit} was down for {down:.1f} s: stopped before rmmod, started after verify",
        [kind for kind, _ in done] == ["stop", "start"]
        and done[0][1] < rmmod
        and verified < done[1][1] < released,
        (done, times),
    )


def check_free(check: Checks, node: Node, files: set[Path], unit: str) -> None:
    """Nothing holds kubelet any more, and nothing of ours is left with systemd."""
    check(f"{unit} is up, and not masked", is_free(node, unit), node.unit(unit))
    # The upgrade's own unit ends a moment after the upgrade.
    with contextlib.suppress(LabError):
        poll_until(lambda: not units(node, "cni-repair*"), ANSWER_SECONDS, "no units")
    left = (units(node, "cni-repair*"), runtime_files() - files)
    check("no unit, timer, mask or drop-in is left", not any(left), left)


# --- Cut short ----------------------------------------------------------------------------------


def resume(node: Node, check: Checks) -> None:
    """One upgrade is killed and given up. The next is killed again and again, and resumed."""
    _resume(node, check, _PHASES[:-1])


def resume_briefly(node: Node, check: Checks) -> None:
    """The next is killed where kubelet is held, and in the middle of the driver command."""
    _resume(node, check, ["hold", "driver"])


def _resume(node: Node, check: Checks, cut_in: list[str]) -> None:
    node.up()
    wire = node.attach()
    before, files = node.interfaces(), runtime_files()
    connection = node.connect(node.pods[0])
    connection.exchange("before the upgrade")
    for gate in (_MAY_BEGIN, _MAY_END):
        gate.unlink(missing_ok=True)
    command = f"{_GATE.format(_MAY_BEGIN)}; {RMMOD}; {_GATE.format(_MAY_END)}; {MODPROBE}"
    write_plan(command, driver={"deadline": "1200s"})
    with node.kubelet(), distribution(node) as network:
        cut_before_the_driver(node)
        check_held(check, node)
        check_let_go(check, node, files)
        since = time.monotonic()
        check_cuts(check, node, cut_in, network)
        answer = node.cli("upgrade", "--resume")
        check("the last resume: exit 0", answer.returncode == 0, said(answer))
        check_report(check, node)
        check_window(check, node, since, KUBELET)
        check_free(check, node, files, KUBELET)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.succeeds(
        "a TCP connection bound to eth0 carries on", lambda: connection.exchange("after")
    )
    check.outage = wire.outage(since)


def check_cuts(check: Checks, node: Node, phases: list[str], network: threading.Event) -> None:
    """At the ends of these phases, and in the middle of the driver command."""
    answers = [cut(node, ["upgrade", str(PLAN)], "begin")]
    held = []
    for phase in phases:
        if phase == "driver":
            network.clear()  # what comes next waits for eth0: it does not end before it is killed
            _MAY_BEGIN.touch()
            answers.append(cut(node, ["upgrade", "--resume"], "lost", "eth0"))
            held.append(is_held(node))
            answers.append(cut_where_the_driver_ends(node))
        else:
            answers.append(cut(node, ["upgrade", "--resume"], "done", phase))
        network.set()
        if phase in ("hold", "driver", "masters", "repair"):  # then it is let go
            held.append(is_held(node))
    check(
        f"another upgrade, killed {len(answers)} times: each time exit 1, it says how to go on",
        all(one.returncode == 1 and "--resume" in one.stderr for one in answers),
        answers,
    )
    check(
        "from hold on: each time kubelet stays masked and stopped, and a timer is set",
        all(held),
        held,
    )
    words = [event["text"] for event in events() if event["event"] == "word"]
    check(
        "killed in the middle of the driver command: that goes on, and a resume watches it",
        any("still at work" in word for word in words),
        words,
    )


def check_held(check: Checks, node: Node) -> None:
    """A killed upgrade: kubelet does not come back by chance, and nobody is left in the dark."""
    held, start = is_held(node), node.systemctl("start", KUBELET, check=False)
    check(
        "killed after hold: kubelet stays masked and stopped, and cannot be started",
        held and start.returncode != 0,
        (held, start),
    )
    (timer,) = units(node, _TIMERS)
    shown = node.systemctl("show", "--property=NextElapseUSecMonotonic", "--value", timer)
    status, until = node.cli("upgrade", "--status"), told("deadman")["until"]
    clock = time.strftime("%H:%M:%S", time.localtime(until))
    check(
        "--status: exit 1; cut short, kubelet is held, until when: the timer is set for that time",
        status.returncode == 1
        and all(words in status.stdout for words in ("cut short", f"{KUBELET} is held", clock))
        and abs(seconds_of(shown.stdout) - monotonic(until)) < ANSWER_SECONDS,
        f"{said(status)}; {shown.stdout}; {monotonic(until)}",
    )
    again = node.cli("upgrade", str(PLAN))
    check(
        "another upgrade is refused, exit 3, with the ways out",
        again.returncode == 3 and all(way in again.stderr for way in ("--resume", "--release")),
        said(again),
    )
    blind = node.cli("upgrade", "--state-dir", "/run/elsewhere", str(PLAN))
    check(
        "so is one that does not see the journal: the timer that holds kubelet is named",
        blind.returncode == 3 and timer.replace(".timer", ".service") in blind.stdout,
        said(blind),
    )


def check_let_go(check: Checks, node: Node, files: set[Path]) -> None:
    """By the dead man's timer, and by hand."""
    (timer,) = units(node, _TIMERS)
    node.systemctl("start", timer.replace(".timer", ".service"))
    with contextlib.suppress(LabError):
        poll_until(lambda: is_free(node, KUBELET), ANSWER_SECONDS, "kubelet")
    check(
        "what the timer is to run makes kubelet unmasked and up, without cni-repair",
        is_free(node, KUBELET),
        node.unit(KUBELET),
    )
    release = node.cli("upgrade", "--release")
    check("--release: exit 0", release.returncode == 0, said(release))
    check_free(check, node, files, KUBELET)


# --- Failing ------------------------------------------------------------------------------------


def failing(node: Node, check: Checks) -> None:
    """The driver command fails; the NIC does not come back."""
    node.up()
    wire = node.attach()
    before, files = node.interfaces(), runtime_files()
    with node.kubelet(), distribution(node):
        since = time.monotonic()
        write_plan(f"{_RELOAD}; echo no firmware; exit 7")
        answer = node.cli("upgrade", str(PLAN))
        check(
            "the driver command fails: exit 1, its words and its status are told",
            answer.returncode == 1
            and all(words in answer.stdout for words in ("| no firmware", "exit 7")),
            said(answer),
        )
        check_report(check, node, "driver")
        check_free(check, node, files, KUBELET)
        write_plan(RMMOD, masters={"deadline": "2s"})
        check_no_return(check, node)
        check_free(check, node, files, KUBELET)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def check_no_return(check: Checks, node: Node) -> None:
    """Kubelet is held, the plan's default, until somebody has looked."""
    answer, status = node.cli("upgrade", str(PLAN)), node.cli("upgrade", "--status")
    check(
        "eth0 does not return: exit 1; kubelet stays masked and stopped, and a timer is set",
        answer.returncode == 1 and is_held(node),
        said(answer),
    )
    check(
        "that is what the report and --status say",
        all(f"{KUBELET} is held" in one.stdout for one in (answer, status)),
        said(status),
    )
    again = node.cli("upgrade", str(PLAN))
    check("another upgrade is refused, exit 3", again.returncode == 3, said(again))
    node.load()
    resumed = node.cli("upgrade", "--resume")
    check("eth0 is back, --resume: exit 0", resumed.returncode == 0, said(resumed))
    check_report(check, node)


# --- Nobody looks on ----------------------------------------------------------------------------


def hangup(node: Node, check: Checks) -> None:
    """The command that follows the upgrade ends with its terminal, or is killed.

    The driver command hangs meanwhile, or it is k3s that is held.
    """
    node.up()
    wire = node.attach()
    before, files = node.interfaces(), runtime_files()
    with distribution(node):
        since = time.monotonic()
        with node.kubelet():
            write_plan(f"{_RELOAD}; {_BUSYBOX} sleep 2147483645", driver={"deadline": "20s"})
            with on_terminal(node, "upgrade", "--yes", str(PLAN)) as screen:
                screen.wait_for("eth0 is gone")
            check(
                "the terminal is closed while eth0 is gone: SIGHUP ends the command on it",
                screen.returncode == -signal.SIGHUP,
                (screen.returncode, screen.text),
            )
            wait_for("end")
            ended = told("done", phase="driver")
            check(
                "the driver command hangs: it is killed at its deadline",
                ended["data"].get("timedOut") is True,
                ended,
            )
            check_report(check, node, "driver")
            check_free(check, node, files, KUBELET)
        with k3s(node) as pod:
            check_k3s(check, node, pod)
            check_free(check, node, files, _K3S)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def check_k3s(check: Checks, node: Node, pod: Path) -> None:
    """k3s, whose pods are not to die with it, and whose unit's file is in /etc."""
    since, plan = time.monotonic(), Path("/run/50% of $HOME.yaml")
    write_plan(f"{RMMOD}; sleep 3; {MODPROBE}", plan, kubelet={"unit": _K3S})
    began = time.time()
    with on_terminal(node, "upgrade", "--yes", str(plan)) as screen:
        wait_for("lost", "eth0", began)
        state = node.unit(_K3S)
        screen.kill()
    check(
        f"{_K3S} in {OPERATORS_UNITS}: masked and stopped; its pod's process lives",
        (state["LoadState"], state["ActiveState"]) == ("masked", "inactive") and pod.exists(),
        (state, pod.exists()),
    )
    wait_for("end", began=began)
    check("the command is killed: the upgrade goes on", screen.returncode == -signal.SIGKILL)
    check_report(check, node)
    check_window(check, node, since, _K3S)
    check("its pod's process lives", pod.exists())


@contextlib.contextmanager
def k3s(node: Node) -> Iterator[Path]:
    """Context: k3s runs, and has a pod; yields the /proc directory of the pod's process."""
    file = OPERATORS_UNITS / _K3S
    file.write_text(_K3S_UNIT)
    node.systemctl("daemon-reload")
    node.systemctl("start", _K3S)
    members = Path("/sys/fs/cgroup/system.slice", _K3S, "cgroup.procs")
    poll_until(lambda: len(members.read_text().split()) == 2, ANSWER_SECONDS, "k3s and its pod")
    (pod,) = {*members.read_text().split()} - {node.unit(_K3S)["MainPID"]}
    try:
        yield Path("/proc", pod)
    finally:
        node.systemctl("kill", "--signal=KILL", _K3S)
        node.systemctl("stop", _K3S)
        file.unlink()
        node.systemctl("daemon-reload")


class Screen:
    """A terminal, and the process on it."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.text = ""
        self._process, self._fd = process, fd

    @property
    def returncode(self) -> int:
        return self._process.wait(ANSWER_SECONDS)

    def wait_for(self, words: str) -> None:
        poll_until(lambda: words in self._read(), _EVENT_SECONDS, f"{words} on the terminal")

    def kill(self) -> None:
        self._process.kill()

    def _read(self) -> str:
        with contextlib.suppress(BlockingIOError):
            self.text += os.read(self._fd, 1 << 20).decode("utf-8", "replace")
        return self.text


@contextlib.contextmanager
def on_terminal(node: Node, *arguments: str) -> Iterator[Screen]:
    """Context: cni-repair runs on a terminal of its own, which is closed at the end."""
    fd, end = os.openpty()
    os.set_blocking(fd, False)
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    environ |= {"COLUMNS": "100", "LINES": "50"}
    command = ["setsid", "--ctty", node.launcher, *arguments]
    process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environ)
    os.close(end)
    try:
        yield Screen(process, fd)
    finally:
        os.close(fd)


# --- Means --------------------------------------------------------------------------------------


def cut(node: Node, arguments: list[str], kind: str, name: str = "") -> Outcome:
    """Begin or resume an upgrade, and kill it as soon as its journal tells of an event."""
    began = time.time()
    with node.meanwhile(lambda: node.cli(*arguments)) as follower:
        _kill(node, wait_for(kind, name, began), f"{kind} {name}")
        return follower.result()


def _kill(node: Node, pid: int, after: str) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was quicker: its outcome tells
        os.kill(pid, signal.SIGKILL)
    node.log.append(f"SIGKILL for {pid}, after {after}")


def cut_before_the_driver(node: Node) -> None:
    """Begin an upgrade, and kill it between hold and driver; again, where it was quicker than we
    are."""
    for _ in range(_TRIES):
        cut(node, ["upgrade", str(PLAN)], "done", "hold")
        begun = [event["pid"] for event in events() if event["event"] == "driver"]
        if not begun:
            return
        with contextlib.suppress(ProcessLookupError):  # it has come to its end
            os.killpg(begun[0], signal.SIGKILL)
        poll_until(
            lambda: node.cli("upgrade", "--release").returncode == 0,
            _EVENT_SECONDS,
            "the upgrade to be given up",
        )
        poll_until(lambda: not units(node, "cni-repair*"), ANSWER_SECONDS, "no units")
    raise LabError(f"{_TRIES} upgrades were quicker than their end")


def cut_where_the_driver_ends(node: Node) -> Outcome:
    """Resume an upgrade whose driver command is at work, and kill it once that has ended."""
    began = time.time()
    with node.meanwhile(lambda: node.cli("upgrade", "--resume")) as follower:
        wait_for("word", began=began)  # it is found at work
        _MAY_END.touch()
        _kill(node, wait_for("done", "driver", began), "done driver")
        return follower.result()


def wait_for(kind: str, name: str = "", began: float = 0.0) -> int:
    """Wait until an upgrade's journal tells of an event after `began`; the upgrade's PID."""

    def come() -> bool:
        return any(
            one["event"] == kind and name in (one.get("phase", ""), one.get("link", ""))
            for one in events()
            if one["at"] >= began
        )

    poll_until(come, _EVENT_SECONDS, f"{kind} {name}")
    return int([one for one in events() if "bootId" in one][-1]["pid"])


def events() -> list[Json]:
    """What the last upgrade's journal tells."""
    try:
        *lines, _ = _JOURNAL.read_text().split("\n")
    except FileNotFoundError:
        return []  # a new upgrade puts the last one's away before it begins its own
    return [json.loads(line) for line in lines if line]


def told(kind: str, **more: str) -> Json:
    """The last event of a kind that the journal tells of."""
    wanted = {"event": kind, **more}
    return [one for one in events() if wanted.items() <= one.items()][-1]


def at(kind: str, **more: str) -> float:
    """When it happened, on the clock of time.monotonic()."""
    return monotonic(told(kind, **more)["at"])


def monotonic(unix: float) -> float:
    return unix - time.time() + time.monotonic()


def jobs(node: Node, unit: str, since: float) -> list[tuple[str, float]]:
    """What systemd has done with a unit after `since`: start or stop, and when it was done."""
    node.run(["journalctl", "--sync"], check=True)
    fields = "--output-fields=JOB_TYPE,JOB_RESULT"
    shown = node.run(["journalctl", "--unit", unit, "--output=json", fields], check=True)
    done = [one for one in map(json.loads, shown.stdout.splitlines()) if "JOB_RESULT" in one]
    times = [(one["JOB_TYPE"], int(one["__MONOTONIC_TIMESTAMP"]) / 1e6) for one in done]
    return [(kind, when) for kind, when in times if when > since]


def units(node: Node, pattern: str) -> list[str]:
    """The units that systemd has in memory."""
    shown = node.systemctl("list-units", "--all", "--plain", "--no-legend", pattern)
    return [line.split()[0] for line in shown.stdout.splitlines() if line.strip()]


def is_held(node: Node) -> bool:
    """Whether kubelet is masked and stopped, and one timer is set to release it."""
    shown = node.systemctl("show", "--property=LoadState,ActiveState", KUBELET, _TIMERS)
    kubelet, *timers = [set(block.split()) for block in shown.stdout.split("\n\n")]
    return kubelet == {"LoadState=masked", "ActiveState=inactive"} and timers == [
        {"LoadState=loaded", "ActiveState=active"}
    ]


def is_free(node: Node, unit: str) -> bool:
    state = node.unit(unit)
    return (state["LoadState"], state["ActiveState"]) == ("loaded", "active")


def runtime_files() -> set[Path]:
    """What systemd was told for this boot."""
    found = (path for place in _RUNTIME for path in Path(place).rglob("*"))
    return {path for path in found if path.is_symlink() or path.is_file()}


def seconds_of(span: str) -> float:
    """A time span as systemd writes it: 1h 16min 38.693057s."""
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 0.001, "us": 0.000001}
    return sum(float(number) * sizes[size] for number, size in re.findall(r"([\d.]+)(\w+)", span))


def write_plan(
    command: str, path: Path = PLAN, driver: Json | None = None, **sections: Any
) -> None:
    """A plan; JSON is YAML, too."""
    document = {"version": 1, "driver": {"command": command, **(driver or {})}, **sections}
    path.write_text(json.dumps(document))


@contextlib.contextmanager
def distribution(node: Node) -> Iterator[threading.Event]:
    """Context: somebody sets eth0 up when it appears, as a network service does; unless the event
    is cleared."""
    done, may = threading.Event(), threading.Event()
    may.set()

    def work() -> None:
        while not done.wait(0.05):
            if may.is_set() and is_down("eth0"):
                with contextlib.suppress(LabError):  # it has gone again
                    node.up()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield may
    finally:
        done.set()
        thread.join()


def is_down(name: str) -> bool:
    """Whether a link is there, and down."""
    try:
        flags = int(Path(f"/sys/class/net/{name}/flags").read_text(), 16)
    except OSError:
        return False
    return not flags & _IFF_UP


SCENARIOS = {
    "upgrade": upgrade,
    "resume": resume,
    "failing": failing,
    "hangup": hangup,
}
# The namespaces' tests cut at every boundary, too: tests/netns/test_upgrade_killed.py.
BRIEF = {"resume-briefly": resume_briefly}
