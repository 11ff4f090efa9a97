"""A command run under ptrace: what it asks the kernel to change is listed, and at one such call
somebody is killed before the kernel does it.

    python3 -IS tracer.py --list FILE [--kill PROCESS:NUMBER:WHO] -- COMMAND…

strace could (`-e inject=…:signal=KILL:when=N`), but it counts each thread by itself, kills only who
makes the call, and stops at system calls of which nobody asked. Here a seccomp filter stops at
calls that change something and at no others; a process is known by its place in the family: "0" is
the command, "0.1" the first process that it started, "0.1.2" the second of that one. The tracer
ends when the last of them has, and then as the command has ended: by what it leaves behind, one
sees that nobody is left.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import struct
import sys
from dataclasses import dataclass, field

# arch/x86/entry/syscalls/syscall_64.tbl
_NUMBERS = {
    "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "sendto": 44, "sendmsg": 46,
    "execve": 59, "kill": 62, "flock": 73, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
    "mount": 165, "umount2": 166, "openat": 257, "mkdirat": 258, "fchownat": 260, "unlinkat": 263,
    "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "unshare": 272,
    "utimensat": 280, "fallocate": 285, "sendmmsg": 307, "renameat2": 316,
}  # fmt: skip
# Of these only the calls that have one of the flags (O_WRONLY, O_RDWR, O_CREAT, O_TRUNC), and which
# argument has them.
_FLAGS = {"open": (1, 0x243), "openat": (2, 0x243)}

# include/uapi/linux/{filter,seccomp,ptrace,prctl,wait}.h
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PTRACE_CONT, _PTRACE_GETEVENTMSG, _PTRACE_SEIZE, _PTRACE_LISTEN = 7, 0x4201, 0x4206, 0x4208
_PTRACE_GET_SYSCALL_INFO = 0x420E
_FORK, _VFORK, _CLONE, _EXEC, _SECCOMP, _STOP = 1, 2, 3, 4, 7, 128
_OPTIONS = (1 << _FORK) | (1 << _VFORK) | (1 << _CLONE) | (1 << _EXEC) | (1 << _SECCOMP) | 1 << 20
_WALL = 0x40000000
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

COMMAND, CALLER, ALL = "command", "caller", "all"  # who is killed

_NAMES = {number: name for name, number in _NUMBERS.items()}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def is_possible() -> bool:
    """Whether the numbers above are this machine's."""
    return platform.machine() == "x86_64"


class _Filter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Filter)))


def _program() -> list[tuple[int, int, int, int]]:
    """Stop at the calls of _NUMBERS, and say which it is (struct seccomp_data: the number, then
    from byte 16 on the arguments)."""
    lines = []
    for name, number in _NUMBERS.items():
        stop = (_RETURN, 0, 0, _TRACE | number)
        test = [stop]
        if name in _FLAGS:
            argument, flags = _FLAGS[name]
            load = (_LOAD, 0, 0, 16 + 8 * argument)
            test = [load, (_JUMP_SET, 0, 1, flags), stop, (_RETURN, 0, 0, _ALLOW)]
        lines += [(_LOAD, 0, 0, 0), (_JUMP_EQUAL, 0, len(test), number), *test]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


def _install_filter() -> None:
    lines = _program()
    array = (_Filter * len(lines))(*(_Filter(*line) for line in lines))
    program = _Program(len(lines), array)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


@dataclass
class _Process:
    """One of the family; its threads are counted as one."""

    place: str
    program: str
    calls: int = 0
    children: int = 0


