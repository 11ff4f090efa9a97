"""`validate`: configurations and checkpoints against their published schemas."""

from __future__ import annotations

import json
import os
import sys
from importlib import resources

from cni_repair.checkpoint import model, seed
from cni_repair.checkpoint.store import is_seed
from cni_repair.cni import netconf
from cni_repair.cni.conffile import load_file, plugins_in
from cni_repair.errors import CniError
from cni_repair.network.state import HostLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ANY_MASTER = (HostLink("any", 0, "", "", 0),)


def validate(files: list[str]) -> int:
    """Print a line a file, and one an error; 1 if there is any."""
    failed = False
    for path in files:
        try:
            kind, errors = _check(path)
        except CniError as error:
            kind, errors = "", [str(error)]
        for line in errors:
            print(line if path in line else f"{path}: {line}", file=sys.stderr)
        if not errors:
            print(f"{path}: a valid {kind}")
        failed = failed or bool(errors)
    return 1 if failed else 0


def _check(path: str) -> tuple[str, list[str]]:
    raw, document = load_file(path)
    if "schemaVersion" in document:
        return "checkpoint", _check_checkpoint(raw, document, os.path.basename(path))
    if "sandbox" in document and is_seed(os.path.basename(path)):
        return "checkpoint of the seed's format", _check_seed(raw, os.path.basename(path))
    return "network configuration", _check_conf(document)


def _check_checkpoint(raw: bytes, document: dict[str, Any], name: str) -> list[str]:
    errors = _against_schema(document, "cni_repair.checkpoint", "checkpoint.json", "$")
    if not errors:
        try:
            model.decode(raw, name)
        except CniError as error:
            errors.append(error.details)
    return errors


def _check_seed(raw: bytes, name: str) -> list[str]:
    try:
        seed.decode(raw, name, _ANY_MASTER)
    except CniError as error:
        return [error.details]
    return []


def _check_conf(document: dict[str, Any]) -> list[str]:
    try:
        plugins = plugins_in(document)
    except CniError as error:
        return [str(error)]
    mine = [(path, plugin) for path, plugin in plugins if plugin.get("type") == netconf.OWN_TYPE]
    if not mine:
        return [f"$: no plugin of type {netconf.OWN_TYPE!r} in it"]
    errors = []
    for path, plugin in mine:
        found = _against_schema(plugin, "cni_repair.cni", "netconf.json", path)
        if not found:
            try:
                netconf.check(plugin)
            except CniError as error:
                found = [f"{path}: {error.details or error.msg}"]
        errors += found
    return errors


def _against_schema(document: dict[str, Any], package: str, name: str, root: str) -> list[str]:
    import jsonschema

    text = (resources.files(package) / "schema" / name).read_text(encoding="utf-8")
    validator = jsonschema.Draft202012Validator(
        json.loads(text), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    errors = sorted(validator.iter_errors(document), key=lambda error: error.json_path)
    return [f"{root}{error.json_path[1:]}: {_short(error.message)}" for error in errors]


def _short(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:200]}…"
