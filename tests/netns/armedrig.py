"""A process on the rig's node that arms what is lost, waits, and repairs: what `watch` does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.netns.rig import HANG_SECONDS, ROOT, Json, Pod, Rig, entry_of

_PROGRAM = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Store
from cni_repair.node.context import Node
from cni_repair.node.report import document
from cni_repair.repair.armed.arming import arm
from cni_repair.repair.scheduler import repair
from cni_repair.repair.session import RepairOptions

directory, run_dir, others, patch = sys.argv[1:]
exec(patch)

def say(**what):
    print(json.dumps(what), flush=True)

with Store(directory) as store, Node() as node:
    options = RepairOptions(run_dir, 0)
    entries = inventory.read_all(store, None)
    with arm(node, store, entries, options, int(others)) as armed:
        say(count=armed.count, refused=armed.refused)
        if sys.stdin.readline():
            reports = repair(node, store, entries, replace(options, armed=armed))
            say(missed=armed.missed, document=document(reports, "1.0.0"))
"""

# Why nothing was made where a pod has something of that name or index, its own interface mostly.
TAKEN = "its link was refused: its name or index is taken"


@dataclass
class Arming:
    """The process: first what it says of what is armed, then what became of it."""

    _process: subprocess.Popen[str]
    count: int = 0
    refused: Json = field(default_factory=dict)  # how many are not armed, by the reason
    missed: Json = field(default_factory=dict)  # how many were not done, by the reason

    def fire(self) -> Json:
        """Have it repair; the document that REPAIR would print."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.missed = answer["missed"]
        document: Json = answer["document"]
        return document

    def _answer(self) -> Json:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        answer: Json = json.loads(line)
        return answer

    @property
    def pid(self) -> int:
        return self._process.pid

    def workers(self) -> list[int]:
        """The processes that it has forked, and that wait."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]


@contextmanager
def arming(rig: Rig, others: int = 0, patch: str = "") -> Iterator[Arming]:
    """Arm what is lost by now; `patch` is Python code that runs before."""
    places = (str(rig.checkpoints), str(rig.lab.run_dir), str(others), patch)
    with subprocess.Popen(
        rig.command(sys.executable, "-IS", "-c", _PROGRAM, *places),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            made = Arming(process)
            first = made._answer()
            made.count, made.refused = first["count"], first["refused"]
            yield made
            _, said = process.communicate(timeout=HANG_SECONDS)
            assert process.returncode == 0, said
        finally:
            process.kill()


def healed(document: Json, pod: Pod) -> Json:
    """The report on a pod, which is well."""
    entry = entry_of(document, pod)
    assert (entry["state"], entry["findings"], "error" in entry) == ("healthy", [], False), entry
    return entry
