"""The one error that crosses the borders of modules, and its codes.

Codes 1-99 are the CNI SPEC's ("Error": 1 version, 4 environment, 5 I/O, 6 decoding, 7
configuration, 11 try again later; "STATUS": 50, 51); a plugin's own start at 100.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_PACKAGE = "/cni_repair/"

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


# What the system refuses: an errno, memory, or a part of our own code, which cannot be read now
# (the interpreter takes an errno for its absence). Where memory ends inside the interpreter's own
# code, CPython may raise SystemError.
SYSTEM_ERRORS = (OSError, MemoryError, SystemError, ImportError)


# What an administrator does about them, of a path where there is one.
_REMEDIES = {
    errno.ENOSPC: "make room there (df -h {path}; df -i {path})",
    errno.EDQUOT: "make room there (df -h {path}; df -i {path})",
    errno.EROFS: "have it writable again (findmnt -T {path}; dmesg)",
    errno.ENOTDIR: "move away what is in the place of a directory (ls -ld {path})",
    errno.EIO: "see to the disk (dmesg)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "see what has so many files open (cat /proc/sys/fs/file-nr)",
    errno.ENOMEM: "free memory (free -m)",
}


def with_remedy(error: OSError, path: str) -> str:
    """Why the system refused something at a path, and what is to be done about that."""
    remedy = _remedy_of(error, path)
    return f"{_words(error)}; {remedy}" if remedy else _words(error)


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _remedy_of(error: OSError, path: str) -> str:
    return _REMEDIES.get(error.errno or 0, "").format(path=path)


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


# To say that there is no memory takes some, and what was being done still has all the rest: this is
# given back then: as much as the interpreter, or libc, asks the kernel for at a time, twice. (Zeros
# by calloc: address space, of which no page is touched.)
_RESERVE_BYTES = 2 << 20
_reserve = [bytes(_RESERVE_BYTES)]


def of_system(error: BaseException) -> CniError:
    """One of SYSTEM_ERRORS as what it is: no bug of ours, but something to be put right, or to be
    tried again. What was being done is told by the place, for lack of a better word."""
    _reserve.clear()
    place = _place_of(error)
    if isinstance(error, (MemoryError, SystemError)):
        return CniError(IO, "the system has no memory left", f"free some, call again ({place})")
    if isinstance(error, ImportError):
        return CniError(
            IO,
            f"a part of cni-repair cannot be loaded: {error}",
            f"call again, and if that does not help, install it anew ({place})",
        )
    assert isinstance(error, OSError)
    if isinstance(error.filename, (str, bytes)):  # (of a descriptor it is a number)
        path = os.fsdecode(error.filename)
        what = f"cannot use {path}"
    else:
        path, what = "/", "the system refused"
    remedy = _remedy_of(error, path) or "put that right"
    return CniError(IO, f"{what}: {_words(error)}", f"{remedy}, then call again ({place})")


def _place_of(error: BaseException) -> str:
    """Where in cni-repair it was met."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if _PACKAGE in code.co_filename:
            file = code.co_filename.rpartition(_PACKAGE)[2]
            place = f"in {file}, line {trace.tb_lineno} ({code.co_name})"
        trace = trace.tb_next
    return place or "while it was started"


# What the face that this process has says last, and the process: what it forks has another's words.
_last_words: list[tuple[int, Callable[[CniError], object]]] = []


def set_last_words(say: Callable[[CniError], object]) -> None:
    """How :func:`end_process` tells this process's caller why."""
    _last_words[:] = [(os.getpid(), say)]


def end_process(error: CniError) -> NoReturn:
    """End this process at once: nothing that it did from here on would be safe, not even what is
    usually done to clean up."""
    try:
        for process, say in _last_words:
            if process == os.getpid():
                say(error)
                break
        else:
            os.write(2, f"cni-repair: {error}\n".encode())
    finally:
        os._exit(1)
