"""How strace's lines are counted (tests/netns/test_cost.py shows that real ones are)."""

from __future__ import annotations

import json

import pytest

from tests.netns.costs import (
    CALLS,
    MESSAGES,
    OWN,
    Costs,
    Figures,
    Recorded,
    Verdict,
    costs_of,
    judge,
    to_record,
)

PYTHON = "/usr/lib/python3.11"
SITE = "/run/x/lib/python3.11/site-packages"
DATAGRAM = (
    "[[{nlmsg_len=20, nlmsg_type=RTM_GETLINK, nlmsg_flags=NLM_F_REQUEST}, {ifi_index=1}],"
    ' [{nlmsg_len=20, nlmsg_type=0x18 /* NLMSG_??? */, nlmsg_flags=0x5}, "\\x02"]]'
)


def counted(*lines: str) -> Costs:
    return costs_of(
        f"{line}\n" for line in ('10 execve("/x", ["x"], 0x7 /* 2 vars */) = 0', *lines)
    )


def opened(path: str, result: str = "3") -> str:
    return f'10 openat(AT_FDCWD, "{path}", O_RDONLY|O_CLOEXEC) = {result}'


def test_calls_by_name() -> None:
    costs = counted("10 getpid()           = 10", "10 getpid() = 10", "10 exit_group(0) = ?")
    assert costs.calls == {"execve": 1, "getpid": 2, "exit_group": 1}
    assert costs_of([]) == Costs()


def test_signals_and_ends_are_no_calls() -> None:
    costs = counted(
        "10 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=11} ---",
        "10 +++ exited with 0 +++",
        "11 +++ killed by SIGKILL +++",
    )
    assert costs.calls == {"execve": 1}


def test_clocks_are_no_calls() -> None:
    """Nor are they, but where the vDSO has none: a machine's matter."""
    assert counted("10 clock_gettime(CLOCK_MONOTONIC, {tv_sec=1}) = 0").calls == {"execve": 1}


def test_call_that_others_came_between_is_one() -> None:
    costs = counted(
        "10 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>",
        "11 getpid() = 11",
        "10 <... clone resumed>, child_tidptr=0x7f) = 11",
        "11 getpid() = 11",
    )
    assert costs.calls == {"execve": 1, "clone": 1, "getpid": 2}


def test_call_that_the_kernel_restarts_is_one() -> None:
    costs = counted(
        "10 read(10, 0x7fe7e77aa2e0, 64)      = ? ERESTARTNOINTR (To be restarted)",
        "10 read(10, 0x7fe7e77aa2e0, 64 <unfinished ...>",
        "10 <... read resumed>)               = ? ERESTARTNOINTR (To be restarted)",
        '10 read(10, "0\\n", 64)               = 2',
    )
    assert costs.calls == {"execve": 1, "read": 1}


def test_fork_counts_until_it_is_another_program_whose_children_do_not() -> None:
    costs = counted(
        "10 clone3({flags=CLONE_VM|CLONE_VFORK}, 88) = 11",
        '11 execve("/missing", ["m"], 0x7) = -1 ENOENT (No such file or directory)',
        "11 dup2(4, 1) = 1",
        '11 execve("/macvlan", ["macvlan"], 0x7 <unfinished ...>',
        "10 wait4(11,  <unfinished ...>",
        "11 <... execve resumed>) = 0",
        "11 mmap(NULL, 4096) = 0x7f0000",
        "11 clone(child_stack=0xc0, flags=CLONE_VM|CLONE_THREAD) = 12",
        "12 futex(0x7f, FUTEX_WAIT) = 0",
        "10 <... wait4 resumed>[{WIFEXITED(s)}], 0, NULL) = 11",
    )
    assert costs.calls == {"execve": 3, "clone3": 1, "dup2": 1, "wait4": 1}


