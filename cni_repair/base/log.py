"""One line in systemd's journal for each event: what happened to whom, why, and how it ended.

This is the journal's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL), one datagram an
event; :mod:`logging` and the journal's own library would cost ADD more than all its own work. A pod
waits for ADD, and the daemon for nobody: an event never raises and never blocks. Where there is no
journal it is lost, or is a plain line on stderr for a process that has asked for that.

The socket lives as long as one event, or as many as come one right after the other (:class:`Many`).
Kept open, it would keep alive whichever network namespace it was made in.
"""

from __future__ import annotations

import os
import time

from cni_repair import __version__
from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable, close_fd
from cni_repair.base.errors import REFUSALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    from cni_repair.base.errors import CniError

    Kind: TypeAlias = Literal[
        "lost", "degraded", "refused", "healed",
        "uplink-lost", "uplink-back", "armed", "held", "released",
        "paused", "resumed", "started", "stopped", "reloaded", "trouble",
        "added", "deleted", "repaired", "snapshot", "adopted", "forgotten", "upgrade", "failed",
    ]  # fmt: skip
    Value: TypeAlias = str | int | None

IDENTIFIER = "cni-repair"
_ERROR, _WARNING, _NOTICE, _INFO = 3, 4, 5, 6  # syslog's levels
# Of each kind: MESSAGE_ID, by which journalctl and others find it whatever the words, and level.
# An id never changes, and is never used again for something else.
KINDS: dict[Kind, tuple[str, int]] = {
    # What the daemon sees, and does about it.
    "lost": ("bfaa86ec6501496faf16ba8a858556d0", _ERROR),
    "degraded": ("5d160e6666044376a1895cd4e4aff377", _WARNING),
    "refused": ("5304890efbe9462d9038ff488773144e", _ERROR),
    "healed": ("78445925ecd540ce84058744a638499c", _NOTICE),
    "uplink-lost": ("9ac3a4bff15940ce96a14aaad972b9dc", _ERROR),
    "uplink-back": ("072a8066d3294b8783696d84bf65cefe", _NOTICE),
    "armed": ("fbd270f39d504076b8522d1e38a7cbdc", _INFO),
    "held": ("21d4ecc24a5940e19a11ada977ab0575", _WARNING),
    "released": ("d3aa39a5deec4193a1393680d4207971", _NOTICE),
    "paused": ("fc21ca08ba3a4af49fab047c59509ebb", _WARNING),
    "resumed": ("542facc6a5c5427bbe86227eff1d0cbb", _NOTICE),
    "started": ("2d2d2fdd6dde45f4ad705d93c8156ce6", _INFO),
    "stopped": ("a6a61c3694cf4fa9a0e2a6bb264d076b", _NOTICE),
    "reloaded": ("a986416e6ef94351aed27feeb4f2d978", _NOTICE),
    "trouble": ("4347ce9226d24527b870b7da66278e38", _ERROR),
    # What the verbs and commands did.
    "added": ("98eef9eaa712441c950be68994c0452b", _INFO),
    "deleted": ("c58295dc7b1b4468a853299e025be8b0", _INFO),
    "repaired": ("598007e428824feb806759de80eae10b", _NOTICE),
    "snapshot": ("70c44ae0d38448abb04ba000489ac526", _INFO),
    "adopted": ("1ff1d751f7d144ebba606ba4c54f033c", _NOTICE),
    "forgotten": ("2108df1eabf24c2684f3f0a395db67f9", _NOTICE),
    "upgrade": ("6b8f061a0b6a4ea1a015bb6db048ad34", _NOTICE),
    "failed": ("12f0c68026c44323b822c2c36ab511d8", _ERROR),
}

_SOCKET = "/run/systemd/journal/socket"
_MOST_UNSENT = 4096
_UNSENT_POLL_SECONDS = 0.002
_MOST_ON_STDERR = 4096  # bytes: a pipe that poll() calls writable takes as many without blocking


class _State:
    """What a process has set, and what the journal did not take yet."""

    stderr = False
    caller = ""
    common: dict[str, Value] = {}  # noqa: RUF012 - one a process is what is meant
    unsent: list[bytes] = []  # noqa: RUF012
    socket: socket.socket | None = None  # of many events


class Many(Closeable):
    """Context: the events inside have one socket. Nothing else is done meanwhile."""

    def __init__(self) -> None:
        try:
            _State.socket = _new_socket() if os.geteuid() == 0 else None
        except OSError:
            pass  # then each event has its own, or is lost

    def close(self) -> None:
        journal, _State.socket = _State.socket, None
        if journal is not None:
            close_fd(journal.detach())


def use_stderr() -> None:
    """Have this process's events written on stderr where there is no journal."""
    _State.stderr = True


def set_common(**fields: Value) -> None:
    """Set fields that every event of this process has from now on, besides its own."""
    _State.common |= fields


