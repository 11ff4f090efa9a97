"""How far an upgrade has come, from its journal. Pure."""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from cni_repair.upgrade.journal import Event

PREFLIGHT = "preflight"
SNAPSHOT = "snapshot"
HOLD = "hold"
DRIVER = "driver"
MASTERS = "masters"
REPAIR = "repair"
VERIFY = "verify"
RELEASE = "release"
PHASES = (PREFLIGHT, SNAPSHOT, HOLD, DRIVER, MASTERS, REPAIR, VERIFY, RELEASE)

FINE, FAILED, REFUSED = 0, 1, 3  # what it ends with: the exit status

# Where an upgrade stands.
RUNNING, CUT_SHORT, ENDED, REBOOTED = "running", "cut-short", "ended", "rebooted"
NONE = "none"  # none was begun


@frozen
class Done:
    """A phase that came to its end."""

    phase: str
    ok: bool
    words: str  # what came of it, in one line
    began: float  # Unix time in seconds
    ended: float
    data: dict[str, Any]  # for the report, and for a resume


# Who worked at it.
START, RESUME, GIVEN_UP = "start", "resume", "release"


@frozen
class Run:
    """One start, one resume, or the giving up of an upgrade."""

    by: str
    began: float  # Unix time in seconds
    ended: float | None = None  # None: it was cut short, or is at work
    status: int | None = None
    failed: tuple[str, ...] = ()  # the phases that failed since the run before has ended


@frozen
class Progress:
    """What a journal tells."""

    begin: Event  # of the upgrade: its plan, its options; empty where there was none
    boot_id: str  # of the last start or resume
    pid: int
    resumes: int
    done: dict[str, Done]  # the last end of each phase, as far as it still counts
    current: str  # a phase that began and did not end
    events: dict[str, Event]  # the last of each other kind: what a resume must know
    lost: dict[str, float]  # link of the node → Unix time at which it went
    back: dict[str, float]  # uplink → Unix time at which it was back
    end: Event | None  # the upgrade's own
    known: frozenset[str]  # phases whose failure somebody was told of at the end, and resumed
    foreground: bool  # whether its last start or resume was done without a unit of systemd's
    runs: tuple[Run, ...]  # all that was done, in its order

    @property
    def started(self) -> float:
        """Unix time of the last start or resume; 0 where there was none."""
        return self.runs[-1].began if self.runs else 0.0

    @property
    def failed(self) -> tuple[str, ...]:
        return _failed(self.done)

    @property
    def failed_since(self) -> tuple[str, ...]:
        """Those that failed since somebody has looked."""
        return _failed(self.done, self.known)

    @property
    def holds_kubelet(self) -> bool:
        """Whether the kubelet may be held: what was begun may have been done."""
        released = self.done.get(RELEASE)
        return "kubelet" in self.events and not (released and released.ok)

    @property
    def touched(self) -> bool:
        """Whether the driver command may have been started: pods may be without a network."""
        return "driver" in self.events

    @property
    def given_up(self) -> bool:
        """Whether somebody has let the kubelet go by hand, and will not resume."""
        return self.end is not None and bool(self.end.get("givenUp"))

    def standing(self, boot_id: str, alive: bool) -> str:
        """RUNNING, CUT_SHORT, ENDED or REBOOTED; `alive`: an upgrade is at work on this node."""
        if self.end is not None and (self.boot_id == boot_id or not remaining(self)):
            return ENDED
        if self.boot_id != boot_id:
            return REBOOTED
        return RUNNING if alive else CUT_SHORT


def _failed(done: Mapping[str, Done], known: Collection[str] = ()) -> tuple[str, ...]:
    return tuple(
        name for name in PHASES if name in done and not done[name].ok and name not in known
    )


def progress_of(events: Iterable[Event]) -> Progress:
    """Read the events of one upgrade, those after its resumes included."""
    begin: Event = {}
    boot_id, pid, resumes, current, foreground = "", 0, 0, "", False
    began = 0.0
    done: dict[str, Done] = {}
    others: dict[str, Event] = {}
    lost: dict[str, float] = {}
    back: dict[str, float] = {}
    end: Event | None = None
    known: set[str] = set()
    runs: list[Run] = []
    for event in events:
        kind = event["event"]
        if kind == "begin":
            begin = event
        if kind in ("begin", "resume"):
            resumes += kind == "resume"
            if end is not None:
                known = {*_failed(done)}
            runs.append(Run(START if kind == "begin" else RESUME, event["at"]))
            boot_id, pid, current, end = event["bootId"], event["pid"], "", None
            foreground = event.get("foreground", False)
        elif kind == "phase":
            current, began = event["phase"], event["at"]
            for name in _undone_by(current):
                done.pop(name, None)
        elif kind == "done":
            phase = event["phase"]
            # (A full disk may have swallowed the phase's beginning.)
            start = began if phase == current else event["at"]
            done[phase] = Done(
                phase, event["ok"], event["words"], start, event["at"], event["data"]
            )
            known.discard(phase)
            current = ""
        elif kind == "lost":
            lost.setdefault(event["link"], event["at"])
        elif kind == "back":
            back[event["link"]] = event["at"]
        elif kind == "end":
            end = event
            if event.get("givenUp") or not runs:
                runs.append(Run(GIVEN_UP, event["at"]))
            failed = _failed(done, known)
            runs[-1] = replace(runs[-1], ended=event["at"], status=event["status"], failed=failed)
        else:
            others[kind] = event
    return Progress(
        begin, boot_id, pid, resumes, done, current, others, lost, back, end, frozenset(known),
        foreground, tuple(runs),
    )  # fmt: skip


def _undone_by(phase: str) -> tuple[str, ...]:
    """The phases whose earlier end does not count any more once this one has begun (again)."""
    if phase == HOLD:
        return HOLD, RELEASE
    return PHASES[PHASES.index(phase) :] if phase in PHASES else ()


def remaining(progress: Progress) -> tuple[str, ...]:
    """The phases that a resume has to do, in order.

    From the first that did not end well; but a driver command that came to its end, well or not, is
    not run again. The kubelet is held again for whatever may change pods. Nothing where somebody
    has given the upgrade up.
    """
    if progress.given_up:
        return ()
    first = next((name for name in PHASES if not _settled(progress, name)), None)
    if first is None:
        return ()
    rest = tuple(
        name
        for name in PHASES[PHASES.index(first) :]
        if name != DRIVER or not _settled(progress, name)
    )
    only_looks = first == VERIFY and not progress.holds_kubelet
    return rest if HOLD in rest or rest == (RELEASE,) or only_looks else (HOLD, *rest)


def _settled(progress: Progress, name: str) -> bool:
    done = progress.done.get(name)
    return done is not None and (done.ok or name == DRIVER)
