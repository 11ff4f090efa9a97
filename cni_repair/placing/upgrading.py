"""The NIC driver's upgrade as a Job (conf/kubernetes/system-upgrade-plan.yaml): begun once a node.

A Job that fails is tried again by Kubernetes, and one whose container is killed is, too. The driver
must not be reloaded by each: what the last upgrade by the same plan has left is gone on with, and
where nobody but a person can, the Job goes on failing, which keeps the next node from its turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from cni_repair.base.errors import CONFIG, IO, CniError
from cni_repair.cli.common import DAMAGED
from cni_repair.cli.printable import one_line, say
from cni_repair.placing.program import tell
from cni_repair.upgrade.progress import CUT_SHORT, ENDED, FINE, REFUSED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# What is to be done next.
WAIT = "wait"  # it is at work
DONE = "done"
RESUME = "resume"
BEGIN = "begin"
STUCK = "stuck"  # it failed, and to begin again would reload the driver again
_POLL_SECONDS = 5.0


def next_step(digest: str, status: Mapping[str, Any]) -> str:
    """What is to be done of a plan with that digest, by `upgrade --status -o json`. Pure."""
    if status["standing"] == RUNNING:
        return WAIT
    if status.get("planDigest") != digest:
        return BEGIN  # which is refused where another one has left something behind
    if status["standing"] == CUT_SHORT:
        return RESUME
    if status["standing"] != ENDED or status["status"] == REFUSED:
        return BEGIN  # none was begun, a reboot has ended it, or nothing was touched
    if status["status"] == FINE:
        return DONE
    return RESUME if status["remaining"] and status.get("verdict") != "given-up" else STUCK


class Upgrading:
    """By the node's own cni-repair."""

    def __init__(self, program: list[str], environment: dict[str, str], plan: str) -> None:
        """`plan` is a file on the node."""
        self._upgrade = [*program, "upgrade"]
        self._environment = environment
        self._plan = plan

    def run(self) -> int:
        """Have the node upgraded by the plan; the exit status of the upgrade, 0 if it is done."""
        asked = self._asked(self._plan, "--dry-run", "-o", "json")
        if not asked.stdout.startswith("{"):
            say(one_line(asked.stderr), sys.stderr)
            return asked.returncode or DAMAGED
        digest = json.loads(asked.stdout).get("planDigest")
        if digest is None:
            raise CniError(
                CONFIG, "the node's cni-repair is too old for this Job", "upgrade it there first"
            )
        while True:
            step = next_step(digest, self._status())
            if step != WAIT:
                status = self._do(step)
                if status == FINE or step in (DONE, STUCK) or not self._is_at_work():
                    return status
                # Another Job's has begun before ours could, or ours goes on without who followed.
            tell("an upgrade is at work on this node: waiting for its end")
            time.sleep(_POLL_SECONDS)

    def _is_at_work(self) -> bool:
        return bool(self._status()["standing"] == RUNNING)

    def _status(self) -> dict[str, Any]:
        """Raises CniError where the node cannot tell: its journal may be damaged."""
        asked = self._asked("--status", "-o", "json")
        if not asked.stdout.startswith("{"):
            raise CniError(
                IO, "what the last upgrade has left here is not known", one_line(asked.stderr)
            )
        status: dict[str, Any] = json.loads(asked.stdout)
        return status

    def _do(self, step: str) -> int:
        if step == DONE:
            tell("this node was upgraded by this plan already: nothing is done")
            return FINE
        if step == STUCK:
            tell(
                "the upgrade of this node by this plan FAILED: see cni-repair upgrade --status on"
                " it; begin another there by hand, or change the plan"
            )
            return DAMAGED
        arguments = ["--resume"] if step == RESUME else [self._plan, "--yes"]
        return subprocess.run(
            [*self._upgrade, *arguments], env=self._environment, check=False
        ).returncode

    def _asked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._upgrade, *arguments],
            env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
