"""Calls as a runtime makes them, some of them killed; and what none of them may ever answer."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cni_repair.demo.lab import GATEWAY, GATEWAY6, PATH, Lab, Netns

# What hangs takes longer; on a loaded machine a call may wait for a lock for 45 s.
_HANG_SECONDS = 180.0
_NEVER_SAID = ("Traceback (most recent call last)", "a bug in cni-repair")


@dataclass(frozen=True)
class Done:
    """A call that has ended."""

    what: str
    status: int  # minus the signal, where one ended it
    out: str
    err: str
    began: float  # time.monotonic()
    ended: float
    is_killed: bool = False

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def document(self) -> dict[str, Any]:
        """What it printed; empty where that is nothing, or no document."""
        try:
            document = json.loads(self.out)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def words(self) -> str:
        """What it said, in a line."""
        return f"{self.what}: exit {self.status}: {' '.join((self.out + self.err).split())[:600]}"

    @property
    def fault(self) -> str:
        """What is wrong with the answer itself, whatever the call was to do; empty: nothing."""
        if self.is_killed:
            return ""
        if any(words in self.out + self.err for words in _NEVER_SAID):
            return f"a bug is told: {self.words}"
        if self.status not in (0, 1):
            return self.words
        if self.status == 1 and not self.document:
            return f"no document: {self.words}"
        return ""


def netconf_of(lab: Lab, last: int, **changes: Any) -> dict[str, Any]:
    """The lab's, with addresses from .10 to that number, so that they are used again soon."""
    netconf = lab.netconf(**changes)
    ranges = [[{"subnet": "10.9.0.0/16", "gateway": GATEWAY, **_between("10.9.{}.{}", last)}]]
    if lab.ipv6:
        ranges.append(
            [{"subnet": "fd00:9::/64", "gateway": GATEWAY6, **_between("fd00:9::{1:x}", last)}]
        )
    netconf["ipam"]["ranges"] = ranges
    return netconf


def _between(words: str, last: int) -> dict[str, str]:
    return {
        "rangeStart": words.format(0, 10),
        "rangeEnd": words.format(last >> 8, last & 0xFF) if "." in words else words.format(0, last),
    }


class Calls:
    """Makes them, from any thread."""

    def __init__(self, lab: Lab, netconf: Mapping[str, Any]) -> None:
        self._lab = lab
        self._netconf = netconf

    def plugin(
        self, verb: str, pod: Netns | None = None, kill_after: float | None = None, **changes: Any
    ) -> Done:
        """Call the plugin, with changes of its configuration; with `kill_after` it is killed then,
        and what it has started is not waited for."""
        environment = self._lab.environment(verb, pod)
        stdin = json.dumps({**self._netconf, **changes})
        what = f"{verb} {pod.name}" if pod else verb
        return self._run(what, (), environment, stdin, kill_after)

    def command(self, *words: str, kill_after: float | None = None) -> Done:
        """The command line, about the lab's places."""
        places = ("--checkpoint-dir", self._lab.checkpoint_dir, "--run-dir", self._lab.run_dir)
        return self._run(words[0], (*words, *places, "-o", "json"), {}, "", kill_after)

    def _run(
        self,
        what: str,
        words: tuple[str, ...],
        environment: Mapping[str, str],
        stdin: str,
        kill_after: float | None,
    ) -> Done:
        began = time.monotonic()
        is_killed = False
        # Files: of a pipe the end would come only with that of a plugin that outlives its caller.
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(stdin.encode())
            given.seek(0)
            with subprocess.Popen(
                [*self._lab.ground.entering(self._lab.node), *self._lab.command, *words],
                stdin=given,
                stdout=out,
                stderr=err,
                env={"PATH": PATH, "LC_ALL": "C.UTF-8", **environment},
            ) as process:
                try:
                    process.wait(_HANG_SECONDS if kill_after is None else kill_after)
                except subprocess.TimeoutExpired:
                    process.kill()
                    is_killed = True
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode(errors="replace"))
        ended = time.monotonic()
        if is_killed and kill_after is None:
            said[1] += f"\nno end after {_HANG_SECONDS:g} s"
            is_killed = False
        return Done(what, process.returncode, said[0], said[1], began, ended, is_killed)


def processes_on(lab: Lab) -> list[int]:
    """Processes in the node's network namespace: what was started there, and has not ended."""
    node = os.stat(lab.ground.netns(lab.node)).st_ino
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino == node:
                    found.append(int(name))
            except OSError:
                continue  # it has ended meanwhile
    return found
