"""The real daemon on a rig's node: started as a user would, asked by its status file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.netns.rig import HANG_SECONDS, Json, Rig, eventually
from tests.processes import ended, is_alive

SETTINGS: Json = {
    "version": 1,
    "lookEvery": "2s",
    "rememberAfter": "1s",
    "backOff": {"first": "1s", "most": "5s"},
}


@dataclass
class Watch:
    """A daemon that runs."""

    rig: Rig
    process: subprocess.Popen[bytes]
    errors: Path
    path: Path  # of its status file

    @property
    def said(self) -> str:
        """What it has written on stderr: there is no journal on the rig's node."""
        return self.errors.read_text(encoding="utf-8")

    def status(self) -> Json:
        """Its status file; empty where there is none yet."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        document: Json = json.loads(text)
        return document if document["pid"] == self.process.pid else {}

    def states(self) -> Json:
        states: Json = self.status().get("attachments", {})
        return states

    def until(self, test: Callable[[Json], Any], what: str) -> Json:
        """Wait for a status; what the daemon said, where it does not come."""

        def look() -> Json | None:
            assert self.process.poll() is None, self.said
            status = self.status()
            return status if status and test(status) else None

        try:
            found = eventually(look, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status()}\n{self.said}") from error
        assert found is not None
        return found

    def until_lost(self, count: int) -> Json:
        return self.until(
            lambda status: status["attachments"] == {"lost": count}, f"{count} lost pods"
        )

    def until_armed(self, count: int) -> Json:
        return self.until(lambda status: status["armed"] == count, f"{count} armed pods")

    def until_healthy(self, count: int) -> Json:
        return self.until(
            lambda status: status["attachments"] == {"healthy": count}, f"{count} healthy pods"
        )

    def until_healed(self, count: int) -> Json:
        """So many, since it began. (A look may have seen a pod healthy before that.)"""
        return self.until(
            lambda status: status["heals"]["total"] == count, f"{count} heals to be done"
        )

    def until_said(self, text: str, times: int = 1) -> None:
        self.until(lambda _: self.said.count(text) >= times, f"{text!r} on stderr")

    def until_it_has_looked_for(self, seconds: int) -> Json:
        """Until a look has ended so much later than the last one by now, or than the first."""
        looked = self.until(lambda status: status["lastLook"], "a look")["lastLook"]
        return self.until(lambda status: status["lastLook"] > looked + seconds, "more looks")

    def processes(self) -> list[int]:
        """The daemon's, its healer's, and those of the tasks at work."""
        known = [self.process.pid]
        for one in known:
            with contextlib.suppress(OSError):  # a task has come to its end meanwhile
                children = Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii")
                known += map(int, children.split())
        return known

    def until_gone(self, pids: list[int]) -> None:
        eventually(lambda: not any(map(is_alive, pids)), "its processes to end")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(HANG_SECONDS)


@contextmanager
def watching(
    rig: Rig, patch: str = "", env: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[Watch]:
    """`cni-repair watch` with settings of the rig's directories, and those that are given."""
    rig.settle(None)  # an uplink whose carrier came just now is one that comes back
    errors = rig.base / "watch.err"
    with errors.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            rig.command(rig.launcher(patch), "watch", "--config", str(configure(rig, **changes))),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={"PATH": os.environ["PATH"], **(env or {})},
        )
    watch = Watch(
        rig,
        process,
        errors,
        Path(rig.outside(str(changes.get("runDir", rig.base / "run")))) / "watch.json",
    )
    with ended(process):
        yield watch
        if process.poll() is None:
            watch.end()
    # What it did not expect is told as trouble; a traceback is a bug wherever it comes from.
    assert "Traceback" not in watch.said, watch.said


def configure(rig: Rig, **changes: Any) -> Path:
    """Write the configuration file."""
    path = rig.base / "watch.yaml"
    document = {
        **SETTINGS,
        "checkpointDirs": [str(rig.checkpoints)],
        "runDir": str(rig.base / "run"),
        **changes,
    }
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    path.chmod(0o600)
    return path
