"""The one error that crosses the borders of modules, and its codes.

Codes 1-99 are the CNI SPEC's ("Error": 1 version, 4 environment, 5 I/O, 6 decoding, 7
configuration, 11 try again later; "STATUS": 50, 51); a plugin's own start at 100.
"""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
ENVIRONMENT = 4
IO = 5
DECODE = 6
CONFIG = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 100
DAMAGED = 101
FOREIGN = 102
STALE = 103
REPAIR_FAILED = 104
BAD_CHECKPOINT = 105
EXISTS = 106
MASTER_REFUSED = 107
NO_CHECKPOINT = 108
DELEGATE = 109
ADDRESS_GONE = 110
# Nothing was tried: it would not have been safe.
REFUSALS = frozenset((FOREIGN, STALE, EXISTS, MASTER_REFUSED, ADDRESS_GONE))


class CniError(Exception):
    """A failure as the CNI SPEC reports it: a code, what is wrong, and what to do about it."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details
        self.logged = False  # whether the journal has it already, from who knew more of it

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg

    def document(self, cni_version: str) -> dict[str, object]:
        """The SPEC's error object."""
        return {
            "cniVersion": cni_version,
            "code": self.code,
            "msg": self.msg,
            "details": self.details,
        }


class DelegateError(CniError):
    """A wrapped plugin's own error object: it reaches the caller unchanged."""

    def __init__(self, document: dict[str, object]) -> None:
        code = document.get("code")
        super().__init__(
            code if isinstance(code, int) else DELEGATE,
            str(document.get("msg", "")),
            str(document.get("details", "")),
        )
        self._document = document

    def document(self, cni_version: str) -> dict[str, object]:
        return self._document
