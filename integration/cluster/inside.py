"""On the private machine: makes the cluster, plays the story, and tells what came of each step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cni_repair.demo.lab import LabError
from integration.cluster.cluster import Cluster
from integration.cluster.overlay import Images
from integration.cluster.story import NODES, STEPS, Story
from integration.driver.checks import TooLate
from integration.driver.report import Outcome
from integration.inside import tell
from integration.steps import not_there, run_steps

SECONDS = 1500

_LOG_CHARACTERS = 20_000


def main(directory: str, cgroup: str) -> None:
    """Play it with the images that are in that directory, in a cgroup of that name."""
    tell(_outcomes(Images.read(Path(directory)), Path(directory), cgroup), SECONDS)


def _outcomes(images: Images, directory: Path, cgroup: str) -> Iterator[Outcome]:
    try:
        with Cluster(NODES, cgroup) as cluster, Story(cluster, images, directory) as story:
            yield from run_steps(STEPS, story, partial(_look_at, cluster))
    except (LabError, TooLate) as error:
        yield not_there("node", error)


def _look_at(cluster: Cluster) -> dict[str, str]:
    """What people need to know of a failure."""
    evidence = {name: log[-_LOG_CHARACTERS:] for name, log in cluster.logs.items()}
    for what in ("nodes", "pods", "daemonsets"):
        evidence[what] = _asked(cluster, "describe", what, "--all-namespaces")
    evidence["events"] = _asked(cluster, "get", "events", "--all-namespaces")
    return evidence


def _asked(cluster: Cluster, *words: str) -> str:
    try:
        return cluster.control.kubectl(*words)
    except LabError as error:
        return str(error)
