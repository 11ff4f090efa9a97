"""Records, against their published schema and by their own reader."""

from __future__ import annotations

import json
from importlib import resources

from cni_repair.base.errors import CniError
from cni_repair.checkpoint import legacy, model
from cni_repair.cli.validation.findings import Finding, error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REMEDY = "a record is not edited: cni-repair help checkpoints"


def check(raw: bytes, document: dict[str, Any], name: str) -> tuple[Finding, ...]:
    if document.get("schemaVersion") == model.SCHEMA_VERSION:
        found = _against_schema(document)
        if found:
            return found
    try:
        model.decode(raw, name)
    except CniError as refused:
        return (error("", refused.details, _REMEDY),)
    return ()


def check_legacy(raw: bytes, name: str) -> tuple[Finding, ...]:
    try:
        legacy.decode(raw, name, legacy.ANY_MASTER)
    except CniError as refused:
        return (error("", refused.details, _REMEDY),)
    return ()


def _against_schema(document: dict[str, Any]) -> tuple[Finding, ...]:
    import jsonschema

    place = resources.files("cni_repair.checkpoint") / "schema" / "checkpoint.json"
    validator = jsonschema.Draft202012Validator(
        json.loads(place.read_text(encoding="utf-8")),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    errors = sorted(validator.iter_errors(document), key=lambda found: found.json_path)
    return tuple(error(found.json_path, _short(found.message), _REMEDY) for found in errors)


def _short(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:200]}…"
