"""The rig of integration/clients: what real clients of CNI have of a pod that was repaired."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from integration.clients import rig
from integration.clients.story import CLIENTS
from integration.command import LEFT_OUT
from integration.inside import SECONDS
from tests.rigs import Json, assert_holds, call_changed, call_rig, outcomes_in, write_source

_PREPARE_SECONDS = 900  # they may have to be downloaded, and one to be built
_SECONDS = _PREPARE_SECONDS + SECONDS + 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_SECONDS + 30)]


@dataclass(frozen=True)
class Told:
    """What one run of the rig told."""

    outcomes: dict[str, Json]
    stderr: str

    def of(self, name: str) -> Json:
        """What came of a client; the test is skipped where that could not be had."""
        left_out = [line for line in self.stderr.splitlines() if f"{name} is LEFT OUT: " in line]
        if left_out:
            pytest.skip(left_out[0])
        return self.outcomes[name]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One run serves all tests. (Not of an installed cni-repair: to install it takes long.)"""
    source = write_source(tmp_path_factory.mktemp("source"))
    done = call_rig(rig, "--json", f"--source={source}", seconds=_SECONDS)
    if done.returncode == LEFT_OUT and not done.stdout:
        return Told({}, done.stderr)
    return Told(outcomes_in(done.stdout, done.stderr), done.stderr)


@pytest.mark.parametrize("name", list(CLIENTS))
def test_pod_of_a_client(told: Told, name: str) -> None:
    assert_holds(told.of(name))


def test_nothing_else_is_told(told: Told) -> None:
    """Of the node, say, which could not be made."""
    assert told.outcomes.keys() <= CLIENTS.keys(), told.outcomes


def test_client_that_cannot_be_had_is_left_out_with_the_reason() -> None:
    change = (
        "from integration.clients import podman;"
        " podman.unpacked = lambda *names: None; podman.run = lambda command: 'podman 5.4.2';"
        " podman.runtime.prepare = lambda: None"
    )
    done = call_changed(rig, change, "podman")
    assert (done.returncode, done.stdout) == (LEFT_OUT, "")
    assert "podman is LEFT OUT: podman 5.4.2 has no CNI" in done.stderr


def test_client_that_is_not_known() -> None:
    done = call_rig(rig, "crio")
    assert done.returncode == 2
    assert "no client crio; there are cnitool, containerd, podman" in done.stderr
