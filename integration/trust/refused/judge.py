"""What a command may say, and answer, of which one system call failed."""

from __future__ import annotations

import json
from typing import Any

from cni_repair.base.errors import (
    BAD_CHECKPOINT,
    DAMAGED,
    INTERNAL,
    NO_CHECKPOINT,
    REFUSALS,
)
from cni_repair.demo.lab import Outcome
from cni_repair.network.planning import plan
from integration.trust.refused.situations import HOLDS

# Of a pod that is well, each of them is untrue, whatever could not be read.
_UNTRUE_CODES = frozenset({*REFUSALS, INTERNAL, BAD_CHECKPOINT, NO_CHECKPOINT, DAMAGED})
_UNTRUE_STATES = frozenset({plan.STALE, plan.FOREIGN, plan.RENAMED, plan.RELEASED, "gone"})
_UNTRUE_WORDS = ("Traceback", "a bug in", "report it", "not root", "rebooted", "another process")


def wrong_with(outcome: Outcome, answers: bool, is_plugin: bool) -> str:
    """What of an answer must not be; `answers`: it prints a document where it succeeds."""
    said = outcome.stdout + outcome.stderr
    for words in _UNTRUE_WORDS:
        if words in said:
            return f"says {words!r}: {_short(said)}"
    if outcome.returncode not in (0, 1):
        return f"exit status {outcome.returncode}: {_short(said)}"
    if outcome.returncode == 0:
        return _wrong_success(outcome, answers)
    if not outcome.stdout and not is_plugin:
        return HOLDS if outcome.stderr.strip() else "fails without a word"
    return _wrong_failure(outcome.stdout, is_plugin)


def _wrong_success(outcome: Outcome, answers: bool) -> str:
    if not answers:
        return f"succeeds, and prints {_short(outcome.stdout)}" if outcome.stdout else HOLDS
    document = _document(outcome.stdout)
    return HOLDS if document else f"succeeds, and prints {_short(outcome.stdout)}"


def _wrong_failure(stdout: str, is_plugin: bool) -> str:
    document = _document(stdout)
    if document is None:
        return f"not one JSON document: {_short(stdout)}"
    if is_plugin and not _is_error(document):
        return f"not an error object: {_short(stdout)}"
    for one in (document, *document.get("attachments", ())):
        error = one.get("error") or one
        if error.get("code") in _UNTRUE_CODES or one.get("state") in _UNTRUE_STATES:
            return f"untrue: {_short(json.dumps(one))}"
    return HOLDS


def _is_error(document: dict[str, Any]) -> bool:
    """As the SPEC has it ("Error")."""
    return (
        isinstance(document.get("cniVersion"), str)
        and type(document.get("code")) is int
        and isinstance(document.get("msg"), str)
    )


def _document(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _short(text: str) -> str:
    return " ".join(text.split())[-300:]
