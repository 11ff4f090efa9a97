"""One thing that is to be said of a file, and all that is said of one part of it."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.cli.validation import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@frozen
class Finding:
    """What is wrong or worth knowing, and where in the document."""

    severity: str
    path: str  # as JSON paths are written: $.plugins[0].master
    message: str
    remedy: str = ""  # empty where the message says it

    def __str__(self) -> str:
        mark = "" if self.severity == ERROR else f"{self.severity}: "
        said = ": ".join(part for part in (self.path, self.message, self.remedy) if part)
        return f"{mark}{said}"

    def at(self, path: str) -> Finding:
        """The same, where its path begins at `path`."""
        return Finding(self.severity, f"{path}{self.path}", self.message, self.remedy)

    def document(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "path": self.path,
            "message": self.message,
            "remedy": self.remedy,
        }


def error(path: str, message: str, remedy: str = "") -> Finding:
    return Finding(ERROR, path, message, remedy)


def warning(path: str, message: str, remedy: str = "") -> Finding:
    return Finding(WARNING, path, message, remedy)


def note(path: str, message: str, remedy: str = "") -> Finding:
    return Finding(NOTE, path, message, remedy)


def near_keys(
    path: str, document: dict[str, Any], known: tuple[str, ...], of: str
) -> Iterator[Finding]:
    """Warn of keys that are not known, and near to one that is; `of` says whose they are."""
    for key in document:
        meant = "" if key in known or keys.is_comment(key) else keys.near(key, known)
        if meant:
            said = f"not a key of {of}: nobody reads it"
            yield warning(f"{path}.{key}", said, f"did you mean {meant!r}?")


@frozen
class Part:
    """What a file holds once: a configuration, a record, a plan; a YAML file may hold several."""

    number: int  # of the document in the file, from 1
    kind: str  # in the reader's words
    findings: tuple[Finding, ...]
    path: str = "$"  # to the part, in a document of several
    name: str = ""
    is_titled: bool = True  # its name says more than the file's
    why_not_ours: str = ""  # empty where it has to do with cni-repair
    digest: str | None = None  # of an upgrade plan that can be followed

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}" if self.name and self.is_titled else self.kind

    def counts(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    def document(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "path": self.path,
            "kind": self.kind,
            "name": self.name,
            "valid": not self.counts(ERROR),
            "planDigest": self.digest,
            "problems": [finding.document() for finding in self.findings],
        }
