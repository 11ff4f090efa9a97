#!/usr/bin/python
# The hosts' own Python runs this, 3.8 or later; cni-repair itself is asked by its command alone.
from __future__ import annotations

DOCUMENTATION = r"""
---
module: cni_repair_upgrade
short_description: Replace a node's NIC driver under its pods
description:
  - Runs C(cni-repair upgrade) by a plan, and tells what came of it.
  - Does nothing where the last upgrade of the node was by a plan of the same meaning, ended well,
    and the cards are still served by the driver that it left.
  - Goes on with an upgrade that was cut short, or that left pods unrepaired, before it looks
    whether there is anything else to do.
  - Waits for one that is at work.
options:
  plan:
    description:
      - The upgrade's plan, as a mapping; or the path of a file on the node.
      - C(cni-repair help upgrade) and C(conf/upgrade.yaml) explain its keys.
    type: raw
    required: true
  driver_version:
    description:
      - The version that every card of the pods must be served by in the end, as C(ethtool -i) shows
        it.
      - Nothing is done where it is so already. Where it is not so after an upgrade, that is a
        failure.
    type: str
  resume:
    description: Whether to go on with an upgrade that was cut short; without, that is a failure.
    type: bool
    default: true
  force:
    description: Whether to upgrade although it was done already.
    type: bool
    default: false
  foreground:
    description:
      - Whether the upgrade is a process of this task, not a unit of systemd's own.
      - For nodes without systemd. Whatever ends the task then ends the upgrade.
    type: bool
    default: false
  arguments:
    description: Further options of C(cni-repair upgrade PLAN), such as V(--no-kubelet).
    type: list
    elements: str
    default: []
  executable:
    description: The command, by its path, or by its name.
    type: str
    default: cni-repair
  wait:
    description: For how many seconds to wait for an upgrade that is at work already.
    type: int
    default: 900
requirements:
  - cni-repair on the node (the role C(cni_repair) installs it)
attributes:
  check_mode:
    support: full
    description: Does C(cni-repair upgrade --dry-run); a problem that it finds is a failure.
  diff_mode:
    support: full
author:
  - cni-repair
"""

EXAMPLES = r"""
- name: Replace the driver
  cni_repair_upgrade:
    plan:
      version: 1
      driver:
        command: [/usr/local/sbin/upgrade-i40e, --yes]
      kubelet: none
  async: 1800 # the connection may run over the NIC that is about to vanish
  poll: 5

- name: By a file of the node, until the cards have this version
  cni_repair_upgrade:
    plan: /etc/cni-repair/upgrade.yaml
    driver_version: 2.25.9
"""

RETURN = r"""
action:
  description: What was done, or, in check mode, would be.
  returned: always
  type: str
  choices: [none, upgraded, resumed]
plan_digest:
  description: Of the plan's meaning; the same for all that differ in comments and order alone.
  returned: success
  type: str
  sample: sha256:ae4b1199527f53a11eba3cdc60018b15900ba5216f47760243631243ee80186d
verdict:
  description: How the node's last upgrade has ended; V(healed) is well, by a resume.
  returned: where there was one
  type: str
  choices: [well, healed, failed, given-up, refused]
drivers:
  description: What served each card before that upgrade, after it, and serves it now.
  returned: where an upgrade was begun
  type: list
  elements: dict
  sample:
    - link: eth0
      before: {name: i40e, version: 2.8.20, firmware: ""}
      after: {name: i40e, version: 2.25.9, firmware: ""}
      now: {name: i40e, version: 2.25.9, firmware: ""}
phases:
  description: The phases that came to their end, with what came of each.
  returned: where an upgrade was begun
  type: list
  elements: dict
runs:
  description: The upgrade's start, each resume and its giving up, with what failed in each.
  returned: where an upgrade was begun
  type: list
  elements: dict
summary:
  description: How many attachments there are of each state.
  returned: where an upgrade was begun
  type: dict
longest_outage_ms:
  description: For how long a pod was without its network, of the one that was so for the longest.
  returned: where a pod was
  type: int
out_of_order:
  description:
    - The attachments, CONTAINERID@IFNAME, that did not pass when the node was measured last.
    - After an upgrade that ended well those are no worse than before.
  returned: success
  type: list
  elements: str
steps:
  description: What would be done, for people.
  returned: in check mode, where something would
  type: list
  elements: str
findings:
  description: What is in the way.
  returned: where the preflight fails
  type: list
  elements: str
ansible_facts:
  description: V(cni_repair_upgrade), with digest, verdict and drivers of the last upgrade.
  returned: success
  type: dict
"""

import json  # noqa: E402 - Ansible has its documents first
import os  # noqa: E402
import signal  # noqa: E402
import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

# Exit statuses of `cni-repair upgrade`.
FINE = 0
USAGE = 2
REFUSED = 3
ENDED_WELL = ("well", "healed")
# Where the command is looked for beyond PATH: sudo's is short.
DIRECTORIES = ["/usr/local/sbin", "/usr/local/bin", "/opt/cni/bin"]
POLL_SECONDS = 1.0

