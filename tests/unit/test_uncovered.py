"""Which runtime's entry an interface without a record is of."""

from __future__ import annotations

import json
from pathlib import Path

from cni_repair.adoption.uncovered import uncovered
from cni_repair.node.context import Node
from cni_repair.node.discovery import Unmanaged


def test_two_namespaces_that_are_gone_are_not_one(tmp_path: Path) -> None:
    """One that went while it was looked at is not the pod whose entry is left of another."""
    results = tmp_path / "results"
    results.mkdir(0o700)
    entry = {
        "kind": "cniCacheV1", "containerId": "c1", "ifName": "eth0", "networkName": "pods",
        "netns": "/nonexistent/one", "config": "", "result": {"cniVersion": "1.0.0"},
    }  # fmt: skip
    file = results / "pods-c1-eth0"
    file.write_text(json.dumps(entry))
    file.chmod(0o600)
    stray = Unmanaged("/nonexistent/other", "eth0", "eth0")
    with Node() as node:
        found = uncovered(node, [stray], [], lambda plugin: "", [str(tmp_path)])
    assert found.unmanaged == (stray,)
