"""What is asked again and again while something else happens."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType

from cni_repair.demo.lab import Connection, LabError
from integration.cluster.node import BIN_DIR, Node

_REQUEST = json.dumps({"cniVersion": "1.0.0"})


class Polling:
    """Context: a question that is asked in a thread, one time after the other.

    It is answered by "", or by what is wrong.
    """

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.asked = 0
        self.wrong: list[str] = []
        self.longest = 0.0  # seconds between two good answers

    def __enter__(self) -> Polling:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

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
            self._is_over.wait(0.05)


def plugin_answers(node: Node) -> str:
    """What is wrong with a node's plugin, as a runtime sees it."""
    launcher = f"{BIN_DIR}/cni-repair"
    environment = ["env", "-i", "CNI_COMMAND=VERSION", f"CNI_PATH={BIN_DIR}"]
    done = subprocess.run(
        [*node.ground.entering, *environment, launcher],
        input=_REQUEST,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 or "supportedVersions" not in done.stdout:
        return f"{node.name}: exit {done.returncode}: {done.stdout}{done.stderr}".strip()
    return ""


def carries(name: str, connection: Connection) -> str:
    """What is wrong with a pod's connection."""
    try:
        connection.exchange("still there?")
    except LabError as error:
        return f"{name}: {error}"
    return ""
