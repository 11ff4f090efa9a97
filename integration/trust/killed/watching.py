"""The watcher, killed while it heals what a reload has taken away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cni_repair.demo.lab import PATH, Outcome, poll_until
from integration.trust.killed.scene import Scene
from integration.trust.killed.stage import Kill, Traced, Wrong

_SECONDS = 120.0
_END_SECONDS = 60.0


def killed_watch(scene: Scene, kill: Kill | None) -> Traced:
    """Start it, reload the uplink, and end it as systemd does once all is healed, where it has not
    been killed by then."""
    words = ("watch", "--config", str(_configuration(scene)))
    return scene.stage.as_traced(_watch(scene, scene.stage.traced_command(words, kill), True))


def watch_again(scene: Scene) -> None:
    """As systemd starts it again: it heals what it finds."""
    command = [*scene.stage.command, "watch", "--config", str(_configuration(scene))]
    done = _watch(scene, command, False)
    if done.returncode != 0:
        raise Wrong(f"the next watcher ended with {done.returncode}: {done.stderr[-300:]}")


def _configuration(scene: Scene) -> Path:
    file = scene.stage.directory / "watch.yaml"
    settings = {
        "version": 1,
        "rememberAfter": "1h",  # records are not what this is about
        "backOff": {"first": "0.1s", "most": "0.1s"},
    }
    file.write_text(json.dumps(settings))
    return file


def _watch(scene: Scene, command: Sequence[str], reloads: bool) -> Outcome:
    lab, log = scene.stage.lab, scene.stage.directory / "watch.log"
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [*lab.ground.entering(lab.node), *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={"PATH": PATH},
            start_new_session=True,
        ) as process,
    ):
        try:
            watcher = poll_until(lambda: _ended(process) or _pid(scene), _SECONDS, "the watcher")
            if reloads:
                scene.stage.reload()
            poll_until(lambda: _ended(process) or _is_healed(scene), _SECONDS, "the heal")
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(watcher, signal.SIGTERM)
            process.wait(_END_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return Outcome(process.returncode, "", log.read_text(), 0.0)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _pid(scene: Scene) -> int:
    """The watcher's, once it looks; 0 until then."""
    lab = scene.stage.lab
    words = ("watch", "--status", "--config", str(_configuration(scene)), "-o", "json")
    asked = lab.cli(*words, command=scene.stage.command)
    status = asked.document["status"] if asked.returncode == 0 else None
    # (Of one that was killed the status is still there.)
    return int(status["pid"]) if status and os.path.exists(f"/proc/{status['pid']}") else 0


def _is_healed(scene: Scene) -> bool:
    links = [scene.stage.lab.ip_json(pod, "link", "show") for pod in scene.pods]
    return all(any(link["ifname"] == "eth0" for link in pod) for pod in links) and (
        scene.stage.exact(scene.pods) == scene.exact
    )
