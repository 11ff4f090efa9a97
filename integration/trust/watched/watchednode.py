"""A lab's node with the daemon at work, and its uplink's weather."""

from __future__ import annotations

import json
import threading
import time

from cni_repair.demo.lab import Lab
from integration.trust.watched.watcher import Watcher


def watcher_of(lab: Lab) -> Watcher:
    """`cni-repair watch`, whose heals follow each other as fast as they can: none is waited out."""
    config = lab.directory / "watch.yaml"
    config.write_text(
        json.dumps(
            {
                "version": 1,
                "checkpointDirs": [lab.checkpoint_dir],
                "runDir": lab.run_dir,
                "lookEvery": "5s",
                "rememberAfter": "1s",
                "backOff": {"first": "0.1s", "most": "0.1s"},
            }
        )
    )
    return Watcher(lab, config, lab.directory / "watch.log")


class Uplink:
    """The node's uplink, and when it was there."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self._away: list[tuple[float, float]] = []
        self.losses = 0

    def flap(self, seconds: float, by_cable: bool) -> None:
        """Take it away for so long; `by_cable`: its carrier, else the link itself."""
        began = time.monotonic()
        with self._lock:
            self._away.append((began, float("inf")))
        self.losses += 1
        if by_cable:
            self._lab.ip(self._lab.tor, "link", "set", "tor0", "down")
            time.sleep(seconds)
            self._lab.ip(self._lab.tor, "link", "set", "tor0", "up")
        else:
            self._lab.uplink_lost()
            time.sleep(seconds)
            self._lab.uplink_back()
        with self._lock:
            self._away[-1] = (began, time.monotonic())

    def was_there(self, began: float, ended: float) -> bool:
        """Whether nothing happened to it in that time."""
        with self._lock:
            return all(until < began or since > ended for since, until in self._away)
