"""Running another CNI plugin: found safely, limited in time, and never cut short by our death.

What works under an attachment's lock finishes though we are killed: an IPAM plugin that died with
us could leave an empty address file that nobody frees, the macvlan plugin a link under the name
that it has until it is moved. The next ADD, DEL or GC waits for the lock, then cleans up. What
works under no lock (CHECK, VERSION) changes nothing, and dies with us.

Processes are started without :mod:`subprocess`, whose import takes 11.3 ms, and signals handled
without :mod:`signal`, which takes 4.2 ms for its enums. (Python 3.11.2, median of 100 processes'
CPU time. The bare macvlan plugin's whole ADD takes about 9 ms.)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of `signal`
import fcntl
import os
import stat
import time

from cni_repair.base.errors import DECODE, DELEGATE, ENVIRONMENT, TRY_AGAIN, CniError, DelegateError
from cni_repair.base.gotypes import ERROR, respelled
from cni_repair.base.names import valid_id
from cni_repair.base.strictjson import dumps, load_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# Less than the runtimes' own limits (containerd, CRI-O and kubelet give a pod's network 2 minutes
# or more): they would kill us, and nobody would clean up after a delegate that hangs.
DEADLINE_SECONDS = 50.0
_MAX_OUTPUT = 8 << 20


class NotFound(CniError):
    """CNI_PATH has no such plugin."""


class TimedOut(CniError):
    """The plugin was killed at its deadline; how much it had done is not known."""


def find(plugin: str, path: str) -> str:
    """The executable of a plugin type in CNI_PATH. Raises NotFound; CniError for a bad type."""
    if not valid_id(plugin):
        raise CniError(ENVIRONMENT, f"{plugin!r} is not a plugin type")
    absolute = _absolute(path)
    for directory in absolute:
        candidate = f"{directory}/{plugin}"
        if _is_program(candidate):
            return candidate
    ignored = "; its relative paths do not count" if path != ":".join(absolute) else ""
    raise NotFound(
        ENVIRONMENT,
        f"plugin {plugin} is not in CNI_PATH ({path or 'empty'})",
        f"install it there (Debian: containernetworking-plugins, in /usr/lib/cni){ignored}",
    )


def _absolute(path: str) -> list[str]:
    """The directories of a search path that do not depend on where we are."""
    return [directory for directory in path.split(":") if directory.startswith("/")]


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
    """Run a plugin with a configuration on its stdin; what it wrote to stdout.

    Of `environ`, only CNI_* and PATH reach the plugin, and of these two paths only what is
    absolute. `meanwhile` is called while the plugin works. `keep_open` is the descriptor of a lock:
    the plugin and its children inherit it, so that the lock is held, even if we die, until they
    have ended; without one they die with us. Raises DelegateError with the plugin's own error
    object, NotFound, TimedOut, or CniError where it failed without an error object.
    """
    executable = find(plugin, environ.get("CNI_PATH", ""))
    given = _environment(environ)
    status, output = _run(executable, given, dumps(netconf), meanwhile, keep_open, seconds)
    if status == 0:
        return output
    raise _error_of(plugin, status, output)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of our environment a plugin gets.

    It looks for its IPAM plugin in CNI_PATH, and for programs in PATH: what it finds must not
    depend on the directory that we were started in. (An empty PATH means that directory, too.)
    """
    given = {name: value for name, value in environ.items() if name.startswith("CNI_")}
    for name in ("CNI_PATH", "PATH"):
        if directories := _absolute(environ.get(name, "")):
            given[name] = ":".join(directories)
    return given


def _error_of(plugin: str, status: int, output: bytes) -> CniError:
    try:
        document = respelled(load_object(output, "its output"), ERROR)
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
    """The exit status (or the signal, negative), and what was written to stdout.

    All streams are files in memory: no pipe can fill up, and neither a grandchild nor a plugin that
    outlives us can hold one open on which the runtime waits.
    """
    # If SIGCHLD is ignored, as our caller may have left it, the exit status is lost.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    source, sink, words = map(os.memfd_create, ("stdin", "stdout", "stderr"))
    try:
        os.write(source, stdin.encode("ascii"))
        os.lseek(source, 0, 0)
        deadline = time.monotonic() + seconds
        leash = _Leash() if keep_open < 0 else None
        # Otherwise Ctrl-C right after the start would leave the plugin running during our clean-up.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        try:
            streams = source, sink, words
            child = _spawn(executable, environ, streams, leash.end if leash else keep_open)
            try:
                if leash:
                    leash.tie(child)
                _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
                if meanwhile is not None:
                    meanwhile()
                status, late = _wait(child, deadline)
            except BaseException:  # such as Ctrl-C: our clean-up must not begin beside the plugin
                _see_end(child, 0.0 if leash else deadline)
                raise
        finally:
            if leash:
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
        _pass_on(words)
        for fd in (source, sink, words):
            os.close(fd)


def _pass_on(words: int) -> None:
    """What the plugin said on stderr: to ours."""
    said = os.pread(words, _MAX_OUTPUT, 0)
    try:
        while said:
            said = said[os.write(2, said) :]
    except OSError:
        pass  # nobody listens


def _wait(child: int, deadline: float) -> tuple[int, bool]:
    """The plugin's wait status, and whether its process group was killed at the deadline."""
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


def _see_end(child: int, deadline: float) -> None:
    """Let the plugin end, at the deadline at the latest; a second Ctrl-C kills it."""
    try:
        _wait(child, deadline)
    except ChildProcessError:
        pass  # it had ended when we were interrupted
    except BaseException:
        os.killpg(child, _signal.SIGKILL)
        os.waitpid(child, 0)
        raise


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
    """Makes the kernel kill the plugin's process group when we die, however we die.

    PR_SET_PDEATHSIG would reach the plugin, but not the IPAM plugin that it has started; a process
    that watches us would be one more fork. A pipe does it. Only we hold its writing end; when the
    kernel closes that for us, it sends the signal of fcntl(2)'s F_SETSIG to the owner of the
    reading end, which stays open because the plugin and its children inherit it. (A plugin that
    closes unknown descriptors would not be killed; those of containernetworking, and shells, do
    not.)
    """

    def __init__(self) -> None:
        self.end, self._held = os.pipe()

    def tie(self, group: int) -> None:
        fcntl.fcntl(self.end, fcntl.F_SETSIG, _signal.SIGKILL)
        fcntl.fcntl(self.end, fcntl.F_SETOWN, -group)
        fcntl.fcntl(self.end, fcntl.F_SETFL, os.O_ASYNC)

    def drop(self) -> None:
        """Untie before the pipe is closed: what a plugin has left running may stay."""
        fcntl.fcntl(self.end, fcntl.F_SETFL, 0)
        os.close(self.end)
        os.close(self._held)


def _spawn(
    executable: str, environ: dict[str, str], streams: tuple[int, ...], inherited: int
) -> int:
    """Start the plugin as the leader of a process group of its own; its process id.

    By posix_spawn: after a fork, each page that either process writes to would be copied first. The
    signals that Python ignores get their default handling back.
    """
    os.set_inheritable(inherited, True)
    try:
        return os.posix_spawn(
            executable,
            [executable],
            environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(streams)],
            setpgroup=0,
            setsigmask=[],
            setsigdef=[_signal.SIGPIPE, _signal.SIGCHLD],
        )
    except OSError as error:
        raise CniError(
            ENVIRONMENT, f"cannot execute {executable}", error.strerror or str(error)
        ) from error
    finally:
        os.set_inheritable(inherited, False)
