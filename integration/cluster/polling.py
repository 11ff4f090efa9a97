"""What is asked again and again while something else happens."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import Connection, LabError
from integration.cluster.node import BIN_DIR, LAUNCHER, Node

_REQUEST = json.dumps({"cniVersion": "1.0.0"})


class Polling(WithCleanup):
    """Context: a question that is asked in a thread, with a pause of so many seconds in between.

    The answer is "", or what is wrong.
    """

    def __init__(self, ask: Callable[[], str], pause: float) -> None:
        self._ask, self._pause = ask, pause
        self._is_over = threading.Event()
        self.asked = 0
        self.wrong: list[str] = []
        self.longest = 0.0  # seconds between two good answers

    def _open(self) -> None:
        work = threading.Thread(target=self._run)
        work.start()
        self._cleanup.callback(work.join)
        self._cleanup.callback(self._is_over.set)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._is_over.is_set():
            wrong = self._ask()
            now = time.monotonic()
            self.asked += 1
            if wrong:
                self.wrong.append(wrong)
            else:
                self.longest, last = max(self.longest, now - last), now
            self._is_over.wait(self._pause)

    @property
    def was_well(self) -> bool:
        return self.asked > 0 and not self.wrong


def plugins_are_there(nodes: Iterable[Node]) -> str:
    """The nodes on which there is nothing by the plugin's name, just now."""
    return ", ".join(node.name for node in nodes if not node.ground.outside(LAUNCHER).exists())


def plugins_answer(nodes: Iterable[Node]) -> str:
    """What is wrong with the nodes' plugins, as a runtime sees them."""
    return "; ".join(filter(None, map(_plugin_answers, nodes)))


def connections_carry(connections: Mapping[str, Connection]) -> str:
    """What is wrong with the pods' connections."""
    return "; ".join(filter(None, (_carries(*one) for one in connections.items())))


def _plugin_answers(node: Node) -> str:
    environment = ["env", "-i", "CNI_COMMAND=VERSION", f"CNI_PATH={BIN_DIR}"]
    done = subprocess.run(
        [*node.ground.entering, *environment, LAUNCHER],
        input=_REQUEST,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 or "supportedVersions" not in done.stdout:
        return f"{node.name}: exit {done.returncode}: {done.stdout}{done.stderr}".strip()
    return ""


def _carries(name: str, connection: Connection) -> str:
    try:
        connection.exchange("still there?")
    except LabError as error:
        return f"{name}: {error}"
    return ""
