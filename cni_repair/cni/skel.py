"""The plugin's frame: environment and streams in, one JSON document and an exit status out."""

from __future__ import annotations

import gc
import os
import sys

from cni_repair.base.errors import ENVIRONMENT, INTERNAL, IO, TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import valid_id, valid_ifname
from cni_repair.base.strictjson import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_STDIN = 4 << 20
_MAX_CONTAINER_ID = 200  # what a file name (255 bytes) leaves beside ifname and suffix


@frozen
class Call:
    """One invocation, its variables checked."""

    command: str
    container_id: str
    netns: str
    ifname: str
    args: dict[str, str]  # CNI_ARGS
    environ: dict[str, str]
    stdin: bytes


# verb: the variables that it cannot do without (SPEC, "Section 2: Parameters")
REQUIRED: dict[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "STATUS": ("CNI_PATH",),
    "GC": ("CNI_PATH",),
    "VERSION": (),
    "REPAIR": (),
}


def serve() -> int:
    """Be a CNI plugin for the process's own environment and streams; the exit status.

    Whatever else writes to stdout from here on, reaches stderr: the runtime reads one document.
    """
    if not _is_open(1):
        return 1  # whatever we did, nobody could be told
    if not _is_open(2):
        _open_stderr()
    stdout = os.dup(1)
    os.dup2(2, 1)
    stdin = b""
    try:
        stdin = _read_stdin()
        call = check(os.environ, stdin)
        text, status = _handler(call.command)(call)
    except CniError as error:
        text, status = _failed(error, stdin), 1
    except KeyboardInterrupt:
        text, status = _failed(CniError(TRY_AGAIN, "interrupted by a signal"), stdin), 1
    except Exception as error:  # a bug of ours: still one document, and where to look
        text, status = _failed(_internal(error), stdin), 1
    return status if _print(stdout, text) else 1


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _open_stderr() -> None:
    """Else the next file that is opened takes its number, and a delegate's words for it."""
    fd = os.open("/dev/null", os.O_WRONLY)
    if fd != 2:
        os.dup2(fd, 2)
        os.close(fd)


def check(environ: Mapping[str, str], stdin: bytes) -> Call:
    """The call that the environment describes; raises CniError (code 4) where it is no good one."""
    command = environ.get("CNI_COMMAND", "")
    if command not in REQUIRED:
        raise CniError(
            ENVIRONMENT, f"unknown CNI_COMMAND: {command}", f"one of {' '.join(REQUIRED)}"
        )
    needed = REQUIRED[command]
    if command == "REPAIR" and environ.get("CNI_CONTAINERID"):
        needed = ("CNI_IFNAME",)
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise CniError(ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    container_id, ifname = environ.get("CNI_CONTAINERID", ""), environ.get("CNI_IFNAME", "")
    if container_id and (not valid_id(container_id) or len(container_id) > _MAX_CONTAINER_ID):
        raise CniError(
            ENVIRONMENT,
            f"CNI_CONTAINERID {container_id[:80]!r} is no container id",
            f"letters, digits, '_', '.', '-', at most {_MAX_CONTAINER_ID}",
        )
    if ifname and not valid_ifname(ifname):
        raise CniError(ENVIRONMENT, f"CNI_IFNAME {ifname[:80]!r} is no interface name")
    return Call(
        command=command,
        container_id=container_id,
        netns=environ.get("CNI_NETNS", ""),
        ifname=ifname,
        args=_args(environ.get("CNI_ARGS", "")),
        environ=dict(environ),
        stdin=stdin,
    )


def _args(text: str) -> dict[str, str]:
    """CNI_ARGS; a piece that is no pair is the delegate's to complain about."""
    pairs = (piece.partition("=") for piece in text.split(";"))
    return {key: value for key, separator, value in pairs if separator}


def _handler(command: str) -> Callable[[Call], tuple[str, int]]:
    """The verb's own function: (document, exit status). Each imports no more than it needs."""
    if command == "ADD":
        from cni_repair.cni.add import add

        return add
    if command == "DEL":
        from cni_repair.cni.delete import delete

        return delete
    if command == "REPAIR":
        from cni_repair.cni.repair import repair

        gc.enable()  # there may be thousands of attachments, and long waits for their masters
        return repair
    from cni_repair.cni import verbs

    gc.enable()
    return {
        "CHECK": verbs.check,
        "STATUS": verbs.status,
        "GC": verbs.gc,
        "VERSION": verbs.version,
    }[command]


def _read_stdin() -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while size <= _MAX_STDIN:
            part = os.read(0, 1 << 16)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise CniError(IO, "cannot read stdin", error.strerror or str(error)) from error
    return b"".join(parts)


def _failed(error: CniError, stdin: bytes) -> str:
    from cni_repair.cni.netconf import version_asked

    return dumps(error.document(version_asked(stdin)))


def _internal(error: Exception) -> CniError:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return CniError(
        INTERNAL,
        f"a bug in cni-repair: {type(error).__name__}: {error}",
        f"at {where}, Python {sys.version.split()[0]}: please report it",
    )


def _print(stdout: int, text: str) -> bool:
    data = text.encode("utf-8") + b"\n" if text else b""
    try:
        while data:
            data = data[os.write(stdout, data) :]
    except OSError:
        return False  # nobody reads any more
    return True
