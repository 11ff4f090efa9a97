"""The bill of materials, of the environment that the tests run in."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from cni_repair.cli import sbom
from tests.unit.samples import REPOSITORY


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with cni-repair and two more, by their metadata alone."""
    put(tmp_path, "cni_repair", "0.1.0", "License-Expression: Apache-2.0", "Requires-Dist: A.Lib<3")
    put(
        tmp_path,
        "a_lib",
        "2.0",
        "Classifier: License :: OSI Approved :: MIT License",
        "Requires-Dist: b>=1; python_version >= '3'",
        "Requires-Dist: c; extra == 'more'",
        "Requires-Dist: nowhere",
    )
    put(tmp_path, "b", "1.5")
    put(tmp_path, "c", "1")
    monkeypatch.setattr(metadata, "distributions", lambda: found(tmp_path))
    return tmp_path


def put(directory: Path, name: str, version: str, *more: str) -> None:
    about = directory / f"{name}-{version}.dist-info"
    about.mkdir()
    lines = ("Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *more, "")
    (about / "METADATA").write_text("\n".join(lines))


def found(directory: Path) -> list[metadata.Distribution]:
    return [*metadata.MetadataPathFinder.find_distributions(path_context(directory))]


def path_context(directory: Path) -> Any:
    return metadata.DistributionFinder.Context(path=[str(directory)])


def test_what_is_there(environment: Path) -> None:
    bill = sbom.bill()
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    about = bill["metadata"]["component"]
    assert (about["type"], about["name"], about["version"]) == (
        "application",
        "cni-repair",
        "0.1.0",
    )
    assert about["licenses"] == [{"expression": "Apache-2.0"}]
    names = {one["name"]: one["version"] for one in bill["components"]}
    python = sys.implementation.name
    assert {name for name in names if name.lower() != python} == {"a-lib", "b", "c"}
    (lib,) = (one for one in bill["components"] if one["name"] == "a-lib")
    assert lib["purl"] == lib["bom-ref"] == "pkg:pypi/a-lib@2.0"
    assert lib["licenses"] == [{"license": {"name": "MIT License"}}]


def test_who_needs_whom(environment: Path) -> None:
    needs = {one["ref"]: one["dependsOn"] for one in sbom.bill()["dependencies"]}
    assert needs == {
        "pkg:pypi/cni-repair@0.1.0": ["pkg:pypi/a-lib@2.0"],
        "pkg:pypi/a-lib@2.0": ["pkg:pypi/b@1.5"],
        "pkg:pypi/b@1.5": [],
        "pkg:pypi/c@1": [],
    }


def test_same_contents_have_the_same_number(environment: Path) -> None:
    first = sbom.bill()
    assert sbom.bill() == first
    put(environment, "d", "1")
    assert sbom.bill()["serialNumber"] != first["serialNumber"]


def test_it_is_printed(environment: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cni_repair.cli.sbom"],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(environment)},
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout)
    assert {"a-lib", "b", "c"} <= {one["name"] for one in document["components"]}