@dataclass
class _Family:
    """The traced processes."""

    kill: tuple[str, int, str] | None
    processes: dict[int, _Process] = field(default_factory=dict)
    threads: dict[int, int] = field(default_factory=dict)  # each thread's process
    early: set[int] = field(default_factory=set)  # stopped before their parent told of them
    held: list[int] = field(default_factory=list)  # until who was to be killed is dead
    diary: list[tuple[str, str, int, str]] = field(default_factory=list)
    command: int = 0
    status: int = 0

    def start(self, words: list[str]) -> None:
        reading, writing = os.pipe()
        self.command = os.fork()
        if self.command == 0:
            os.read(reading, 1)  # until it is traced
            os.close(reading)
            os.close(writing)
            _install_filter()
            os.execv(_found(words[0]), words)
        self.processes[self.command] = _Process("0", words[0])
        self.threads[self.command] = self.command
        _ptrace(_PTRACE_SEIZE, self.command, _OPTIONS)
        os.write(writing, b"!")
        os.close(reading)
        os.close(writing)

    def follow(self) -> None:
        """Until all have ended."""
        while self.threads:
            thread, status = os.waitpid(-1, _WALL)
            if os.WIFSTOPPED(status):
                self._stopped(thread, status >> 16, os.WSTOPSIG(status))
            else:
                self._ended(thread, status)

    def _ended(self, thread: int, status: int) -> None:
        self.threads.pop(thread, None)
        if thread == self.command:
            self.status = status
            held, self.held = self.held, []
            for one in held:
                _continue(one)

    def _stopped(self, thread: int, event: int, number: int) -> None:
        if thread not in self.threads:
            self.early.add(thread)
        elif event in (_FORK, _VFORK, _CLONE):
            self._born(thread, _message_of(thread))
            _continue(thread)
        elif event == _EXEC:
            self._becomes(thread)
            _continue(thread)
        elif event == _SECCOMP:
            self._calls(thread, _NAMES[_message_of(thread)])
        elif event == _STOP and number in _STOPPING:
            _ptrace(_PTRACE_LISTEN, thread, 0)
        else:
            _continue(thread, 0 if event else number)

    def _born(self, parent: int, child: int) -> None:
        pid = _process_of(child)
        if pid == child:
            mother = self.processes[self.threads[parent]]
            mother.children += 1
            place = f"{mother.place}.{mother.children}"
            self.processes[child] = _Process(place, mother.program)
        self.threads[child] = pid
        if child in self.early:
            self.early.remove(child)
            _continue(child)

    def _becomes(self, thread: int) -> None:
        process = self.processes[self.threads[thread]]
        with open(f"/proc/{thread}/comm", encoding="utf-8") as file:
            process.program = file.read().strip()

    def _calls(self, thread: int, name: str) -> None:
        if name == "sendto" and _only_asks(thread):
            _continue(thread)
            return
        process = self.processes[self.threads[thread]]
        process.calls += 1
        self.diary.append((process.place, process.program, process.calls, name))
        if self.kill is None or self.kill[:2] != (process.place, process.calls):
            _continue(thread)
            return
        who, self.kill = self.kill[2], None
        if who == COMMAND and self.command not in self.threads:
            _continue(thread)  # it has ended by itself
            return
        if who != CALLER:
            self.held.append(thread)
        if who == ALL:
            for pid in set(self.threads.values()):
                os.kill(pid, signal.SIGKILL)
        else:
            os.kill(self.command if who == COMMAND else self.threads[thread], signal.SIGKILL)


def _found(program: str) -> str:
    """In PATH: each vain attempt to execute it would count."""
    directories = [""] if "/" in program else os.environ.get("PATH", os.defpath).split(":")
    candidates = [os.path.join(directory, program) for directory in directories]
    return next((one for one in candidates if os.access(one, os.X_OK)), program)


def _ptrace(request: int, thread: int, data: int) -> None:
    """One that was killed meanwhile is none of ours any more."""
    if _libc.ptrace(request, thread, None, data) != 0 and ctypes.get_errno() != 3:
        raise OSError(ctypes.get_errno(), f"ptrace({request:#x})")


def _continue(thread: int, number: int = 0) -> None:
    _ptrace(_PTRACE_CONT, thread, number)


def _message_of(thread: int) -> int:
    message = ctypes.c_ulong()
    _libc.ptrace(_PTRACE_GETEVENTMSG, thread, None, ctypes.byref(message))
    return message.value


class _Call(ctypes.Structure):
    """struct ptrace_syscall_info, of a stop by a seccomp filter."""

    _fields_ = (
        ("op", ctypes.c_ubyte), ("arch", ctypes.c_uint), ("place", ctypes.c_ulong * 2),
        ("number", ctypes.c_ulong), ("arguments", ctypes.c_ulong * 6), ("data", ctypes.c_uint),
    )  # fmt: skip


def _only_asks(thread: int) -> bool:
    """Whether what is sent is a message of rtnetlink's that changes nothing: RTM_GET…, the third of
    each four types, with NLM_F_REQUEST."""
    call = _Call()
    size = ctypes.sizeof(call)
    if _libc.ptrace(_PTRACE_GET_SYSCALL_INFO, thread, size, ctypes.byref(call)) < 0:
        return False
    _, place, length = call.arguments[:3]
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(place)
            head = memory.read(16)
    except OSError:
        return False
    if len(head) < 16:
        return False
    first, kind, flags = struct.unpack_from("=IHH", head)
    return 16 <= first <= length and kind >= 16 and kind % 4 == 2 and bool(flags & 1)


def _process_of(thread: int) -> int:
    """The process of a thread; itself where it is already gone."""
    try:
        with open(f"/proc/{thread}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except OSError:
        return thread


def main() -> int:
    """Trace; the command's exit status, 128 and more where a signal ended it."""
    options, words = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    given = dict(zip(options[::2], options[1::2], strict=True))
    kill = None
    if "--kill" in given:
        place, number, who = given["--kill"].split(":")
        kill = (place, int(number), who)
    # Opened before: the command may be given a file system that nobody can write to.
    with open(given["--list"], "w", encoding="utf-8") as file:
        family = _Family(kill)
        family.start(words)
        family.follow()
        killed = "--kill" in given and family.kill is None
        json.dump({"killed": killed, "calls": family.diary}, file)
    code = os.waitstatus_to_exitcode(family.status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
