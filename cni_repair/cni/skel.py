"""The plugin's frame: environment and streams in, one JSON document and an exit status out.

It knows no verb: the table of verbs is handed in, as to libcni's `skel.PluginMain`.
"""

from __future__ import annotations

import os
import sys

from cni_repair.base.errors import INTERNAL, IO, TRY_AGAIN, CniError
from cni_repair.base.strictjson import dumps
from cni_repair.cni.call import args_in, check, pod_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_repair.cni.call import Verb

_MAX_STDIN = 4 << 20
# How long the journal may take for what it had no room for: the runtime has its answer by then.
_DRAIN_SECONDS = 0.1


def serve(verbs: Mapping[str, Verb]) -> int:
    """Do what the process's environment and stdin ask for; the exit status.

    From here on, whatever else writes to stdout reaches stderr: the runtime reads one document.
    """
    if not _is_open(1):
        return 1  # nobody could be told what was done
    if not _is_open(2):
        _open_stderr()
    stdout = os.dup(1)
    os.dup2(2, 1)
    stdin = b""
    try:
        stdin = _read_stdin()
        call = check(os.environ, stdin, verbs)
        text, status = verbs[call.command].run(call)
    except CniError as error:
        text, status = _failed(error, stdin, verbs), 1
    except KeyboardInterrupt:
        text, status = _failed(CniError(TRY_AGAIN, "interrupted by a signal"), stdin, verbs), 1
    except Exception as error:  # a bug in cni-repair: still one document, which says where
        text, status = _failed(_internal(error), stdin, verbs), 1
    if not _print(stdout, text):
        status = 1
        _log_failure(CniError(IO, "nobody has read the answer"), stdin, verbs)
    if not _only_asks(verbs):
        from cni_repair.base import log

        log.drain(_DRAIN_SECONDS)
    return status


def _only_asks(verbs: Mapping[str, Verb]) -> bool:
    verb = verbs.get(os.environ.get("CNI_COMMAND", ""))
    return verb is not None and verb.asks_only


def _log_failure(error: CniError, stdin: bytes, verbs: Mapping[str, Verb]) -> None:
    """Tell the journal, be the call valid or not. (Imported here: while the delegate of an ADD
    works, that costs nothing.)"""
    if _only_asks(verbs):
        return
    from cni_repair.base import log
    from cni_repair.base.names import title_of
    from cni_repair.cni.netconf import network_named

    environ = os.environ
    container_id, ifname = environ.get("CNI_CONTAINERID", ""), environ.get("CNI_IFNAME", "")
    pod = pod_of(args_in(environ.get("CNI_ARGS", "")))
    what = f"{environ.get('CNI_COMMAND', '')} {title_of(pod, container_id, ifname)}".strip()
    log.failure(
        what,
        error,
        CNI_CONTAINERID=container_id,
        IFNAME=ifname,
        POD=pod,
        NETWORK=network_named(stdin),
    )


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _open_stderr() -> None:
    """Occupy its number: otherwise the next file that is opened would get it, and would be written
    to as stderr."""
    fd = os.open("/dev/null", os.O_WRONLY)
    if fd != 2:
        os.dup2(fd, 2)
        os.close(fd)


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


def _failed(error: CniError, stdin: bytes, verbs: Mapping[str, Verb]) -> str:
    from cni_repair.cni.netconf import version_asked

    _log_failure(error, stdin, verbs)
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
