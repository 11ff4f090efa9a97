"""`cni-repair demo`: the main job before one's eyes, on a throwaway node.

Three pods lose their interfaces with the node's uplink, and a repair brings them back under an open
TCP connection. Every claim is checked; one that does not hold ends the demo with exit status 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cni_repair.base.errors import CniError
from cni_repair.demo import timeline as timelines
from cni_repair.demo.console import Console
from cni_repair.demo.lab import (
    LOOK,
    Connection,
    Lab,
    LabError,
    Netns,
    Outcome,
    PrivateLab,
    check_machine,
    kernel_has_vlans,
    poll_until,
)
from cni_repair.demo.pings import INTERVAL, Pings
from cni_repair.demo.signals import Stopped, stopped_by_signals
from cni_repair.demo.timeline import Event, Timeline, Track

PODS = ("web-1", "web-2", "web-3")
VLAN = 3
FINE, FAILED, REFUSED = 0, 1, 3
Interface = dict[str, Any]  # as Lab.interface() has it

_TITLE = "cni-repair demo: a NIC's driver is reloaded under three pods"
_SHOW = ("ip", "-brief", "address", "show", "dev", "eth0")
_PING_ONCE = ("ping", "-c", "1", "-W", "1")
_ANSWER_SECONDS = 60.0  # longer takes what hangs
_QUIET_SECONDS = 1.0


def run(
    command: Sequence[str] | None = None, detect_duplicates: bool = True, html: str | None = None
) -> int:
    """Show a repair; the exit status: 0, 1 failed, 3 not root, 128 + N ended by signal N.

    `command` starts cni-repair, `detect_duplicates` is True as on any real node: see Lab. `html`
    is where to write the timeline.
    """
    if os.geteuid() != 0:
        return _complain("must run as root (it makes network namespaces): use sudo", REFUSED)
    try:
        with stopped_by_signals():
            check_machine()
            return _show(command, detect_duplicates, html)
    except Stopped as stopped:
        return _complain("stopped; everything that it made is gone", stopped.exit_status)
    except BrokenPipeError:
        raise  # nobody watches any more: the command line's business
    except (LabError, CniError, OSError) as error:
        return _complain(str(error), FAILED)


def _complain(text: str, status: int) -> int:
    print(f"cni-repair demo: {text}", file=sys.stderr)
    return status


def _show(command: Sequence[str] | None, detect_duplicates: bool, html: str | None) -> int:
    console = Console()
    started = time.monotonic()
    if html:
        Path(html).touch()  # not to find out at the end that it cannot be written
    vlan = VLAN if kernel_has_vlans() else 0
    console.title(_TITLE)
    console.output("All in namespaces of its own: this machine's network is not touched.")
    console.output(about_vlan(vlan))
    lab = PrivateLab(vlan=vlan, command=command, detect_duplicates=detect_duplicates)
    with lab:
        lab.echo = console.command
        try:
            timeline = _Story(lab, console).tell()
        except (LabError, CniError) as error:
            console.failed(str(error))
            return FAILED
    if html:
        Path(html).write_text(timelines.html(timeline, _TITLE, about_vlan(vlan)))
        console.end(f"The timeline is in {html}: open it in a browser.")
    seconds = time.monotonic() - started
    console.end(f"The demo passed in {seconds:.1f} s; everything that it made is gone.")
    return FINE


def about_vlan(vlan: int) -> str:
    """Which way this kernel has the pods' network."""
    if vlan:
        return f"The pods' macvlan is on a VLAN of the NIC: eth0, eth0.{vlan}, pods."
    return (
        "This kernel has no VLANs (8021q): the pods' macvlan is on eth0 itself, where on many nodes"
        f" it is on eth0.{VLAN}."
    )


