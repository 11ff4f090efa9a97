"""`validate`: the files that people edit, and records."""

from __future__ import annotations

import os
import sys

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.strictjson import dumps
from cni_repair.cli.common import DAMAGED, USAGE
from cni_repair.cli.printable import say
from cni_repair.cli.validation.configurations import CONFIGURATION
from cni_repair.cli.validation.files import check_file
from cni_repair.cli.validation.findings import (
    ERROR,
    NOTE,
    SEVERITIES,
    WARNING,
    Finding,
    Part,
    error,
    note,
)
from cni_repair.cli.validation.machine import this_machine
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.node.report import DOCUMENT_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


@frozen
class File:
    """A file, and its parts."""

    path: str
    parts: tuple[Part, ...]
    is_absent: bool = False

    def count(self, severity: str) -> int:
        return sum(part.counts(severity) for part in self.parts)

    def document(self) -> dict[str, Any]:
        return {"file": self.path, "parts": [part.document() for part in self.parts]}


def run(options: argparse.Namespace) -> int:
    """Say what is found; 1 if anything is wrong, 2 for a file that does not exist."""
    files = _with_shared_names([_file(path) for path in options.files])
    if options.output == "json":
        print(dumps(document(files)))
    else:
        for file in files:
            _show(file)
    if any(file.is_absent for file in files):
        return USAGE
    fails = (ERROR, WARNING) if options.strict else (ERROR,)
    return DAMAGED if any(file.count(severity) for file in files for severity in fails) else 0


def _file(path: str) -> File:
    try:
        return File(path, tuple(check_file(path, this_machine())))
    except OSError as refused:
        absent = isinstance(refused, (FileNotFoundError, NotADirectoryError))
        if absent:
            remedy = "name a file that is there"
        elif isinstance(refused, IsADirectoryError):
            remedy = f"name its files: {quoted(path.rstrip('/'))}/*"
        else:
            remedy = "name a file that can be read"
        said = error("", f"cannot be read: {refused.strerror or refused}", remedy)
        return File(path, (Part(0, "file", (said,)),), absent)


def _with_shared_names(files: list[File]) -> list[File]:
    """The files, with a note where a runtime would find two networks of one name in a directory."""
    first: dict[tuple[str, str], str] = {}
    for file in sorted(files, key=lambda one: one.path):
        for part in file.parts:
            if part.kind == CONFIGURATION and part.name:
                first.setdefault((os.path.dirname(file.path), part.name), file.path)

    def noted(file: File, part: Part) -> Part:
        other = first.get((os.path.dirname(file.path), part.name), file.path)
        if part.kind != CONFIGURATION or other == file.path:
            return part
        said = note(
            "$.name",
            f"{os.path.basename(other)} has that name, too",
            "rename or remove one of them: who looks for a network by its name takes one",
        )
        return replace(part, findings=(*part.findings, said))

    return [replace(file, parts=tuple(noted(file, part) for part in file.parts)) for file in files]


def document(files: list[File]) -> dict[str, Any]:
    counts = {f"{one}s": sum(file.count(one) for file in files) for one in SEVERITIES}
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "files": [file.document() for file in files],
        "summary": {"files": len(files), **counts},
    }


def _show(file: File) -> None:
    """A line a part, and one a finding: what is wrong on stderr."""
    for part in file.parts:
        where = _place(file, part)
        for finding in _by_severity(part, ERROR, WARNING):
            say(f"{where}: {finding}", sys.stderr)
        if not part.counts(ERROR) and not part.why_not_ours:
            say(f"{where}: {_verdict(part)}")
        for finding in _by_severity(part, NOTE):
            say(f"{where}: {finding}")


def _by_severity(part: Part, *severities: str) -> list[Finding]:
    return [finding for finding in part.findings if finding.severity in severities]


def _place(file: File, part: Part) -> str:
    several = any(one.number > 1 for one in file.parts)
    return f"{file.path}: document {part.number}" if several and part.number else file.path


def _verdict(part: Part) -> str:
    warnings = part.counts(WARNING)
    if not warnings:
        return f"a valid {part.title}"
    return f"{part.title}, with {warnings} warning{'s' if warnings > 1 else ''}"
