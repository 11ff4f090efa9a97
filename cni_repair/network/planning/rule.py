"""Planning the policy rules that concern a pod's interface. Pure."""

from __future__ import annotations

from cni_repair.network.model import Attachment
from cni_repair.network.observed import Observed
from cni_repair.network.operations.rule import AddRule
from cni_repair.network.planning.drift import Drift


def rule_drifts(desired: Attachment, observed: Observed) -> list[Drift]:
    """Rules that are missing. They outlive the link: those still there must not come twice."""
    there = set(observed.rules)
    steps = [AddRule(rule) for rule in desired.rules if rule not in there]
    return [Drift(f"rule {step.words} is missing", step) for step in steps]
