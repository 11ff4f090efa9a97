"""Upgrades on a node in namespaces: the driver's reload is a veth pair that goes and comes back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.netns.rig import HANG_SECONDS, Attachment, Json, Outcome, Rig, eventually

FINE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
DOWN = "ip link del eth0"
UP = (
    "ip link add eth0 address 02:00:00:00:09:00 type veth"
    " peer name tor0 address 02:00:00:00:09:01 netns tor; ip -n tor addr add 10.9.0.1/24 dev"
    " tor0; ip -n tor link set tor0 up; ip link set eth0 up"
)
RELOAD = f"{DOWN}; sleep 0.1; {UP}"
GATE = "until test -e {base}/go; do sleep 0.02; done"


def state_dir(rig: Rig) -> Path:
    return rig.base / "state"


def plan(rig: Rig, command: str | list[str] = RELOAD, **changes: Any) -> str:
    """A plan's file (YAML knows JSON); `{base}` in the command is the test's directory."""
    words = command.replace("{base}", str(rig.base)) if isinstance(command, str) else command
    document = {
        "version": 1,
        "kubelet": "none",
        "driver": {"command": words, **changes.pop("driver", {})},
        **changes,
    }
    path = rig.base / "plan.yaml"
    path.write_text(json.dumps(document))
    return str(path)


def start_words(rig: Rig, path: str) -> list[str]:
    directory = rig.conf()["checkpointDir"]
    return ["upgrade", path, "--foreground", "--checkpoint-dir", directory, *where(rig)]


def where(rig: Rig) -> list[str]:
    return ["--state-dir", str(state_dir(rig))]


def start(rig: Rig, path: str, *words: str, patch: str = "") -> Outcome:
    return rig.cli(*start_words(rig, path), *words, patch=patch)


def resume(rig: Rig, *words: str, patch: str = "") -> Outcome:
    return rig.cli("upgrade", "--resume", "--foreground", *where(rig), *words, patch=patch)


def status(rig: Rig) -> Outcome:
    return rig.cli("upgrade", "--status", *where(rig))


def report(rig: Rig) -> Json:
    document: Json = json.loads(rig.cli("upgrade", "--status", "-o", "json", *where(rig)).out)
    return document


def events(rig: Rig, kind: str = "") -> list[Json]:
    """What the journal tells, as far as its last line is whole."""
    file = state_dir(rig) / "journal"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [event for event in map(json.loads, filter(None, lines)) if kind in ("", event["event"])]


def wait_for(rig: Rig, **wanted: Any) -> Json:
    """The first event that says so."""
    found = eventually(
        lambda: [event for event in events(rig) if wanted.items() <= event.items()], str(wanted)
    )
    return found[0]


def go(rig: Rig) -> None:
    """Let a driver command pass its GATE."""
    (rig.base / "go").touch()


@contextmanager
def in_driver(rig: Rig, *words: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """An upgrade that waits in its driver command, the uplink gone; ended at the end."""
    path = plan(rig, f"echo run >>{{base}}/runs; {DOWN}; {GATE}; {UP}; echo done", **how)
    with rig.started(rig.launcher(), *start_words(rig, path), *words) as process:
        wait_for(rig, event="lost", link="eth0")
        try:
            yield process
        finally:
            go(rig)


def runs(rig: Rig) -> int:
    return len((rig.base / "runs").read_text().split())


def end_of(process: subprocess.Popen[bytes]) -> Outcome:
    out, err = process.communicate(timeout=HANG_SECONDS)
    return Outcome(process.returncode, out.decode(), err.decode())


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(HANG_SECONDS)


def attached(rig: Rig, count: int = 2) -> list[Attachment]:
    return [rig.attach(f"pod{number}") for number in range(count)]


def assert_as_before(rig: Rig, pods: list[Attachment]) -> None:
    for was in pods:
        assert rig.state(was.pod, was.ifname) == was.state


def assert_untouched(rig: Rig, pods: list[Attachment], links: set[tuple[str, int, str]]) -> None:
    assert rig.node_links() == links
    assert_as_before(rig, pods)


def dies(at: tuple[str, str]) -> str:
    """Code that kills the upgrade as soon as this event is in its journal, nothing later."""
    return f"""
import os
from cni_repair.upgrade.journal import Journal
write = Journal._write
def write_and_die(self, event, durable):
    write(self, event, durable)
    if (event["event"], event.get("phase", "")) == {at!r}:
        os.kill(os.getpid(), 9)
Journal._write = write_and_die
"""


def kubelet_of_paper(rig: Rig, *fails: str) -> str:
    """Code that notes in a file what would be asked of systemd, and lets some of it fail. (What the
    real one does is shown in the guest.)"""
    return f"""
from cni_repair.base.errors import IO, CniError
from cni_repair.upgrade import kubelet
def asked(verb, answer=None):
    def work(*words, **more):
        with open({str(rig.base / "asked")!r}, "a") as file:
            file.write(" ".join([verb, *map(str, words)]) + chr(10))
        if verb in {fails!r}:
            raise CniError(IO, "systemd does not answer")
        return answer
    return work
found = kubelet.Found("kubelet.service", True, False)
for verb in ("hold", "release", "arm", "disarm"):
    setattr(kubelet, verb, asked(verb))
kubelet.find = asked("find", found)
"""


def asked(rig: Rig) -> list[str]:
    """What was asked of systemd, the verbs alone."""
    return [line.split()[0] for line in readable(rig.base / "asked").splitlines()]


KUBELET: Json = {"kubelet": {"deadman": "1m"}}
STOOD_FOR = 300 + 120 + 5 + 240 + 60  # driver, masters, verify, what else takes time, dead-man


def readable(path: Path) -> str:
    return path.read_text() if path.exists() else ""
