"""What is rolled out over the fleet, what goes wrong meanwhile, and what must come of it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.driver.checks import Checks
from integration.fleet.controller import ITSELF, Controller, Played
from integration.fleet.hosts import DRIVER, Host
from integration.prometheus.servers import PROMETHEUS, Prometheus, answers
from integration.steps import Steps

BATCHES = 4
# One alert fires for ever, another never does.
_RULES = """\
groups:
  - name: fleet
    rules:
      - alert: Fires
        expr: vector(1)
      - alert: IsQuiet
        expr: vector(1) > 1
"""


@dataclass
class Fleet:
    """The hosts, who rolls out, and where cni-repair is installed for all of them."""

    controller: Controller
    directory: Path
    hosts: list[Host] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # by ansible
    figures: list[str] = field(default_factory=list)
    released: int = 0  # drivers so far: each has a plan of its own

    @property
    def evidence(self) -> dict[str, str]:
        return {"ansible": "\n\n".join(self.said)}

    @property
    def command(self) -> Path:
        return self.directory / "bin/cni-repair"

    @property
    def installation(self) -> dict[str, Any]:
        """The role's variables for it: from an archive, to where nobody else is."""
        options = ["--prefix", f"{self.directory}/opt", "--bin-dir", f"{self.directory}/bin"]
        return {
            "cni_repair_form": "source",
            "cni_repair_file": f"{self.directory}/cni-repair.tar.gz",
            "cni_repair_cache": f"{self.directory}/cache",
            "cni_repair_install_options": options,
            "cni_repair_watch": {"version": 1, "heal": "uplink"},
            "cni_repair_watch_config": f"{self.directory}/watch.yaml",
            "cni_repair_watch_service": False,
        }

    @property
    def canary(self) -> Host:
        return self.hosts[0]

    def roll_out(self, *words: str, **variables: Any) -> Played:
        """Play upgrade-driver.yml, by the plan for the driver of now."""
        plan = {
            "version": 1,
            "driver": {"command": [DRIVER, str(self.released)]},
            "kubelet": "none",
            "masters": {"deadline": "10s"},
        }
        known = {
            "cni_repair_plan": plan,
            "cni_repair_upgrade_foreground": True,
            "cni_repair_upgrade_poll": 1,
        }
        return self.play("upgrade-driver", *words, **known, **variables)

    def play(self, playbook: str, *words: str, **variables: Any) -> Played:
        known = {"cni_repair_command": str(self.command), **variables}
        played = self.controller.play(playbook, known, *words)
        self.said.append(f"{playbook} {' '.join(words)}\n{played.said}")
        return played

    @property
    def runs(self) -> list[int]:
        """How often the driver command was run, by host."""
        return [host.runs for host in self.hosts]


def install(fleet: Fleet, check: Checks) -> None:
    """Once for all hosts, by the role, on the machine that runs ansible."""
    said = fleet.controller.run("doc", "-M", "roles/cni_repair/library", "cni_repair_upgrade").said
    check("ansible-doc has the module's options and results", "RETURN VALUES" in said, said)
    played = fleet.play("install", **fleet.installation)
    _plays(check, played)
    check("cni-repair is there", os.access(fleet.command, os.X_OK))
    written = (fleet.directory / "watch.yaml").read_text()
    check("so is the watcher's configuration", "\nheal: uplink\n" in written, written)
    played = fleet.play("install", **fleet.installation)
    _plays(check, played)
    check("a second run changes nothing", played.recap[ITSELF]["changed"] == 0, played.said)


STEPS = Steps[Fleet]()


def _plays(check: Checks, played: Played, status: int = 0) -> None:
    check(f"ansible-playbook: exit {status}", played.status == status, played.said[-4000:])