def failure(what: str, error: CniError, **fields: Value) -> None:
    """Write into the journal that something was not done, and why; each error once. (On stderr it
    is for who catches the error.)"""
    if error.logged:
        return
    error.logged = True
    kind: Kind = "refused" if error.code in REFUSALS else "failed"
    _write(kind, f"{what}: {error}", {"CODE": error.code, "REASON": str(error), **fields})


def event(kind: Kind, message: str, **fields: Value) -> None:
    """Write one event. A field that is None or empty is left out.

    Only root's: others can do nothing that is to be told of, and `cni-repair log` believes no one
    else.
    """
    if not _write(kind, message, fields) and _State.stderr:
        _write_on_stderr(kind, message, fields)


def _write(kind: Kind, message: str, fields: Mapping[str, Value]) -> bool:
    """Whether the journal has it."""
    if _State.socket is None and os.geteuid() != 0:
        return True
    message_id, priority = KINDS[kind]
    known = {
        "MESSAGE": message,
        "MESSAGE_ID": message_id,
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "EVENT": kind,
        "VERSION": __version__,
        "COMMAND": os.environ.get("CNI_COMMAND"),  # a verb; a command sets its own
        "CALLER": _caller(),
        **_State.common,
        **fields,
    }
    unsent = _State.unsent
    if len(unsent) < _MOST_UNSENT:
        unsent.append(_serialised(_told(known)))
    return _send_unsent()


def drain(seconds: float) -> None:
    """Send what the journal had no room for, and wait up to `seconds` until it has.

    Thousands of events in a moment are more than the socket holds. A command calls this at its end,
    when nobody waits for its work any more; the daemon, which waits for nobody, now and then.
    """
    until = time.monotonic() + seconds
    while _State.unsent:
        _send_unsent()
        if not _State.unsent or time.monotonic() >= until:
            return
        time.sleep(_UNSENT_POLL_SECONDS)


def _caller() -> str:
    """Who has started this process: a runtime, a shell, systemd."""
    if not _State.caller:
        from cni_repair.base.procfs import comm_of  # which ADD has by now, but not when it begins

        parent = os.getppid()
        _State.caller = f"{comm_of(parent)}[{parent}]"
    return _State.caller


def _told(fields: dict[str, Value]) -> list[tuple[str, str | int]]:
    """The fields that there is something in."""
    return [(name, value) for name, value in fields.items() if value is not None and value != ""]


def _serialised(fields: list[tuple[str, str | int]]) -> bytes:
    """The fields of an event as the journal reads them."""
    text = "".join([f"{name}={value}\n" for name, value in fields])
    if text.count("\n") == len(fields):  # nearly always
        return text.encode("utf-8", "backslashreplace")
    return b"".join([_serialised_field(name, str(value)) for name, value in fields])


def _serialised_field(name: str, value: str) -> bytes:
    """Up to a line's end, or where the value has line ends itself, with its length: so no text, be
    it a pod's name, can begin another field."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


def _send_unsent() -> bool:
    """Send what is still to be sent; False where there is no journal.

    What the journal has no room for now is kept for the next event.
    """
    unsent = _State.unsent
    journal = None
    try:
        journal = _State.socket or _new_socket()
        while unsent:
            _send(journal, unsent[0])
            del unsent[0]
    except BlockingIOError:
        pass
    except OSError:
        unsent.clear()
        return False
    finally:
        if journal is not None and journal is not _State.socket:
            close_fd(journal.detach())
    return True


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _send(journal: socket.socket, entry: bytes) -> None:
    try:
        journal.sendto(entry, socket.MSG_DONTWAIT, _SOCKET)
    except OSError as error:
        import errno

        if error.errno != errno.EMSGSIZE:
            raise
        _send_as_file(journal, entry)


def _send_as_file(journal: socket.socket, entry: bytes) -> None:
    """Send more than a datagram holds: in a file of memory, sealed so that the journal can trust
    it not to change while it reads."""
    import fcntl

    file = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(entry)
        while rest:
            rest = rest[os.write(file, rest) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, file.to_bytes(4, "little"))
        journal.sendmsg([], [rights], socket.MSG_DONTWAIT, _SOCKET)
    finally:
        os.close(file)


def _write_on_stderr(kind: str, message: str, fields: dict[str, Value]) -> None:
    """One plain line; none where nobody reads them: a full pipe would hold the process."""
    import select

    named = [f"[{name}={value}]" for name, value in _told(fields)]
    text = " ".join([f"{IDENTIFIER}: {kind}: {message}", *named])
    shown = "".join(char if char.isprintable() else "?" for char in text)
    line = shown.encode("utf-8", "backslashreplace")[: _MOST_ON_STDERR - 1] + b"\n"
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(0) == [(2, select.POLLOUT)]:
            os.write(2, line)
    except OSError:
        pass  # closed: there is nobody to tell
