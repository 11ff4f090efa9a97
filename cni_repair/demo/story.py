"""`cni-repair demo`: the main job before one's eyes, on a throwaway node.

Three pods lose their interfaces with the node's uplink, and REPAIR brings them back under an open
TCP connection. Every claim is checked; one that does not hold ends the demo with exit status 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from cni_repair.base.errors import CniError
from cni_repair.demo.console import Console
from cni_repair.demo.lab import LOOK, Connection, Lab, LabError, Netns, Outcome, check_machine
from cni_repair.demo.signals import Stopped, stopped_by_signals

PODS = 3
FINE, FAILED, REFUSED = 0, 1, 3
Interface = dict[str, Any]  # as Lab.interface() has it


def run(command: Sequence[str] | None = None, detect_duplicates: bool = True) -> int:
    """Show a repair; the exit status: 0, 1 failed, 3 not root, 128 + N ended by signal N.

    `command` starts cni-repair, `detect_duplicates` is True as on any real node: see Lab.
    """
    if os.geteuid() != 0:
        return _complain("must run as root (it makes network namespaces): use sudo", REFUSED)
    try:
        with stopped_by_signals():
            check_machine()
            return _show(command, detect_duplicates)
    except Stopped as stopped:
        return _complain("stopped; everything that it made is gone", stopped.exit_status)
    except BrokenPipeError:
        raise  # nobody watches any more: the command line's business
    except (LabError, CniError, OSError) as error:
        return _complain(str(error), FAILED)


def _complain(text: str, status: int) -> int:
    print(f"cni-repair demo: {text}", file=sys.stderr)
    return status


def _show(command: Sequence[str] | None, detect_duplicates: bool) -> int:
    console = Console()
    started = time.monotonic()
    console.title("cni-repair demo: a node's uplink goes and comes back under three pods")
    console.output("All in namespaces of its own: this machine's network is not touched.")
    lab = Lab(PODS, name="demo", command=command, detect_duplicates=detect_duplicates)
    with lab:
        lab.echo = console.command
        try:
            _Story(lab, console).tell()
        except (LabError, CniError) as error:
            console.failed(str(error))
            return FAILED
    seconds = time.monotonic() - started
    console.end(f"The demo passed in {seconds:.1f} s; everything that it made is gone.")
    return FINE


class _Story:
    """The steps, in their order. Each raises LabError where what it claims does not hold."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self._lab = lab
        self._console = console
        self._conf = lab.directory / "net.conf"
        self._status = ("status", "--all", "--checkpoint-dir", lab.checkpoint_dir)
        self._before: dict[Netns, Interface] = {}

    def tell(self) -> None:
        self._attach_pods()
        connection = self._open_connection()
        self._lose_uplink(connection)
        self._expect_all("lost")
        self._restore_uplink()
        self._repair()
        self._expect_all("healthy")
        self._compare()
        self._ping()
        self._use_connection(connection)

    def _attach_pods(self) -> None:
        self._console.step("Attach three pods; cni-repair runs the real macvlan and host-local")
        self._conf.write_text(json.dumps(self._lab.netconf(), indent=2))
        for number, pod in enumerate(self._lab.pods, 1):
            name = f"K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-{number}"
            environ = {"CNI_ARGS": f"IgnoreUnknown=1;{name}"}
            self._succeed(self._lab.cni("ADD", pod, self._conf, env=environ))
            self._before[pod] = self._look(pod)
            self._console.ok(f"{pod.name} has eth0: {describe(self._before[pod])}")

    def _open_connection(self) -> Connection:
        pod = self._lab.pods[0]
        self._console.step(f"Open a TCP connection from {pod.name}, bound to its eth0")
        connection = self._lab.connect(pod)
        connection.exchange("before the loss")
        here, there = connection.ends
        self._console.ok(f"{here} to {there} (SO_BINDTODEVICE eth0) carries bytes both ways")
        return connection

    def _lose_uplink(self, connection: Connection) -> None:
        self._console.step("The node's uplink goes, as when its driver is unloaded")
        self._lab.uplink_lost()
        connection.send("sent while eth0 was gone")
        for pod in self._lab.pods:
            if self._look(pod)["link"]:
                raise LabError(f"{pod.name} still has eth0")
        self._console.ok("with it went every pod's eth0; the pod has sent on its connection")

    def _restore_uplink(self) -> None:
        self._console.step("The uplink comes back; the pods' interfaces do not")
        self._lab.uplink_back()
        for pod in self._lab.pods:
            if self._look(pod)["link"]:
                raise LabError(f"{pod.name} has eth0 again, without a repair")

    def _repair(self) -> None:
        self._console.step("Repair: all attachments of the network")
        done = self._succeed(self._lab.cni("REPAIR", None, self._conf))
        for line in repaired(done.document):
            self._console.output(line)
        waiting = ", most of it IPv6 duplicate address detection" if self._lab.ipv6 else ""
        self._console.ok(f"REPAIR took {done.seconds:.2f} s{waiting}")

    def _expect_all(self, state: str) -> None:
        self._console.step(f"What cni-repair sees now: all {PODS} are {state}")
        done = self._lab.cli(*self._status)
        self._console.output(done.stdout + done.stderr)
        expected = FINE if state == "healthy" else FAILED
        if done.returncode != expected:
            raise LabError(f"status ended with exit status {done.returncode}, not {expected}")
        rows = [line for line in done.stdout.splitlines() if line.split(maxsplit=1)[:1] == [state]]
        if len(rows) != PODS:
            raise LabError(f"status calls {len(rows)} of {PODS} attachments {state}")

    def _compare(self) -> None:
        self._console.step("Compare each pod's interface, addresses and routes with before")
        for pod, before in self._before.items():
            looks = "; ".join(f"ip -d -j {arguments}" for arguments in LOOK)
            self._console.command(f"{pod.name}# {looks}")
            differing = differences(before, self._look(pod))
            if differing:
                raise LabError(f"{pod.name} differs: {'; '.join(differing)}")
            self._console.ok(f"the same: {describe(before)}")

    def _ping(self) -> None:
        self._console.step("Ping the gateway from every pod")
        for pod in self._lab.pods:
            for gateway in self._lab.gateways:
                done = self._lab.run(pod, ["ping", "-c", "1", "-W", "2", gateway])
                answers = [line for line in done.stdout.splitlines() if "bytes from" in line]
                if done.returncode != 0 or not answers:
                    raise LabError(f"no answer from {gateway}: {done.stdout} {done.stderr}")
                self._console.output(answers[0])

    def _use_connection(self, connection: Connection) -> None:
        self._console.step("The TCP connection that was open all the time")
        connection.answer("sent while eth0 was gone")
        self._console.ok("what was sent while eth0 was gone has arrived and was answered")
        connection.exchange("after the repair")
        here, there = connection.ends
        self._console.ok(f"{here} to {there} carries on")

    def _look(self, pod: Netns) -> Interface:
        return self._lab.interface(pod)

    def _succeed(self, done: Outcome) -> Outcome:
        if done.returncode != 0:
            self._console.output(done.stdout + done.stderr)
            raise LabError(f"exit status {done.returncode}")
        return done


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