def _all_well(fleet: Fleet, check: Checks, verdicts: set[str]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        found = set(workers.map(lambda host: host.upgrade_status()["verdict"], fleet.hosts))
        pods = list(workers.map(Host.is_as_at_first, fleet.hosts))
    check(f"every host's verdict: {' or '.join(sorted(verdicts))}", found <= verdicts, found)
    check("every pod has what it had at first", all(pods), pods)


@STEPS.step("check mode")
def check_mode(fleet: Fleet, check: Checks) -> None:
    """Nothing is touched, and what would be done is told."""
    played = fleet.roll_out("--check", "--diff")
    _plays(check, played)
    would = played.having("changed")
    check("every host would be changed", would == set(played.recap), would)
    check("the plan is in the diff", played.said.count("+verdict: planned") == len(fleet.hosts))
    check("no driver command was run", not any(fleet.runs), fleet.runs)
    began = [host.upgrade_status()["standing"] for host in fleet.hosts]
    check("no upgrade was begun", set(began) == {"none"}, began)


@STEPS.step("alert")
def alert(fleet: Fleet, check: Checks) -> None:
    """A Prometheus has an alert: no host is touched."""
    before = fleet.runs
    played = _roll_out_by_alert(fleet, "Fires")
    _plays(check, played, 2)
    check("it says which", "Prometheus has" in played.said and "Fires" in played.said)
    check("no driver was replaced", fleet.runs == before, fleet.runs)


def _roll_out_by_alert(fleet: Fleet, name: str) -> Played:
    lab = fleet.controller.lab
    assert lab is not None
    rules = lab.directory / "rules.yaml"
    rules.write_text(_RULES)
    prometheus = Prometheus(lab, rules)
    with prometheus:
        # (The series, which the playbook asks for, comes a moment after the alert itself.)
        prometheus.until(
            lambda: (
                answers(lab, PROMETHEUS, "/-/ready")
                and prometheus.values('ALERTS{alertstate="firing",alertname="Fires"}') == [1.0]
            )
        )
        return fleet.roll_out(
            cni_repair_prometheus=f"http://127.0.0.1:{PROMETHEUS}",
            cni_repair_prometheus_query=f'ALERTS{{alertstate="firing",alertname="{name}"}}',
        )


@STEPS.step("canary")
def canary(fleet: Fleet, check: Checks) -> None:
    """The first host's NIC does not come back: the others are not touched."""
    before = fleet.runs
    fleet.canary.break_driver()
    played = fleet.roll_out()
    _plays(check, played, 2)
    failed = played.having("failed")
    check("the first host failed, and no other", failed == {fleet.canary.host}, failed)
    check("it says why", "eth0 does not exist" in played.said, played.said[-4000:])
    check("no other driver was replaced", fleet.runs[1:] == before[1:], fleet.runs)
    document = fleet.canary.upgrade_status()
    check("its verdict is failed", document["verdict"] == "failed", document["verdict"])


@STEPS.step("killed")
def killed(fleet: Fleet, check: Checks) -> None:
    """The canary is mended. The upgrade of the second host is killed: no more batches."""
    before = fleet.runs
    victim = fleet.hosts[1]
    fleet.canary.mend_driver()
    victim.close_gate()
    with ThreadPoolExecutor(1) as worker:
        rolling = worker.submit(_roll_out_by_alert, fleet, "IsQuiet")
        try:
            os.kill(victim.upgrade_in_driver(), signal.SIGKILL)
        except BaseException:
            victim.open_gate()
            raise
        played = rolling.result()
    victim.open_gate()
    _plays(check, played, 2)
    check("an alert that does not fire holds up nobody", "Prometheus has" not in played.said)
    failed = played.having("failed")
    check("the second host failed, and no other", failed == {victim.host}, failed)
    check("it says what comes of it", "killed by SIGKILL: the next run of this task" in played.said)
    check("no later host was touched", fleet.runs[2:] == before[2:], fleet.runs)
    first = fleet.canary.upgrade_status()["verdict"]
    check("the first one is well", first == "well", first)


@STEPS.step("resumed")
def resumed(fleet: Fleet, check: Checks) -> None:
    """The next run goes on where that one ended."""
    before = fleet.runs
    played = fleet.roll_out()
    _plays(check, played)
    check("its driver was not replaced twice", fleet.runs[1] == before[1], fleet.runs)
    later = [was + 1 for was in before[2:]]
    check("those of the later batches were", fleet.runs[2:] == later, fleet.runs)
    check("that of the first was left alone", fleet.canary.host not in played.having("changed"))
    runs = [run["by"] for run in fleet.hosts[1].upgrade_status()["runs"]]
    check("the second host was resumed", runs == ["start", "resume"], runs)
    _all_well(fleet, check, {"well"})


@STEPS.step("again")
def again(fleet: Fleet, check: Checks) -> None:
    """A second run changes nothing."""
    before = fleet.runs
    played = fleet.roll_out()
    _plays(check, played)
    check("no host was changed", not played.having("changed"), played.recap)
    check("no driver was replaced", fleet.runs == before, fleet.runs)
    fleet.figures.append(f"again, with nothing to do: {played.seconds:.1f} s")


@STEPS.step("gate")
def gate(fleet: Fleet, check: Checks) -> None:
    """A pod of the second host is lost: no host after that is looked at, until it is back."""
    host = fleet.hosts[1]
    host.ip(host.pods[0], "link", "delete", "eth0")
    played = fleet.roll_out()
    _plays(check, played, 2)
    failed = played.having("failed")
    check("the second host failed, and no other", failed == {host.host}, failed)
    check("it says which pod", "Worse than it was: pod1@eth0." in played.said, played.said[-4000:])
    said = host.cli("repair", "--all")
    check("cni-repair repair --all: exit 0", said.returncode == 0, said.stdout)


@STEPS.step("roll-out")
def roll_out(fleet: Fleet, check: Checks) -> None:
    """The next driver: all of them, in four batches."""
    fleet.released += 1
    before = fleet.runs
    played = fleet.roll_out()
    _plays(check, played)
    count = len(fleet.hosts)
    batches = played.said.count("PLAY [Replace the driver]")
    check(f"in {BATCHES} batches", batches == BATCHES, batches)
    check("every driver was replaced once", fleet.runs == [was + 1 for was in before], fleet.runs)
    check("every host was changed", played.having("changed") == set(played.recap))
    _all_well(fleet, check, {"well"})
    seconds = played.seconds
    fleet.figures.append(
        f"{count} hosts in {batches} batches: {seconds:.1f} s, {seconds / count:.2f} s a host"
    )


@STEPS.step("uninstall")
def uninstall(fleet: Fleet, check: Checks) -> None:
    """Not while there are pods."""
    host = fleet.canary
    only = {**fleet.installation, "cni_repair_hosts": host.host}
    played = fleet.play("uninstall", **only)
    _plays(check, played, 2)
    check("it says why", "of living pods (pod1, pod2)" in played.said, played.said[-4000:])
    check("the command is still there", fleet.command.exists())
    for pod in host.pods:
        host.cni("DEL", pod, host.netconf())
    _plays(check, fleet.play("uninstall", **only))
    check("without pods it goes", not fleet.command.exists())