def test_each_message_of_a_datagram() -> None:
    costs = counted(
        f"10 sendto(3, {DATAGRAM}, 40, 0, NULL, 0) = 40",
        f"10 sendmsg(3, {{msg_iov=[{{iov_base={DATAGRAM}, iov_len=40}}]}}, 0 <unfinished ...>",
        "10 <... sendmsg resumed>) = 40",
        # The kernel's answers are not ours, and a packet is no message.
        f"10 recvfrom(3, {DATAGRAM}, 65536, 0, NULL, NULL) = 40",
        '10 sendto(4, "\\1\\2", 2, 0, NULL, 0) = 2',
    )
    assert costs.messages == {"RTM_GETLINK": 2, "RTM_NEWROUTE": 2}
    assert costs.calls == {"execve": 1, "sendto": 2, "sendmsg": 1, "recvfrom": 1}


def test_modules_that_were_opened() -> None:
    costs = counted(
        opened(f"{SITE}/cni_repair/__pycache__/__init__.cpython-311.pyc"),
        opened(f"{SITE}/cni_repair/cni/__pycache__/skel.cpython-311.pyc"),
        opened(f"{SITE}/cni_repair/cni/__pycache__/gone.cpython-311.pyc", "-1 ENOENT (No such)"),
        opened(f"{SITE}/cni_repair/base/frozen.py"),
        opened(f"{SITE}/cni_repair/schema/checkpoint.json"),
        opened(f"{PYTHON}/encodings/__pycache__/utf_8.cpython-311.pyc"),
        opened(f"{PYTHON}/lib-dynload/_ctypes.cpython-311-x86_64-linux-gnu.so"),
        opened(PYTHON),
        opened("/lib/x86_64-linux-gnu/libc.so.6"),
    )
    assert costs.own == {"cni_repair", "cni_repair.cni.skel"}
    assert costs.foreign == {"encodings.utf_8", "_ctypes"}
    assert costs.sources == {"cni_repair.base.frozen"}


TWO: Figures = {MESSAGES: {"RTM_GETLINK": 2}, CALLS: {"read": 90, "write": 20}, OWN: {"a": 1}}


@pytest.mark.parametrize(
    ("figure", "recorded", "more"),
    [
        (MESSAGES, {"RTM_GETLINK": 1}, "2 messages, recorded 1: 1 RTM_GETLINK"),
        (MESSAGES, {"RTM_GETADDR": 1}, "2 messages, recorded 1: 2 RTM_GETLINK"),
        (OWN, [], "1 own modules, recorded 0: 1 a"),
        (CALLS, 99, "110 system calls, recorded 99: 90 read, 20 write"),
    ],
)
def test_more_than_recorded_is_told_by_its_name(figure: str, recorded: Recorded, more: str) -> None:
    assert judge(figure, TWO[figure], recorded) == Verdict(more=more)


@pytest.mark.parametrize(
    ("figure", "recorded"),
    [(MESSAGES, {"RTM_GETLINK": 2}), (MESSAGES, {"RTM_GETADDR": 2}), (OWN, ["b"]), (CALLS, 100)],
)
def test_as_recorded(figure: str, recorded: Recorded) -> None:
    """Of system calls a tenth more is as recorded, too."""
    assert judge(figure, TWO[figure], recorded) == Verdict()


@pytest.mark.parametrize(
    ("figure", "recorded", "less"),
    [
        (MESSAGES, {"RTM_GETLINK": 3}, "2 messages, recorded 3"),
        (OWN, ["a", "b"], "1 own modules, recorded 2"),
        (CALLS, 123, "110 system calls, recorded 123"),
    ],
)
def test_less_than_recorded_is_good(figure: str, recorded: Recorded, less: str) -> None:
    assert judge(figure, TWO[figure], recorded) == Verdict(less=less)


@pytest.mark.parametrize("figure", TWO)
def test_what_is_recorded_is_then_as_recorded(figure: str) -> None:
    kept = json.loads(json.dumps(to_record(figure, TWO[figure])))
    assert judge(figure, TWO[figure], kept) == Verdict()
