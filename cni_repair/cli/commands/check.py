"""`check`: one line for node-problem-detector, within five seconds whatever happens.

The look is a child's: a pod's namespace that hangs, or a disk, must not make us late; a process
that waits in the kernel for ever can be left, and not waited for.
"""

from __future__ import annotations

import os
import select
import signal
import time

from cni_repair.base.errors import CniError
from cni_repair.cli.common import DAMAGED
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.privileges import why_refused
from cni_repair.network.planning.plan import LOST
from cni_repair.node.report import UNREADABLE
from cni_repair.watch.problems import (
    SUBJECTS,
    WITHOUT_NETWORK,
    Problems,
    fitted,
    lines_of,
    problems_in,
)
from cni_repair.watch.settings import (
    CONFIG_FILE,
    Settings,
    SettingsError,
    run_dir_of,
    settings_in_force,
)
from cni_repair.watch.status import DEAD, HUNG, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from cni_repair.watch.status import Standing

OK, PROBLEM, UNKNOWN = 0, DAMAGED, 2
_SECONDS = 4.0  # of five: the interpreter has to start, too
_MOST_ANSWER = 4096  # what a pipe holds, so that the child never waits for us
_WATCHER = "systemctl status cni-repair-watch"


def run(options: argparse.Namespace) -> int:
    """Print the line; 0 all is well, 1 a problem, 2 nobody can tell."""
    subjects = options.subjects or SUBJECTS
    status, line = within(_SECONDS, lambda: _answer(options.config, subjects))
    say(fitted(one_line(line)))
    return status


def within(seconds: float, answer: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """What a child answers, who is killed where it is late."""
    deadline = time.monotonic() + seconds
    ours, its = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer_and_exit(its, seconds, answer)
    os.close(its)
    said = b""
    while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(ours, _MOST_ANSWER)
        said += part
        if not part:
            break
    os.kill(pid, signal.SIGKILL)
    if not said:
        return UNKNOWN, f"unknown: no answer in {seconds:g} s: cni-repair status"
    return said[0], said[1:].decode("utf-8", "replace")


def _answer_and_exit(pipe: int, seconds: float, answer: Callable[[], tuple[int, str]]) -> NoReturn:
    status, line = UNKNOWN, "unknown"
    try:
        # The caller reads our stdout to its end, which we would hold open.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(seconds) + 1)  # where the parent was killed
        status, line = answer()
    except CniError as error:
        line = f"unknown: {error}"
    except OSError as error:
        line = f"unknown: {error.filename or 'the look'}: {error.strerror}"
    except Exception as error:  # a mistake of ours: it must not look like an answer
        line = f"unknown: {type(error).__name__}: {error}"
    finally:
        os.write(pipe, bytes([status]) + line.encode("utf-8", "replace")[: _MOST_ANSWER - 1])
        os._exit(0)


def _answer(config: str | None, subjects: Sequence[str]) -> tuple[int, str]:
    refusal = why_refused()
    if refusal:
        return UNKNOWN, f"unknown: {refusal}"
    standing = read_status(run_dir_of(config))
    if standing.document is not None and standing.name not in (DEAD, HUNG):
        found = problems_in(standing.document)  # whatever has become of its file
    else:
        try:
            settings = settings_in_force(config)
        except SettingsError:
            return UNKNOWN, f"unknown: a mistake: cni-repair validate {config or CONFIG_FILE}"
        found = _looked(settings)
    lines = lines_of(found, subjects)
    if lines:
        return PROBLEM, "; ".join(lines)
    silence = _silence(standing)
    if silence:
        return UNKNOWN, silence
    return OK, f"OK: {found.interfaces} pod interface{'' if found.interfaces == 1 else 's'}"


def _silence(standing: Standing) -> str:
    """Why it is not well that nothing is wrong: nobody would see what will be."""
    if standing.name == DEAD:
        return f"unknown: cni-repair watch has ended: {_WATCHER}"
    if standing.name == HUNG:
        return f"unknown: cni-repair watch hangs: {_WATCHER}"
    return ""


def _looked(settings: Settings) -> Problems:
    """As `status` looks, at every directory of records."""
    from cni_repair.cli.advice import troubles_of, unwell  # of no use where a watcher runs
    from cni_repair.cli.coverage import uncovered_by_all
    from cni_repair.cli.scope import Scope, examined

    scopes = [Scope(path, "", None, (), False, "") for path in settings.checkpoint_dirs]
    looks = [(scope, examined(scope)) for scope in scopes]
    reports = [report for _, reports in looks for report in reports]
    troubles = troubles_of(unwell(reports))
    bad_uplinks = troubles.all() if troubles else []
    on_uplinks = sum(trouble.pods for trouble in bad_uplinks)
    bare = uncovered_by_all(looks).unmanaged
    lost_bare = sum(one.state == LOST for one in bare if one.counts)
    damaged = sum(report.state in WITHOUT_NETWORK for report in reports)
    return Problems(
        interfaces=len(reports) + len(bare),
        pods=damaged - on_uplinks + lost_bare,
        uplinks=tuple(trouble.name for trouble in bad_uplinks),
        on_uplinks=on_uplinks,
        records=sum(report.state == UNREADABLE for report in reports)
        + sum(one.counts and one.state != LOST for one in bare),
    )
