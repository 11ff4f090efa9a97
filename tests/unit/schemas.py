"""Published schemas, with a validator that reads patterns as their users' tools do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema


def _pattern(
    _: object, pattern: str, instance: object, __: object
) -> Iterator[jsonschema.ValidationError]:
    """`pattern` as ECMA-262 has it, where `$` does not match before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def schema_of(package: str, name: str) -> Any:
    return json.loads((resources.files(package) / "schema" / name).read_text(encoding="utf-8"))


def validator_of(schema: Any) -> Any:
    strict = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft202012Validator, {"pattern": _pattern}
    )
    return strict(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
