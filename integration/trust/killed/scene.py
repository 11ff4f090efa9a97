"""What an act is done to."""

from __future__ import annotations

from dataclasses import dataclass, field

from cni_repair.demo.lab import Netns
from integration.trust.killed.stage import Picture, Stage


@dataclass
class Scene:
    """Pods on a stage, and how they are to be afterwards."""

    stage: Stage
    pods: list[Netns]
    exact: Picture = field(default_factory=dict)  # to be as it was, to the index
