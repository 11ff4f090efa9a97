"""Running another CNI plugin: found safely, bounded in time, dying with us.

Processes are made by hand: `import subprocess` costs more than the macvlan plugin's whole run.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself pays 7 ms for its enums
import fcntl
import os
import stat
import time

from cni_repair.base.errors import DECODE, DELEGATE, ENVIRONMENT, TRY_AGAIN, CniError, DelegateError
from cni_repair.base.names import valid_id
from cni_repair.base.strictjson import dumps, load_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# Below the runtimes' own limits (containerd, CRI-O and kubelet give a pod's network 2 minutes or
# more), so that a hung delegate is cleaned up after by us, not by nobody.
DEADLINE_SECONDS = 50.0
_MAX_OUTPUT = 8 << 20


class NotFound(CniError):
    """There is no such plugin in CNI_PATH."""


class TimedOut(CniError):
    """The plugin had to be killed; what it did and did not do is not known."""


def find(plugin: str, path: str) -> str:
    """The executable of a plugin type in CNI_PATH. Raises NotFound, or CniError for a bad type."""
    if not valid_id(plugin):
        raise CniError(ENVIRONMENT, f"{plugin!r} is no plugin type")
    for directory in path.split(":"):
        candidate = f"{directory}/{plugin}"
        if directory.startswith("/") and _is_program(candidate):
            return candidate
    raise NotFound(
        ENVIRONMENT,
        f"plugin {plugin} is not in CNI_PATH ({path or 'empty'})",
        "install it there (Debian: containernetworking-plugins, in /usr/lib/cni)",
    )


def _is_program(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and os.access(path, os.X_OK)


def call(
    plugin: str,
    environ: Mapping[str, str],
    netconf: dict[str, Any],
    meanwhile: Callable[[], None] | None = None,
    keep_open: int = -1,
    seconds: float = DEADLINE_SECONDS,
) -> bytes:
    """Run a plugin with a netconf on its stdin; its stdout.

    `environ`: the variables of the call; only CNI_* and PATH reach the plugin. `meanwhile` runs
    while the plugin does. `keep_open` is a lock's descriptor: the plugin and its children inherit
    it, so that a lock outlives us for as long as anybody still works under it. Raises
    DelegateError with the plugin's own error object, NotFound, TimedOut, or CniError where it
    failed without a word.
    """
    executable = find(plugin, environ.get("CNI_PATH", ""))
    given = {k: v for k, v in environ.items() if k.startswith("CNI_") or k == "PATH"}
    status, output = _run(executable, given, dumps(netconf), meanwhile, keep_open, seconds)
    if status == 0:
        return output
    raise _error_of(plugin, status, output)


def _error_of(plugin: str, status: int, output: bytes) -> CniError:
    try:
        document = load_object(output, "its output")
    except CniError:
        said = output[:200].decode("utf-8", "replace").strip()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return CniError(DELEGATE, f"plugin {plugin} failed with {how} and no error object", said)
    if "code" not in document and "msg" not in document:
        return CniError(DELEGATE, f"plugin {plugin} failed with status {status}", dumps(document))
    return DelegateError(document)


def _run(
    executable: str,
    environ: dict[str, str],
    stdin: str,
    meanwhile: Callable[[], None] | None,
    keep_open: int,
    seconds: float,
) -> tuple[int, bytes]:
    """(exit status, or minus the signal; stdout).

    Both streams are memory files: no pipe can fill up, and no grandchild can hold one open.
    """
    # Whoever started us may ignore SIGCHLD, and then there would be nothing to wait for.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    source, sink = os.memfd_create("stdin"), os.memfd_create("stdout")
    try:
        os.write(source, stdin.encode("ascii"))
        os.lseek(source, 0, 0)
        deadline = time.monotonic() + seconds
        leash = _Leash()
        # Else Ctrl-C just after the start would leave the plugin to itself, and to our roll-back.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        try:
            child = _spawn(executable, environ, source, sink, (leash.end, keep_open))
            try:
                leash.tie(child)
                _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
                if meanwhile is not None:
                    meanwhile()
                status, late = _wait(child, deadline)
            except BaseException:  # Ctrl-C, say: nobody would be left to watch the plugin
                os.killpg(child, _signal.SIGKILL)
                os.waitpid(child, 0)
                raise
        finally:
            leash.drop()
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        code = os.waitstatus_to_exitcode(status)
        if code == -_signal.SIGKILL and late:
            raise TimedOut(
                TRY_AGAIN,
                f"plugin {_name_of(executable)} did not answer within {seconds:g} s",
                "it was killed, with its children",
            )
        return code, _output_of(sink, executable)
    finally:
        os.close(source)
        os.close(sink)


def _wait(child: int, deadline: float) -> tuple[int, bool]:
    """The plugin's wait status, and whether its process group was killed as time was up."""
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGCHLD])
    try:
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, False
            left = deadline - time.monotonic()
            if left <= 0:
                os.killpg(child, _signal.SIGKILL)
                return os.waitpid(child, 0)[1], True
            _signal.sigtimedwait([_signal.SIGCHLD], left)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def _name_of(executable: str) -> str:
    return executable.rpartition("/")[2]


def _output_of(sink: int, executable: str) -> bytes:
    size = os.fstat(sink).st_size
    if size > _MAX_OUTPUT:
        raise CniError(
            DECODE,
            f"plugin {_name_of(executable)} wrote {size} bytes",
            f"at most {_MAX_OUTPUT} are read",
        )
    return os.pread(sink, size, 0)


class _Leash:
    """Has the kernel kill the plugin's process group when we die, however we die.

    PR_SET_PDEATHSIG would reach the plugin, not the IPAM plugin that it has started; a process that
    watches us would be one more fork. A pipe does it: we alone hold the end that is written to, and
    when the kernel closes it for us, it sends the signal of fcntl(2)'s F_SETSIG to the owner of the
    other end, which the plugin and its children inherit and so keep open. (A plugin that closes
    what it does not know would slip it; those of containernetworking, and shells, do not.)
    """

    def __init__(self) -> None:
        self.end, self._held = os.pipe()

    def tie(self, group: int) -> None:
        fcntl.fcntl(self.end, fcntl.F_SETSIG, _signal.SIGKILL)
        fcntl.fcntl(self.end, fcntl.F_SETOWN, -group)
        fcntl.fcntl(self.end, fcntl.F_SETFL, os.O_ASYNC)

    def drop(self) -> None:
        """First of all untie: what a plugin may have left running is no concern of ours."""
        fcntl.fcntl(self.end, fcntl.F_SETFL, 0)
        os.close(self.end)
        os.close(self._held)


def _spawn(
    executable: str, environ: dict[str, str], source: int, sink: int, inherited: tuple[int, ...]
) -> int:
    """Start the plugin as the leader of a process group of its own; its process id.

    posix_spawn, not fork: a copy of this interpreter would first have to copy the pages that both
    write to. The signals that Python ignores are a plugin's to have as they come.
    """
    kept = [fd for fd in inherited if fd >= 0]
    for fd in kept:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            executable,
            [executable],
            environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, sink, 1)],
            setpgroup=0,
            setsigmask=[],
            setsigdef=[_signal.SIGPIPE, _signal.SIGCHLD],
        )
    except OSError as error:
        raise CniError(
            ENVIRONMENT, f"cannot execute {executable}", error.strerror or str(error)
        ) from error
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)