class _Story:
    """The steps, in their order. Each raises LabError where what it claims does not hold.

    More than twelve methods: one a step, told one after the other.
    """

    def __init__(self, lab: Lab, console: Console) -> None:
        self._lab = lab
        self._console = console
        self._conf = lab.directory / "net.conf"
        self._pods = lab.add_pods(len(PODS), PODS)
        self._before: dict[Netns, Interface] = {}
        self._pings: dict[Netns, Pings] = {}
        self._shown: dict[str, str] = {}  # what `ip address` said of the first pod, by when
        self._events: list[Event] = []

    def tell(self) -> Timeline:
        self._attach_pods()
        with ExitStack() as running:
            self._start_pings(running)
            connection = self._open_connection()
            self._lose_uplink(connection)
            self._expect_all("lost")
            self._restore_uplink()
            self._repair()
            self._expect_all("healthy")
            self._compare()
            self._ping_all()
            self._use_connection(connection)
            self._call_verb()
            return self._measure()

    # --- Before -----------------------------------------------------------------------------------

    def _attach_pods(self) -> None:
        self._console.step("Attach three pods; cni-repair runs the real macvlan and host-local")
        self._conf.write_text(json.dumps(self._lab.netconf(), indent=2))
        for pod in self._pods:
            name = f"K8S_POD_NAMESPACE=demo;K8S_POD_NAME={pod.name}"
            environ = {"CNI_ARGS": f"IgnoreUnknown=1;{name}"}
            self._succeed(self._lab.cni("ADD", pod, self._conf, env=environ))
            self._before[pod] = self._lab.interface(pod)
            self._console.ok(f"{pod.name} has eth0: {describe(self._before[pod])}")
            self._lab.echo = None  # one is enough to see how
        self._lab.echo = self._console.command
        self._show_addresses("before")

    def _start_pings(self, running: ExitStack) -> None:
        self._console.step("Ping the gateway from every pod, all the time")
        for pod in self._pods:
            pings = Pings(self._lab.ground.entering(pod), self._lab.gateways[0])
            self._console.command(f"{pod.name}# {' '.join(pings.command)} &")
            self._pings[pod] = running.enter_context(pings)
        self._wait_for_answers(time.time() + _QUIET_SECONDS)
        self._console.ok("every pod has answers")

    def _open_connection(self) -> Connection:
        pod = self._pods[0]
        self._console.step(f"Open a TCP connection from {pod.name}, bound to its eth0")
        connection = self._lab.connect(pod)
        connection.exchange("before the loss")
        here, there = connection.ends
        self._console.ok(f"{here} to {there} (SO_BINDTODEVICE eth0) carries bytes both ways")
        return connection

    # --- The outage -------------------------------------------------------------------------------

    def _lose_uplink(self, connection: Connection) -> None:
        self._console.step("The NIC's driver is unloaded: eth0 goes, and with it all on top of it")
        self._event("the NIC's driver is unloaded")
        self._lab.uplink_lost()
        connection.send("sent while eth0 was gone")
        self._expect_no_interface()
        self._show_addresses("lost")
        self._fail_to_ping()
        self._console.ok("with it went every pod's eth0; the pod has sent on its connection")

    def _restore_uplink(self) -> None:
        self._console.step("The driver is loaded again: the NIC is back, the pods' eth0 is not")
        # A real one takes seconds; here, what is measured is to be seen at least.
        time.sleep(max(0.0, self._events[0].at + _QUIET_SECONDS - time.time()))
        self._lab.uplink_back()
        self._event("the NIC is back")
        self._expect_no_interface()
        self._fail_to_ping()
        self._console.ok("without a repair, this is how it stays")

    def _expect_no_interface(self) -> None:
        for pod in self._pods:
            if self._lab.interface(pod)["link"]:
                raise LabError(f"{pod.name} has eth0, without a repair")

    def _fail_to_ping(self) -> None:
        pod, gateway = self._pods[0], self._lab.gateways[0]
        done = self._lab.run(pod, [*_PING_ONCE, gateway])
        self._console.output(done.stdout + done.stderr)
        if done.returncode == 0:
            raise LabError(f"{gateway} answers {pod.name}, which has no eth0")

    # --- The repair -------------------------------------------------------------------------------

    def _repair(self) -> None:
        self._console.step("Repair")
        self._event("cni-repair repair --all")
        done = self._succeed(self._lab.cli("repair", "--all"))
        self._event("the repair has ended")
        self._console.output(done.stdout + done.stderr)
        waiting = ", IPv6 duplicate address detection included" if self._lab.ipv6 else ""
        self._console.ok(f"it took {done.seconds:.2f} s{waiting}")

    def _expect_all(self, state: str) -> None:
        self._console.step(f"What cni-repair sees now: all {len(PODS)} are {state}")
        done = self._lab.cli("status")
        self._console.output(done.stdout + done.stderr)
        expected = FINE if state == "healthy" else FAILED
        if done.returncode != expected:
            raise LabError(f"status ended with exit status {done.returncode}, not {expected}")
        if f"{len(PODS)} {state}" not in done.stdout:
            raise LabError(f"status does not call {len(PODS)} attachments {state}")

    # --- After ------------------------------------------------------------------------------------

    def _compare(self) -> None:
        self._console.step("Compare each pod's interface, addresses and routes with before")
        self._show_addresses("after")
        for when, addresses in self._shown.items():
            self._console.output(f"{when + ':':8}{addresses}")
        for arguments in LOOK:
            self._console.command(f"{self._pods[0].name}# ip -d -j {arguments}")
        for pod, before in self._before.items():
            differing = differences(before, self._lab.interface(pod))
            if differing:
                raise LabError(f"{pod.name} differs: {'; '.join(differing)}")
            self._console.ok(f"{pod.name} has the same: {describe(before)}")

    def _show_addresses(self, when: str) -> None:
        """What `ip` says of the first pod's eth0; and on its return, so that one can compare."""
        done = self._lab.run(self._pods[0], _SHOW)
        self._shown[when] = " ".join((done.stdout + done.stderr).split())
        if when != "after":
            self._console.output(self._shown[when])

    def _ping_all(self) -> None:
        self._console.step("Ping the gateway from every pod")
        for pod in self._pods:
            for gateway in self._lab.gateways:
                done = self._lab.run(pod, [*_PING_ONCE, gateway])
                answers = [line for line in done.stdout.splitlines() if "bytes from" in line]
                if done.returncode != 0 or not answers:
                    raise LabError(f"no answer from {gateway}: {done.stdout} {done.stderr}")
                self._console.output(f"{pod.name}: {answers[0]}")
            self._lab.echo = None
        self._lab.echo = self._console.command

    def _use_connection(self, connection: Connection) -> None:
        self._console.step("The TCP connection that was open all the time")
        connection.answer("sent while eth0 was gone")
        self._console.ok("what was sent while eth0 was gone has arrived and was answered")
        connection.exchange("after the repair")
        here, there = connection.ends
        self._console.ok(f"{here} to {there} carries on")

    def _call_verb(self) -> None:
        self._console.step("For programs: the same as a verb of CNI. Now it finds nothing to do")
        done = self._succeed(self._lab.cni("REPAIR"))
        for line in repaired(done.document):
            self._console.output(line)

    # --- How long it took -------------------------------------------------------------------------

    def _measure(self) -> Timeline:
        self._console.step("The outage, as the pods' pings had it")
        self._wait_for_answers(time.time())
        tracks = (Track(pod.name, pings.answered) for pod, pings in self._pings.items())
        timeline = Timeline(tuple(self._events), tuple(tracks), INTERVAL)
        for line in timelines.text(timeline, self._console.columns_of_output):
            self._console.output(line)
        for pod, begin, end in timeline.outages():
            self._console.ok(f"{pod} was without an answer for {end - begin:.2f} s")
        return timeline

    def _wait_for_answers(self, since: float) -> None:
        for pod, pings in self._pings.items():
            asked = partial(_is_answered_since, pings, since)
            poll_until(asked, _ANSWER_SECONDS, f"an answer to {pod.name}'s pings")

    def _event(self, name: str) -> None:
        self._events.append(Event(name, time.time()))

    def _succeed(self, done: Outcome) -> Outcome:
        if done.returncode != 0:
            self._console.output(done.stdout + done.stderr)
            raise LabError(f"exit status {done.returncode}")
        return done