ARGUMENTS = {
    "plan": {"type": "raw", "required": True},
    "driver_version": {"type": "str"},
    "resume": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
    "foreground": {"type": "bool", "default": False},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "executable": {"type": "str", "default": "cni-repair"},
    "wait": {"type": "int", "default": 900},
}


class Upgrade:
    """One task on one node."""

    def __init__(self, module):
        self.module = module
        self.wanted = module.params
        self.command = module.get_bin_path(self.wanted["executable"], opt_dirs=DIRECTORIES)
        if self.command is None:
            self.fail(
                f"{self.wanted['executable']} is not on this node: install it (role cni_repair),"
                " or name it by its path"
            )
        self.plan = self.plan_file()
        self.digest = self.digest_of_plan()
        self.resumed = False

    def run(self):
        report = self.settled()
        before = report
        if is_unfinished(report):
            report = self.resume(report)
        if self.is_done(report):
            self.end(before, report, "resumed" if self.resumed else "none")
        if self.module.check_mode:
            self.dry_run(before, report)
        self.end(before, self.start(), "upgraded")

    # --- What there is ---

    def plan_file(self):
        """The plan as a file of the node's; YAML knows JSON."""
        plan = self.wanted["plan"]
        if not plan:
            self.fail(
                "plan: there is none: write a mapping, or the path of a file of this node's (the"
                " role's cni_repair_plan; cni-repair help upgrade explains it)"
            )
        if isinstance(plan, str):
            if not os.path.isfile(plan):
                self.fail(f"plan: {plan} is no file of this node's: write a mapping, or a path")
            return plan
        if not isinstance(plan, dict):
            self.fail("plan: neither a mapping nor the path of a file")
        path = os.path.join(self.module.tmpdir, "plan.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(plan, file)
        return path

    def digest_of_plan(self):
        status, out, err = self.call("validate", "-o", "json", self.plan)
        parts = [part for file in self.document(out, err)["files"] for part in file["parts"]]
        digests = [part.get("planDigest") for part in parts]
        if status == FINE and len(digests) == 1 and digests[0]:
            return digests[0]
        problems = [problem["message"] for part in parts for problem in part["problems"]]
        if status == FINE and not any(digests):
            problems = ["no upgrade plan, or cni-repair on this node is too old for this module"]
        return self.fail(f"plan: {'; '.join(problems)}", findings=problems)

    def status(self):
        _, out, err = self.call("upgrade", "--status", "-o", "json")
        report = self.document(out, err)
        if "planDigest" not in report:
            self.fail("cni-repair on this node is too old for this module: install a later one")
        return report

    def settled(self):
        """The report on the last upgrade, once none is at work."""
        until = time.monotonic() + self.wanted["wait"]
        report = self.status()
        while report["standing"] == "running":
            if time.monotonic() >= until:
                self.fail(f"another upgrade is still at work after {self.wanted['wait']} s", report)
            time.sleep(POLL_SECONDS)
            report = self.status()
        return report

    def is_done(self, report):
        """Whether the node is what the plan makes of it."""
        if self.wanted["force"]:
            return False
        is_this_plan = (
            report["planDigest"] == self.digest
            and report["verdict"] in ENDED_WELL
            and all(phase["ok"] for phase in report["phases"])
        )
        cards = report["drivers"] if is_this_plan else []
        version = self.wanted["driver_version"]
        if version is None:
            return is_this_plan and all(card["now"] == card["after"] for card in cards)
        if not cards:  # somebody else may have replaced it
            _, cards = self.preflight()
            report["comparison"] = self.tried["comparison"]
        return bool(cards) and not other_versions(cards, version)

    # --- What is done ---

    def resume(self, report):
        if not self.wanted["resume"]:
            self.fail(
                "the last upgrade was cut short, or left pods unrepaired: cni-repair upgrade"
                " --status shows it; go on with --resume, or give it up with --release",
                report,
            )
        if self.module.check_mode:
            left = ", ".join(report["remaining"])
            self.end(report, report, "resumed", msg=f"would go on with the last upgrade: {left}")
        words = ["--foreground"] if self.wanted["foreground"] else []
        status, out, err = self.call("upgrade", "--resume", "-o", "json", *words)
        self.resumed = True
        if status != FINE:
            self.fail_by(status, out, err, "it was resumed, and ")
        return self.document(out, err)

    def preflight(self):
        """The findings of a dry run, and the cards."""
        words = [word for word in self.wanted["arguments"] if word != "--yes"]
        status, out, err = self.call("upgrade", "--dry-run", "-o", "json", *words, self.plan)
        if status not in (FINE, REFUSED):
            self.fail_by(status, out, err)
        self.tried = self.document(out, err)
        return self.tried["findings"], self.tried["drivers"]

    def dry_run(self, before, report):
        findings, cards = self.preflight()
        if findings:
            self.fail(f"preflight: {'; '.join(findings)}", findings=findings)
        after = {**report, "drivers": cards}
        after["comparison"] = self.tried["comparison"]
        self.end(before, after, "upgraded", steps=self.tried["steps"])

    def start(self):
        words = ["--yes", *(["--foreground"] if self.wanted["foreground"] else [])]
        words += self.wanted["arguments"]
        status, out, err = self.call("upgrade", "-o", "json", *words, self.plan)
        if status != FINE:
            self.fail_by(status, out, err)
        report = self.document(out, err)
        version = self.wanted["driver_version"]
        wrong = other_versions(report["drivers"], version) if version else []
        if wrong:
            self.fail(f"the upgrade ended well, but {'; '.join(wrong)}, not {version}", report)
        return report

    # --- The command ---

    def call(self, *words):
        return self.module.run_command([self.command, *words], environ_update={"LC_ALL": "C.UTF-8"})

    def document(self, out, err):
        try:
            return json.loads(out)
        except ValueError:
            return self.fail(
                f"{self.command} printed no JSON: {said(err) or out[-500:] or 'nothing'}"
            )

    # --- The end ---

    def fail_by(self, status, out, err, first=""):
        """Fail by what a start or a resume has said."""
        try:
            report = json.loads(out)
        except ValueError:
            report = None
        if status == REFUSED:
            problems = [said(err)] if err.strip() else failures(report)
            self.fail(f"{first}refused, nothing was touched: {'; '.join(problems)}", report)
        if status == USAGE:
            self.fail(f"{first}{said(err)}", report)
        if status < 0:
            self.fail(
                f"{first}cni-repair was killed by {signal.Signals(-status).name}: the next run of"
                " this task goes on with the upgrade",
                self.status(),
            )
        why = "; ".join(failures(report)) or said(err)
        self.fail(f"{first}FAILED: {why}", report)

    def fail(self, words, report=None, **more):
        self.module.fail_json(
            msg=words, changed=bool(getattr(self, "resumed", False)), **facts(report), **more
        )

    def end(self, before, after, action, **more):
        told = facts(after)
        known = {"digest": after["planDigest"], "verdict": after["verdict"]}
        known["drivers"] = after["drivers"]
        self.module.exit_json(
            changed=action != "none",
            action=action,
            plan_digest=self.digest,
            out_of_order=out_of_order(after),
            diff={"before": self.shown(before, "before"), "after": self.shown(after, action)},
            ansible_facts={"cni_repair_upgrade": known},
            **told,
            **more,
        )

    def shown(self, report, moment):
        """A node as `--diff` shows it: by what upgrade, with what driver."""
        is_planned = self.module.check_mode and moment == "upgraded"
        digest = self.digest if is_planned else report["planDigest"]
        verdict = "planned" if is_planned else report["verdict"]
        lines = [f"plan: {digest}", f"verdict: {verdict}"]
        key = "before" if moment == "before" and report["standing"] == "none" else "now"
        for card in report["drivers"]:
            driver = card[key]
            version = self.wanted["driver_version"] if is_planned else None
            lines.append(f"{card['link']}: {in_words(driver, version)}")
        return "\n".join(lines) + "\n"


def is_unfinished(report):
    """Whether the driver was touched, or the kubelet is held, and somebody has to go on."""
    if report["standing"] not in ("cut-short", "ended") or not report["remaining"]:
        return False
    if report["verdict"] in ("refused", "given-up", *ENDED_WELL):
        return False
    touched = "driver" in [phase["phase"] for phase in report["phases"]] + [report["current"]]
    return touched or bool(report["kubelet"] and report["kubelet"]["held"])


def out_of_order(report):
    """The attachments that did not pass when they were looked at last."""
    measured = [
        (f"{one['containerID']}@{one['ifname']}", one["after"] or one["before"])
        for one in report["comparison"]["attachments"]
    ]
    return [name for name, facts in measured if facts and not facts["passed"]]


def other_versions(cards, version):
    """The cards that another version serves now, in words."""
    drivers = [(card["link"], card["now"]) for card in cards]
    return [
        f"{link} has {in_words(driver)}"
        for link, driver in drivers
        if driver is None or driver["version"] != version
    ]


def in_words(driver, version=None):
    if driver is None:
        return "no driver"
    firmware = f" (firmware {driver['firmware']})" if driver["firmware"] else ""
    return f"{driver['name']} {version or driver['version']}{firmware}"


def failures(report):
    """The phases that failed, with why."""
    phases = report["phases"] if report else []
    return [f"{phase['phase']}: {phase['words']}" for phase in phases if not phase["ok"]]


def facts(report):
    """What is told of an upgrade; `cni-repair upgrade --status` on the node has each pod, too."""
    if report is None or report["standing"] == "none":
        return {}
    told = {key: report[key] for key in ("verdict", "standing", "drivers", "phases", "runs")}
    outages = [pod["outageMs"] for pod in report["attachments"] if pod["outageMs"] is not None]
    if outages:
        told["longest_outage_ms"] = max(outages)
    return {**told, "summary": report["summary"], "remaining": report["remaining"]}


def said(err):
    return " ".join(err.split())[-1000:]


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    Upgrade(module).run()


if __name__ == "__main__":
    main()
