"""What an installation consists of: a software bill of materials, in CycloneDX's JSON.

    python3 -I -m cni_repair.cli.sbom

It tells what is there, by the metadata of the environment that it runs in: not what was asked for.
The same installation gives the same document: it has no time, and its serial number is made of it.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import uuid
from importlib import metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NAME = "cni-repair"
_LICENSE_CLASSIFIER = "License :: OSI Approved :: "
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OURS = uuid.UUID("5b0a4f1c-6e0d-4a55-9d3a-2f6f0c1b7e44")  # a name space for serial numbers


def bill(with_interpreter: bool = True, brought: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The document for this environment.

    Without the interpreter where that is the node's own; with the components of what is `brought`
    along beside Python packages.
    """
    found = {_normal(one.name): one for one in metadata.distributions()}
    about = [_component(found[name]) for name in sorted(found) if name != _NAME]
    about += brought
    if with_interpreter:
        about.append(_interpreter())
    contents: dict[str, Any] = {
        "metadata": {"component": {**_component(found[_NAME]), "type": "application"}},
        "components": about,
        "dependencies": [
            {"ref": _reference(found[name]), "dependsOn": _depends_on(found[name], found)}
            for name in sorted(found)
        ],
    }
    serial = uuid.uuid5(_OURS, json.dumps(contents, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **contents,
    }


def _normal(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _reference(one: metadata.Distribution) -> str:
    """Its package URL, which is its name in the document, too."""
    return f"pkg:pypi/{_normal(one.name)}@{one.version}"


def _component(one: metadata.Distribution) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": _reference(one),
        "name": _normal(one.name),
        "version": one.version,
        "purl": _reference(one),
        "licenses": _licenses(one.metadata),
    }


def _licenses(about: metadata.PackageMetadata) -> list[dict[str, Any]]:
    """By the SPDX expression (PEP 639), where the package has one; else by its classifiers."""
    if "License-Expression" in about:
        return [{"expression": about["License-Expression"]}]
    classifiers = about.get_all("Classifier") or []
    names = (one.removeprefix(_LICENSE_CLASSIFIER) for one in classifiers if _is_license(one))
    return [{"license": {"name": name}} for name in names]


def _is_license(classifier: str) -> bool:
    return classifier.startswith(_LICENSE_CLASSIFIER)


def _depends_on(one: metadata.Distribution, found: dict[str, metadata.Distribution]) -> list[str]:
    """What of the environment a distribution requires, but for its extras."""
    names = set()
    for requirement in one.requires or []:
        match = _REQUIREMENT.match(requirement)
        if match and "extra ==" not in requirement:
            names.add(_normal(match[0]))
    return sorted(_reference(found[name]) for name in names & found.keys())


def _interpreter() -> dict[str, Any]:
    """Of the distribution, which an installation runs by, and does not bring along."""
    version = platform.python_version()
    return {
        "type": "platform",
        "bom-ref": f"python@{version}",
        "name": platform.python_implementation(),
        "version": version,
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=2)
    print()
