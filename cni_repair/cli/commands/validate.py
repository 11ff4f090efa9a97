"""`validate`: configurations, checkpoints and upgrade plans against their published schemas."""

from __future__ import annotations

import json
import os
import sys
from importlib import resources

from cni_repair.base.errors import CniError
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.strictjson import load_configuration
from cni_repair.checkpoint import legacy, model
from cni_repair.checkpoint.store import is_legacy
from cni_repair.cli.common import DAMAGED, USAGE
from cni_repair.cni import netconf
from cni_repair.cni.conffile import plugins_in, read_file
from cni_repair.network.model import HostLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

_ENDS_OF_PLANS = (".yaml", ".yml")
_ANY_MASTER = (HostLink("any", 0, "", "", 0),)


def run(options: argparse.Namespace) -> int:
    """Print a line a file, and one an error; 1 if there is any, 2 if a file does not exist."""
    failed = False
    for path in options.files:
        try:
            kind, errors = _check(path)
        except CniError as error:
            kind, errors = "", [str(error)]
        for line in errors:
            print(line if path in line else f"{path}: {line}", file=sys.stderr)
        if not errors:
            print(f"{path}: a valid {kind}")
        failed = failed or bool(errors)
    if not all(map(os.path.exists, options.files)):
        return USAGE
    return DAMAGED if failed else 0


def _check(path: str) -> tuple[str, list[str]]:
    if path.lower().endswith(_ENDS_OF_PLANS):
        return _check_plan(path)
    raw = read_file(path)
    document = load_configuration(raw, path)
    if "schemaVersion" in document:
        return "checkpoint", _check_checkpoint(raw, document, os.path.basename(path))
    if "sandbox" in document and is_legacy(os.path.basename(path)):
        return "checkpoint of the predecessor's format", _check_legacy(raw, os.path.basename(path))
    return _check_conf(document)


def _check_plan(path: str) -> tuple[str, list[str]]:
    from cni_repair.upgrade.planfile import PlanError, check_command, read_plan

    kind = "upgrade plan"
    try:
        plan = read_plan(path)
    except PlanError as error:
        return kind, list(error.problems)
    # Said, not refused: plans are validated on laptops, too.
    missing = check_command(plan.driver.command)
    return f"{kind} (not on this machine: {missing})" if missing else kind, []


def _check_checkpoint(raw: bytes, document: dict[str, Any], name: str) -> list[str]:
    if document.get("schemaVersion") == model.SCHEMA_VERSION:
        errors = _against_schema(document, "cni_repair.checkpoint", "checkpoint.json", "$")
        if errors:
            return [f"{path}: {words}" for path, words, _ in errors]
    try:
        model.decode(raw, name)
    except CniError as error:
        return [error.details]
    return []


def _check_legacy(raw: bytes, name: str) -> list[str]:
    try:
        legacy.decode(raw, name, _ANY_MASTER)
    except CniError as error:
        return [error.details]
    return []


def _check_conf(document: dict[str, Any]) -> tuple[str, list[str]]:
    kind = "network configuration"
    try:
        plugins = plugins_in(document)
    except CniError as error:
        return kind, [str(error)]
    mine = [(path, plugin) for path, plugin in plugins if plugin.get("type") == OWN_TYPE]
    if not mine:
        return kind, [f"$: no plugin of type {OWN_TYPE!r} in it"]
    errors = [error for path, plugin in mine for error in _check_plugin(path, plugin)]
    if not errors:
        # A slip of the pen in a key of ours looks like a key of theirs.
        theirs = sorted({key for _, plugin in mine for key in netconf.keys_of_delegate(plugin)})
        kind += f" (passed on unchecked: {', '.join(theirs)})" if theirs else ""
    return kind, errors


def _check_plugin(path: str, plugin: dict[str, Any]) -> list[str]:
    try:
        netconf.check(plugin)
        sentence = ""
    except CniError as error:
        sentence = error.details or error.msg
    found = _against_schema(plugin, "cni_repair.cni", "netconf.json", path)
    # Of a choice, a schema can only say that nothing fits.
    errors = [
        f"{where}: {sentence if kind in ('anyOf', 'not', 'pattern') and sentence else words}"
        for where, words, kind in found
    ]
    return errors or ([f"{path}: {sentence}"] if sentence else [])


def _against_schema(
    document: dict[str, Any], package: str, name: str, root: str
) -> list[tuple[str, str, str]]:
    """(JSON path, what is wrong, the schema's keyword) of each error."""
    import jsonschema

    text = (resources.files(package) / "schema" / name).read_text(encoding="utf-8")
    validator = jsonschema.Draft202012Validator(
        json.loads(text), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    errors = sorted(validator.iter_errors(document), key=lambda error: error.json_path)
    return [
        (f"{root}{error.json_path[1:]}", _short(error.message), str(error.validator))
        for error in errors
    ]


def _short(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:200]}…"
