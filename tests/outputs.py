"""The documents that commands print with `-o json`, and REPAIR: their published schemas."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

SCHEMAS = Path(__file__).resolve().parents[1] / "cni_repair" / "cli" / "schema"
# The plan that a report quotes has its schema where the plans are read.
_PLAN = SCHEMAS.parents[1] / "upgrade" / "schema" / "upgrade.json"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


@functools.cache
def _registry() -> Registry[Any]:
    """All schemas, by their places: they refer to each other by relative paths."""
    paths = [*sorted(SCHEMAS.glob("*.json")), _PLAN]
    return Registry().with_resources(
        (path.as_uri(), Resource.from_contents(json.loads(path.read_text(encoding="utf-8"))))
        for path in paths
    )


@functools.cache
def _validator(name: str) -> Any:
    place = {"$ref": (SCHEMAS / name).as_uri()}
    return jsonschema.Draft202012Validator(place, registry=_registry())


def mistakes_in(document: object, name: str) -> list[str]:
    """Where a document is not as its schema says, and why."""
    found = sorted(_validator(name).iter_errors(document), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


def is_valid(document: object, name: str) -> bool:
    return bool(_validator(name).is_valid(document))


def schema_for(words: tuple[str, ...]) -> str:
    """The schema of what a command line (without `cni-repair`) prints as JSON."""
    command = words[0]
    if command == "upgrade" and "--dry-run" in words:
        return "upgrade-dry-run.json"
    return f"{command}.json"


def reason_of(entry: dict[str, Any]) -> str:
    """All that a document says of one attachment, or of one file, in one line."""
    error = entry.get("error")
    words = [f"{error['msg']}: {error['details']}"] if error else []
    return "; ".join([*entry["findings"], *entry.get("notes", []), *words])
