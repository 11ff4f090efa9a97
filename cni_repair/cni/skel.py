"""The plugin's frame: environment and streams in, one JSON document and an exit status out.

It knows no verb: the table of verbs is handed in, as to libcni's `skel.PluginMain`.
"""

from __future__ import annotations

import errno
import os
import sys

from cni_repair.base.errors import (
    INTERNAL,
    IO,
    SYSTEM_ERRORS,
    TRY_AGAIN,
    CniError,
    of_system,
    set_last_words,
)
from cni_repair.base.strictjson import dumps
from cni_repair.cni.call import args_in, check, pod_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_repair.cni.call import Call, Verb

_MAX_STDIN = 4 << 20
# How long the journal may take for what it had no room for: the runtime has its answer by then.
_DRAIN_SECONDS = 0.1
_VERSION = "1.0.0"  # of an error, where it cannot be told which one was asked for


def serve(verbs: Mapping[str, Verb]) -> int:
    """Do what the process's environment and stdin ask for; the exit status.

    From here on, whatever else writes to stdout reaches stderr: the runtime reads one document.
    Raises one of SYSTEM_ERRORS where there is not even memory for that document.
    """
    if not _is_open(1):
        return 1  # nobody could be told what was done
    try:
        stdout = _take_stdout()
    except OSError as error:  # stdout is as it was
        return _Answer(verbs, 1).fail(of_system(error))
    answer = _Answer(verbs, stdout)
    set_last_words(answer.fail)
    try:
        return answer.give()
    except SYSTEM_ERRORS:
        os.dup2(stdout, 1)
        raise


class _Answer:
    """The one document that the caller gets."""

    def __init__(self, verbs: Mapping[str, Verb], stdout: int) -> None:
        self._verbs = verbs
        self._stdout = stdout
        self._stdin = b""

    def give(self) -> int:
        """Do what is asked for, and answer; the exit status."""
        try:
            self._stdin = _read_stdin()
            call = check(os.environ, self._stdin, self._verbs)
            text, status = self._verbs[call.command].run(call)
        except CniError as error:
            return self.fail(error)
        except KeyboardInterrupt:
            return self.fail(CniError(TRY_AGAIN, "interrupted by a signal"))
        except SYSTEM_ERRORS as error:
            return self.fail(of_system(error))
        except Exception as error:  # a bug in cni-repair: still one document, which says where
            return self.fail(_internal(error))
        refusal = _print(self._stdout, text)
        if refusal is not None:
            return self._take_back(call, refusal)
        self._drain()
        return status

    def fail(self, error: CniError) -> int:
        """Answer with an error; the exit status."""
        try:
            _log_failure(error, self._stdin, self._verbs)
        except SYSTEM_ERRORS:
            pass  # the caller's answer is worth more than the journal's
        _print(self._stdout, dumps(error.document(_version_asked(self._stdin))))
        self._drain()
        return 1

    def _take_back(self, call: Call, refusal: OSError) -> int:
        """Nobody has read the answer. Whoever asked takes that for a failure: so what is not to
        outlive one is taken back."""
        error = CniError(IO, "nobody has read the answer", f"stdout: {refusal.strerror}")
        undo = self._verbs[call.command].undo
        if undo is not None:
            try:
                undo(call)
            except (CniError, *SYSTEM_ERRORS) as failure:
                error.details += f"; clean-up failed, too: {failure}"
        return self.fail(error)

    def _drain(self) -> None:
        if not _only_asks(self._verbs):
            try:
                from cni_repair.base import log

                log.drain(_DRAIN_SECONDS)
            except SYSTEM_ERRORS:
                pass  # it has its answer


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
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _take_stdout() -> int:
    """Where the answer goes; from now on whatever else is written to stdout reaches stderr."""
    if not _is_open(2):
        _open_stderr()
    stdout = os.dup(1)
    os.dup2(2, 1)
    return stdout


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


def _version_asked(stdin: bytes) -> str:
    try:
        from cni_repair.cni.netconf import version_asked

        return version_asked(stdin)
    except SYSTEM_ERRORS:
        return _VERSION


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


def _print(stdout: int, text: str) -> OSError | None:
    """Write a line; why it was not written."""
    data = text.encode("utf-8") + b"\n" if text else b""
    try:
        while data:
            data = data[os.write(stdout, data) :]
    except OSError as error:
        return error
    return None
