"""A node with liars and honest pods, through a loss of the uplink; and what must hold."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cni_repair.demo.errors import LabError
from cni_repair.demo.lab import GATEWAY, PATH, Lab, Netns, Outcome, poll_until
from cni_repair.network.model import TEMPORARY
from integration.bench.podstate import pod_state
from integration.trust.lied_to.cases import ATTACHED, LOST, Case
from integration.trust.lied_to.liar import Liar
from integration.trust.proof import Failure

HONEST = 2
_CALLS_AT_ONCE = 4
# A pass over all of the node. Nothing here measures speed: what hangs takes longer.
_LISTENED = 1.0
_BOUND = 60.0
_ETH_ARP = 0x0806
# What a report offers to be pasted; the rest of its lines is for people.
_OFFERED = re.compile(r"\b(?:cni-repair|ip|nsenter|sysctl|systemctl|ethtool|rm) .*")
# Our commands do nothing here: what is looked for is a shell's own `>FILE`.
_NOTHING = "ip() { :; }\nnsenter() { :; }\nsysctl() { :; }\n"


class Scene:
    """One node; `cases` all at once, a pod each."""

    def __init__(self, lab: Lab, cases: Sequence[Case], is_full: bool) -> None:
        self._lab = lab
        self._cases = cases
        self._is_full = is_full
        self._places = ("--checkpoint-dir", lab.checkpoint_dir, "--run-dir", lab.run_dir)
        self._directory = Path(lab.directory) / "pasted"
        self._directory.mkdir()
        self._results: dict[Netns, Any] = {}
        self._names: dict[Netns, str] = {}
        self.failures: list[Failure] = []
        self.slowest = 0.0  # until the honest pods had their interfaces again
        self.honest = lab.add_pods(HONEST)
        pods = lab.add_pods(len(cases))
        self._liars = [
            Liar(lab, pod, f"m{number}", self.honest[0], is_full) for number, pod in enumerate(pods)
        ]

    def play(self, by_upgrade: bool = False) -> None:
        """All of it; `by_upgrade`: an upgrade is around the loss, and repairs."""
        try:
            self._attach()
            whole = [self._lab.interface(pod) for pod in self.honest]
            node = self._node()
            self._lie(ATTACHED)
            self._ask("snapshot", "plan")
            if by_upgrade:
                self._upgrade()
            else:
                self._lab.uplink_lost()
                self._lie(LOST)
                self._lab.uplink_back()
                self._ask("status", "plan")
                self._repair()
            for pod, was in zip(self.honest, whole):
                if self._lab.interface(pod) != was:
                    self._fail(f"{pod.name} is not as it was")
            self._ask("status", "snapshot")
            self._verify()
            self._check()
            for liar in self._liars:
                liar.end()
            self._delete()
            self._expect_node(node)
        finally:
            for liar in self._liars:
                liar.end()
        self._expect_no_marks()

    # --- The pods' lives ---

    def _attach(self) -> None:
        for case, liar in zip(self._cases, self._liars):
            if case.pod_name is not None:
                self._names[liar.pod] = case.pod_name(liar)
        pods = [*self.honest, *(liar.pod for liar in self._liars)]
        added = self._calls("ADD", pods)
        self._results = {pod: done.document for pod, done in added.items()}

    def _lie(self, when: str) -> None:
        for case, liar in zip(self._cases, self._liars):
            if case.when == when:
                case.lie(liar)

    def _call(self, verb: str, pod: Netns) -> Outcome:
        more = {} if verb == "ADD" else {"prevResult": self._results[pod]}
        name = self._names.get(pod, pod.name)
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}"
        done = self._lab.cni(verb, pod, {**self._lab.netconf(), **more}, env={"CNI_ARGS": args})
        self._expect_clean(verb, done)
        return done

    def _calls(self, verb: str, pods: Sequence[Netns]) -> dict[Netns, Outcome]:
        """Some at a time, as a runtime does."""
        with ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
            return dict(zip(pods, pool.map(lambda pod: self._call(verb, pod), pods)))

    def _check(self) -> None:
        """CHECK; what it says of a liar is its own affair."""
        pods = [*self._results] if self._is_full else self.honest
        for pod, done in self._calls("CHECK", pods).items():
            if pod in self.honest and done.returncode != 0:
                self._fail(f"CHECK of {pod.name} fails: {done.stdout}")

    def _delete(self) -> None:
        for pod, done in self._calls("DEL", [*self._results]).items():
            if done.returncode != 0:
                self._fail(f"DEL of {pod.name} fails: {done.stdout}", pod)
        leases = Path(self._lab.ipam_dir, "pods")
        kept = [file.name for file in leases.iterdir() if file.name[0].isdigit()]
        kept += [file.name for file in Path(self._lab.checkpoint_dir).iterdir()]
        if kept:
            self._fail(f"left after DEL: {' '.join(kept)}")

    # --- What is asked ---

    def _ask(self, *commands: str) -> None:
        """In words, which a shell is given, too; and as documents."""
        for command in commands:
            words = self._cli(command, *(() if command == "snapshot" else ("--all",)))
            self._paste(command, words.stdout)
            if self._is_full or command == "status":
                self._document(command, "-o", "json")

    def _cli(self, *words: str) -> Outcome:
        done = self._lab.cli(*words, *self._places)
        self._expect_clean(words[0], done)
        return done

    def _document(self, *words: str) -> Any:
        return self._cli(*words).document

    def _repair(self) -> None:
        listener = self._listener()
        with self._running(["repair", "--all", *self._places]) as process:
            began = time.monotonic()
            try:
                poll_until(self._are_there, _BOUND, "the honest pods' interfaces")
                self.slowest = time.monotonic() - began
                out, err = process.communicate(timeout=2 * _BOUND)
            except (LabError, subprocess.TimeoutExpired) as late:
                process.kill()
                out, err = process.communicate()
                self._fail(f"repair --all: {late}")
        self._expect_clean("repair", Outcome(process.returncode, out, err, 0.0))
        self._paste("repair", out)
        self._expect_announcements(listener)

    def _upgrade(self) -> None:
        """The driver's reload is a command that waits until the liars have had their turn."""
        go, plan = self._directory / "go", self._directory / "plan.yaml"
        command = f"ip link del eth0; until test -e {go}; do sleep 0.02; done"
        document: dict[str, Any] = {"version": 1, "kubelet": "none", "driver": {"command": command}}
        document["coverage"] = "1%"
        plan.write_text(json.dumps(document))
        state = ("--state-dir", str(self._directory / "state"))
        words = ["upgrade", str(plan), "--foreground", *state, *self._places]
        with self._running(words) as process:
            try:
                poll_until(lambda: not self._are_there(), 4 * _BOUND, "the driver command")
                self._lie(LOST)
                self._lab.uplink_back()
                go.touch()
                out, err = process.communicate(timeout=4 * _BOUND)
            except (LabError, subprocess.TimeoutExpired) as late:
                process.kill()
                out, err = process.communicate()
                self._fail(f"upgrade: {late}: {out} {err}")
        self._expect_clean("upgrade", Outcome(process.returncode, out, err, 0.0))
        told = self._lab.cli("upgrade", "--status", "-o", "json", *state)
        self._expect_clean("upgrade --status", told)
        for one in told.document["attachments"]:
            is_honest = one["containerID"] in {pod.name for pod in self.honest}
            if is_honest and one["state"] != "healthy":
                self._fail(f"upgrade: an honest pod is {one['state']}: {one}")

    @contextmanager
    def _running(self, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Context: a command of cni-repair's; killed where something else fails meanwhile."""
        with subprocess.Popen(
            [*self._lab.ground.entering(self._lab.node), *self._lab.command, *words],
            env={"PATH": PATH, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def _are_there(self) -> bool:
        return all(pod_state(pod) is not None for pod in self.honest)

    def _verify(self) -> None:
        """Who has a liar for a gateway beside him is not told that all is well."""
        wanted = "conflict" if any(case.is_gateway for case in self._cases) else "healthy"
        try:  # (Answers come when the machine has time for them.)
            poll_until(lambda: self._verdict() == wanted, _BOUND, f"the verdict {wanted}")
        except LabError as error:
            self._fail(f"verify of {self.honest[0].name}: {self._verdict()}: {error}")

    def _verdict(self) -> str:
        found = self._document("verify", "-o", "json")
        entries = {one["containerID"]: one for one in found["attachments"]}
        return str(entries[self.honest[0].name]["verdict"])

    # --- What must hold ---

    def _expect_clean(self, what: str, done: Outcome) -> None:
        """One of the statuses that there are, no traceback, and nothing raw."""
        said = done.stdout + done.stderr
        if done.returncode not in (0, 1):
            self._fail(f"{what}: exit {done.returncode}: {said}")
        if "Traceback" in said or "a bug in" in said:
            self._fail(f"{what}: {said}")
        raw = {char for char in said if not char.isprintable() and char != "\n"}
        if what in ("ADD", "CHECK", "DEL") or done.stdout.startswith("{"):
            raw.discard("\x7f")  # JSON has it as it is
        if raw:
            self._fail(f"{what} prints {' '.join(sorted(map(ascii, raw)))}")

    def _paste(self, what: str, text: str) -> None:
        """Give a shell a script as it is, or each command that a report offers."""
        offered = [text] if what == "plan" else dict.fromkeys(_OFFERED.findall(text))
        for shell in ("/bin/sh", "/bin/bash"):
            for script in offered:
                subprocess.run(
                    [shell],
                    input=(_NOTHING + script).encode("utf-8", "surrogateescape"),
                    cwd=self._directory,
                    env={"PATH": "/nonexistent"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    timeout=_BOUND,
                )

    def _expect_no_marks(self) -> None:
        for case, liar in zip(self._cases, self._liars):
            if (self._directory / liar.mark).exists():
                self.failures.append(Failure(case.name, "a shell ran the pod's words"))

    def _listener(self) -> socket.socket:
        """All ARP that reaches the gateway."""
        with self._lab.inside(self._lab.tor):
            heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ARP))
        heard.settimeout(0.2)
        return heard

    def _expect_announcements(self, listener: socket.socket) -> None:
        """The gateway's address is announced by nobody."""
        until = time.monotonic() + _LISTENED  # a liar's forged answers never end
        with listener:
            try:
                while time.monotonic() < until:
                    frame = listener.recv(2048)
                    sender, target = frame[28:32], frame[38:42]
                    if sender == target == socket.inet_aton(GATEWAY):
                        self._fail("the node announces the gateway's address")
                        return
            except TimeoutError:
                pass

    def _node(self) -> dict[str, Any]:
        """What a stray repair, or a liar, would change of the node."""
        links = self._lab.ip_json(self._lab.node, "link", "show")
        return {
            "links": sorted(link["ifname"] for link in links),
            "addresses": [
                sorted(one["local"] for one in link["addr_info"] if one.get("scope") == "global")
                for link in self._lab.ip_json(self._lab.node, "addr", "show")
            ],
            "routes": [
                route
                for route in self._lab.ip_json(self._lab.node, "route", "show", "table", "all")
                if not _is_of_link_local(route)
            ],
            "rules": self._lab.ip_json(self._lab.node, "rule", "show"),
        }

    def _expect_node(self, was: dict[str, Any]) -> None:
        now = self._node()
        changed = [name for name in was if json.dumps(was[name]) != json.dumps(now[name])]
        if changed:
            self._fail(f"of the node changed: {', '.join(changed)}: {now}")
        left = [name for name in now["links"] if name.startswith(TEMPORARY)]
        if left:
            self._fail(f"left in the node: {' '.join(left)}")

    def _fail(self, saw: str, pod: Netns | None = None) -> None:
        by = next((c.name for c, one in zip(self._cases, self._liars) if one.pod == pod), "")
        case = by or (self._cases[0].name if len(self._cases) == 1 else "all at once")
        self.failures.append(Failure(case, _shortened(" ".join(saw.split()))))


def _is_of_link_local(route: Mapping[str, Any]) -> bool:
    """A kernel's own: it comes when the uplink's link-local address has been looked for, which may
    be before or after anything here."""
    return route.get("protocol") == "kernel" and str(route["dst"]).startswith(("fe80:", "ff00:"))


def _shortened(text: str) -> str:
    """What was said first, and last."""
    return text if len(text) < 600 else f"{text[:300]} … {text[-300:]}"