def _is_answered_since(pings: Pings, since: float) -> bool:
    return any(at >= since for at in pings.answered)


def repaired(document: Any) -> list[str]:
    """What REPAIR's answer tells, a line an attachment; LabError where it is not as documented."""
    try:
        return [
            f"{one['pod']} {one['ifname']}: {one['state']}, {len(one['actions'])} operations"
            for one in document["attachments"]
        ]
    except (KeyError, TypeError) as error:
        raise LabError(f"REPAIR answered {json.dumps(document)}") from error


def describe(interface: Interface) -> str:
    """What makes an interface this one, in one line."""
    link = interface["link"]
    addresses = [
        f"{address['local']}/{address['prefixlen']}"
        for address in link.get("addr_info", [])
        if address["scope"] == "global"
    ]
    return f"ifindex {link.get('ifindex')}, MAC {link.get('address')}, {', '.join(addresses)}"


def differences(before: Interface, after: Interface) -> list[str]:
    """What differs between two looks at an interface; empty if nothing does."""
    if before["link"] and not after["link"]:
        return ["the interface is not there"]
    was, now = dict(before["link"]), dict(after["link"])
    found = _lost_and_found("address", was.pop("addr_info", []), now.pop("addr_info", []))
    found += _lost_and_found("route", before["routes"], after["routes"])
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            found.append(f"{key} was {was.get(key)}, is {now.get(key)}")
    return found


def _lost_and_found(kind: str, was: list[Interface], now: list[Interface]) -> list[str]:
    lost = [f"{kind} lost: {json.dumps(one)}" for one in was if one not in now]
    return lost + [f"{kind} new: {json.dumps(one)}" for one in now if one not in was]
