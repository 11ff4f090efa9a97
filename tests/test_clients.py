"""The rig of integration/clients: what real clients of CNI have of a pod that was repaired."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import product
from integration.clients import rig
from integration.clients.story import CLIENTS
from integration.inside import SECONDS

_PREPARE_SECONDS = 900  # they may have to be downloaded, and one to be built
_SECONDS = _PREPARE_SECONDS + SECONDS + 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_SECONDS + 30)]

_RUN = Path(rig.__file__).with_name("run")


@dataclass(frozen=True)
class Told:
    """What one run of the rig told."""

    outcomes: dict[str, dict[str, Any]]
    stderr: str

    def of(self, name: str) -> dict[str, Any]:
        """What came of a client; the test is skipped where that could not be had."""
        left_out = [line for line in self.stderr.splitlines() if f"{name} is LEFT OUT: " in line]
        if left_out:
            pytest.skip(left_out[0])
        return self.outcomes[name]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One run serves all tests. (Not of an installed cni-repair: to install it takes long.)"""
    source = tmp_path_factory.mktemp("source")
    (source / "cni-repair").write_text(f"#!/bin/sh\nexec {shlex.join(product())}\n")
    install = f"#!/bin/sh\nmkdir $4\ninstall {source}/cni-repair $4\n"
    (source / "install.sh").write_text(install)
    (source / "install.sh").chmod(0o755)
    done = subprocess.run(
        [str(_RUN), "--json", f"--source={source}"],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode == rig.LEFT_OUT and not done.stdout:
        return Told({}, done.stderr)
    assert done.stdout, done.stderr
    return Told({one["scenario"]: one for one in json.loads(done.stdout)}, done.stderr)


@pytest.mark.parametrize("name", list(CLIENTS))
def test_pod_of_a_client(told: Told, name: str) -> None:
    outcome = told.of(name)
    failed = [check for check in outcome["checks"] if not check["holds"]]
    assert outcome["checks"]
    assert not failed, f"{failed}\n{outcome['kept_in']}\n{outcome['log']}"


def test_nothing_else_is_told(told: Told) -> None:
    """Of the node, say, which could not be made."""
    assert told.outcomes.keys() <= CLIENTS.keys(), told.outcomes


def test_client_that_cannot_be_had_is_left_out_with_the_reason() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(_RUN.parents[2])!r});"
        " from integration.clients import podman, rig;"
        " podman.unpacked = lambda *names: None; podman.run = lambda command: 'podman 5.4.2';"
        " podman.runtime.prepare = lambda: None;"
        " sys.argv[1:] = ['podman']; sys.exit(rig.main())"
    )
    done = subprocess.run(
        [sys.executable, "-IB", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (rig.LEFT_OUT, "")
    assert "podman is LEFT OUT: podman 5.4.2 has no CNI" in done.stderr


def test_client_that_is_not_known() -> None:
    done = subprocess.run([str(_RUN), "crio"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no client crio; there are cnitool, containerd, podman" in done.stderr
