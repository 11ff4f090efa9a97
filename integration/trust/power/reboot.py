"""The node after the power is back: its pods are gone, their runtime takes them away."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

from cni_repair.demo.lab import Lab, Netns, Outcome
from integration.packages import run
from integration.trust.power.workload import CHECKPOINTS, LEASES, on_disk

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NOT_LEASES = ("lock", "last_reserved_ip.")


@contextlib.contextmanager
def another_boot(directory: Path) -> Iterator[None]:
    """Context: whoever asks the kernel which boot this is hears another one's id.

    Seen in our own mount namespace only.
    """
    file = directory / "boot_id"
    file.write_text(f"{uuid.uuid4()}\n")
    run(["mount", "--bind", str(file), str(_BOOT_ID)])
    try:
        yield
    finally:
        run(["umount", str(_BOOT_ID)])


class Reboot:
    """What happens on a disk once the node is up again.

    `pods` are those that the runtime still knows: it calls DEL for them. What else comes up again
    (an unlink is durable no sooner than the next flush) it has forgotten: that is GC's.
    """

    def __init__(self, lab: Lab, disk: Path, pods: list[str]) -> None:
        self._lab, self._disk, self._pods = lab, disk, [Netns(name) for name in pods]
        on_disk(lab, disk)

    def trouble(self) -> Iterator[str]:
        """What goes wrong, and what is left of pods that nobody has any more."""
        if (self._disk / CHECKPOINTS).exists():  # else they would refuse what we name
            yield from self._is_told("status", self._cli("status"))
            yield from self._is_told("repair --all", self._cli("repair", "--all"))
        conf = self._lab.netconf(masterTimeout=0.1)
        for pod in self._pods:
            yield from _fails(f"DEL of {pod.name}", self._lab.cni("DEL", pod, conf))
        conf["cni.dev/valid-attachments"] = []
        yield from _fails("GC", self._lab.cni("GC", None, conf))
        for path in sorted((self._disk / CHECKPOINTS).glob("*")):
            yield f"{path.name} is left when all pods are gone"
        for lease in self._leases():
            if lease.stat().st_size:
                yield f"the address {lease.name} is left when all pods are gone"

    def torn_leases(self) -> int:
        """Addresses that host-local has lost: files without an owner's name, which nobody frees."""
        return sum(not lease.stat().st_size for lease in self._leases())

    def _leases(self) -> list[Path]:
        files = sorted((self._disk / LEASES).glob("*/*"))
        return [file for file in files if not file.name.startswith(_NOT_LEASES)]

    def _cli(self, *words: str) -> Outcome:
        places = ("--checkpoint-dir", self._lab.checkpoint_dir, "--run-dir", self._lab.run_dir)
        return self._lab.cli(*words, "-o", "json", *places)

    @staticmethod
    def _is_told(what: str, outcome: Outcome) -> Iterator[str]:
        """The pods are gone: no trouble of the node's, and nothing that could be healthy."""
        if outcome.returncode not in (0, 1) or "Traceback" in outcome.stderr:
            yield f"{what}: exit {outcome.returncode}: {outcome.stdout}{outcome.stderr}"
            return
        for one in json.loads(outcome.stdout)["attachments"]:
            if one["state"] == "healthy":
                yield f"{what}: {one['containerID']} is healthy, after a reboot"


def _fails(what: str, outcome: Outcome) -> Iterator[str]:
    if outcome.returncode != 0:
        yield f"{what}: exit {outcome.returncode}: {outcome.stdout}{outcome.stderr}"
