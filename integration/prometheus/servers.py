"""A Prometheus and a node_exporter of our own on a lab's node: their own ports, their own files."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cni_repair.demo.lab import Lab, LabError
from integration.daemon import START_SECONDS, Daemon
from integration.packages import CACHE, locked_cache, unpacked

PROMETHEUS, EXPORTER, WATCHER = 9090, 9100, 9732  # ports; the node's loopback is nobody else's

_PROMTOOL = CACHE / "prometheus/usr/bin/promtool"
_PROMETHEUS = CACHE / "prometheus/usr/bin/prometheus"
_EXPORTER = CACHE / "prometheus-node-exporter/usr/bin/prometheus-node-exporter"
_HOST = "127.0.0.1"
_ANSWER_SECONDS = 30.0
_CONFIG = """\
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [{rules}]
scrape_configs:
  - job_name: node
    static_configs: [targets: ["127.0.0.1:{exporter}"]]
  - job_name: cni-repair
    static_configs: [targets: ["127.0.0.1:{watcher}"]]
"""


def prepare() -> None:
    """Have the programs, unpacked in the cache; downloads what is not there yet."""
    with locked_cache():
        for package in ("prometheus", "prometheus-node-exporter"):
            unpacked(package, package)


def promtool(*words: str, stdin: bytes = b"") -> tuple[int, str]:
    """Exit status, and all that it says."""
    done = subprocess.run(
        [_PROMTOOL, *words],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=START_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


class Server(Daemon):
    """Context: a program that runs on the node; what it says is in `log`."""

    def __init__(self, lab: Lab, name: str, command: Sequence[str]) -> None:
        entering = lab.ground.entering(lab.node)
        super().__init__(name, [*entering, *command], lab.directory / f"{name}.log")
        self._lab = lab


def exporter(lab: Lab, directory: Path) -> Server:
    """A node_exporter with its textfile collector alone."""
    textfile = "--collector.textfile"
    listen = f"--web.listen-address={_HOST}:{EXPORTER}"
    options = ["--collector.disable-defaults", textfile, f"{textfile}.directory={directory}"]
    return Server(lab, "node_exporter", [str(_EXPORTER), listen, *options])


class Prometheus(Server):
    """Context: a Prometheus that scrapes both, and evaluates `rules`."""

    def __init__(self, lab: Lab, rules: Path) -> None:
        config = lab.directory / "prometheus.yaml"
        config.write_text(_CONFIG.format(rules=rules, exporter=EXPORTER, watcher=WATCHER))
        options = [
            f"--config.file={config}",
            f"--storage.tsdb.path={lab.directory}/prometheus",
            f"--web.listen-address={_HOST}:{PROMETHEUS}",
        ]
        super().__init__(lab, "prometheus", [str(_PROMETHEUS), *options])

    def ask(self, path: str) -> Any:
        """The `data` of an answer of its API. Raises LabError where it is an error."""
        status, body = get(self._lab, PROMETHEUS, f"/api/v1/{path}")
        answer = json.loads(body)
        if status != http.client.OK or answer["status"] != "success":
            raise LabError(f"prometheus: {path}: {answer.get('error', status)}")
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """The values of an expression now, sorted."""
        found = self.ask(f"query?query={quote(expression)}")["result"]
        return sorted(float(one["value"][1]) for one in found)

    def firing(self) -> list[tuple[str, str]]:
        """The alerts that fire: name and job."""
        return sorted(
            (alert["labels"]["alertname"], alert["labels"].get("job", ""))
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        )


def answers(lab: Lab, port: int, path: str) -> bool:
    """Whether somebody answers there, and well."""
    try:
        return get(lab, port, path)[0] == http.client.OK
    except OSError:
        return False


def get(lab: Lab, port: int, path: str) -> tuple[int, str]:
    """Status and body of what the node's loopback answers."""
    with lab.inside(lab.node):
        connection = http.client.HTTPConnection(_HOST, port, timeout=_ANSWER_SECONDS)
        connection.connect()  # while we are there
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8")
    finally:
        connection.close()
