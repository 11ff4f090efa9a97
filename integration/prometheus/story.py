"""What happens to the node, and what Prometheus must say of it at each step."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import Lab, LabError
from integration.command import CHECKOUT
from integration.daemon import Daemon
from integration.driver.checks import Checks
from integration.prometheus.servers import (
    EXPORTER,
    PROMETHEUS,
    WATCHER,
    Prometheus,
    Server,
    answers,
    exporter,
    promtool,
)
from integration.steps import Steps

PODS = 3
CONF = CHECKOUT / "conf"
JOBS = ("cni-repair", "node")  # the port, the textfile
_SECONDS = 180.0


@dataclass
class Node:
    """A node with pods, the watcher, and those who ask it."""

    lab: Lab
    config: Path
    textfile: Path
    prometheus: Prometheus
    watcher: Daemon

    @property
    def evidence(self) -> dict[str, str]:
        return {
            "watch": self.watcher.log,
            "prometheus": self.prometheus.log,
            "textfile": self.textfile.read_text() if self.textfile.exists() else "",
        }

    def cli(self, *words: str) -> tuple[int, str]:
        done = self.lab.cli(*words)
        return done.returncode, done.stdout + done.stderr


STEPS = Steps[Node]()


def made(lab: Lab, cleanup: ExitStack) -> Node:
    """The node, with everything up."""
    lab.ip(lab.node, "link", "set", "lo", "up")
    for pod in lab.pods:
        done = lab.cni("ADD", pod, lab.netconf())
        if done.returncode != 0:
            raise LabError(f"ADD: {done.stdout}")
    directory = lab.directory / "textfile"
    directory.mkdir()
    textfile = directory / "cni-repair.prom"
    config = lab.directory / "watch.yaml"
    config.write_text(
        f"version: 1\ncheckpointDirs: [{lab.checkpoint_dir}]\nrunDir: {lab.run_dir}\n"
        "heal: uplink\nlookEvery: 1s\n"
        f"metrics: {{textfile: {textfile}, listen: '127.0.0.1:{WATCHER}'}}\n"
    )
    watcher = cleanup.enter_context(_watcher(lab, config))
    asked = cleanup.enter_context(exporter(lab, directory))
    asked.until(lambda: answers(lab, EXPORTER, "/metrics"))
    prometheus = Prometheus(lab, _rules(lab))
    cleanup.enter_context(prometheus)
    prometheus.until(lambda: answers(lab, PROMETHEUS, "/-/ready"))
    watcher.until(lambda: answers(lab, WATCHER, "/metrics"))
    return Node(lab, config, textfile, prometheus, watcher)


def _watcher(lab: Lab, config: Path) -> Server:
    return Server(lab, "watch", [*lab.command, "watch", "--config", str(config)])


def _rules(lab: Lab) -> Path:
    """The alerts with their minutes made seconds, for those who wait."""
    text = (CONF / "prometheus/alerts.yaml").read_text()
    text = re.sub(r"\bfor: \d+m$", "for: 1s", text, flags=re.MULTILINE).replace("> 300", "> 15")
    path = lab.directory / "alerts.yaml"
    path.write_text(text)
    return path


def _becomes(check: Checks, what: str, look: Callable[[], Any], wanted: Any) -> None:
    """Check that what is looked at becomes what is wanted, sooner or later."""
    deadline = time.monotonic() + _SECONDS
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    check(what, seen == wanted, f"{seen}, not {wanted}")


def _both(alert: str) -> list[tuple[str, str]]:
    return [(alert, job) for job in JOBS]


@STEPS.step("scrape")
def scrape(node: Node, check: Checks) -> None:
    """All is well."""
    values = node.prometheus.values
    healthy = 'sum by (job) (cni_repair_attachments{state="healthy"})'
    _becomes(check, "Prometheus has the pods both ways", lambda: values(healthy), [PODS, PODS])
    _becomes(check, "its targets are up", lambda: values("up"), [1, 1])
    errors = values("node_textfile_scrape_error")
    check("node_exporter finds nothing wrong with the file", errors == [0], errors)
    said = promtool("check", "metrics", stdin=node.textfile.read_bytes())
    check("promtool check metrics: nothing to say", said == (0, ""), said)
    _becomes(check, "every alert is evaluated", lambda: _health(node), {"ok"})
    wrong = [problem for one in dashboard() if (problem := _problem(node, one))]
    check("so is every expression of the dashboard", not wrong, "\n".join(wrong))
    _becomes(check, "no alert fires", node.prometheus.firing, [])


def _health(node: Node) -> set[str]:
    """Of the alerts; one is `unknown` until it has been evaluated."""
    groups = node.prometheus.ask("rules")["groups"]
    return {rule["health"] for group in groups for rule in group["rules"]}


def dashboard() -> Iterator[str]:
    """The expressions of the dashboard, as Grafana sends them."""
    for panel in json.loads((CONF / "grafana/dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")


def _problem(node: Node, expression: str) -> str:
    try:
        node.prometheus.values(expression)
    except LabError as error:
        return f"{expression}: {error}"
    return ""


@STEPS.step("pod lost")
def pod_lost(node: Node, check: Checks) -> None:
    """A pod loses its interface, and the master is up: heal is `uplink`."""
    node.lab.ip(node.lab.pods[0], "link", "delete", "eth0")
    _becomes(check, "PodNetworkLost fires, and no other", node.prometheus.firing,
             _both("PodNetworkLost"))  # fmt: skip
    said = node.cli("check", "--config", str(node.config))
    expected = (1, "1 pod interface lost or damaged, uplink up: cni-repair status\n")
    check("cni-repair check says so, exit 1", said == expected, said)


@STEPS.step("repaired")
def repaired(node: Node, check: Checks) -> None:
    """The runbook's command."""
    directories = ["--checkpoint-dir", node.lab.checkpoint_dir]
    status, said = node.cli("repair", "--all", *directories)
    check("cni-repair repair --all: exit 0", status == 0, said)
    _becomes(check, "the alert clears", node.prometheus.firing, [])


@STEPS.step("uplink lost")
def uplink_lost(node: Node, check: Checks) -> None:
    """The NIC goes, and all pods with it."""
    node.lab.uplink_lost()
    _becomes(check, "PodUplinkDown fires, and no other", node.prometheus.firing,
             _both("PodUplinkDown"))  # fmt: skip


@STEPS.step("healed")
def healed(node: Node, check: Checks) -> None:
    """The NIC comes back, and nobody calls anything."""
    node.lab.uplink_back()
    _becomes(check, "the alert clears", node.prometheus.firing, [])
    values = node.prometheus.values
    repairs = 'cni_repair_repairs_total{result="healed", trigger="uplink"}'
    _becomes(check, "the repairs are counted", lambda: values(repairs), [PODS, PODS])
    outages = "cni_repair_outage_seconds_count"
    _becomes(check, "so are their outages", lambda: values(outages), [PODS, PODS])


@STEPS.step("watcher dead")
def watcher_dead(node: Node, check: Checks) -> None:
    """The watcher is killed: the textfile stays, the port does not."""
    node.watcher.process.kill()
    node.watcher.process.wait()
    _becomes(check, "CniRepairNotLooking fires, by file and by port", node.prometheus.firing,
             _both("CniRepairNotLooking"))  # fmt: skip
    status, said = node.cli("check", "--config", str(node.config))
    check("cni-repair check: unknown, exit 2", status == 2, (status, said))


@STEPS.step("watcher back")
def watcher_back(node: Node, check: Checks) -> None:
    """It is started again."""
    with _watcher(node.lab, node.config):
        _becomes(check, "the alert clears", node.prometheus.firing, [])
