"""How an upgrade is announced, shown while it runs, and told of afterwards."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.cli.upgrade.view import Aside, Live, Plain, words
from cni_repair.network.planning.plan import LOST
from cni_repair.node.report import Report
from cni_repair.upgrade import report
from cni_repair.upgrade.describe import command, steps
from cni_repair.upgrade.planfile import HOLD, Plan, plan_of
from cni_repair.upgrade.pods import group_by_reason, pod_results, summarise
from cni_repair.upgrade.policy import must_hold, seconds_held
from cni_repair.upgrade.progress import (
    CUT_SHORT,
    ENDED,
    PHASES,
    REBOOTED,
    RUNNING,
    Progress,
    progress_of,
)
from cni_repair.upgrade.report import Seen
from cni_repair.upgrade.settings import Settings
from cni_repair.upgrade.times import clock
from tests.patience import HANG_SECONDS, eventually
from tests.unit.samples import CHECKPOINT, KEY

Event = dict[str, Any]
NOON = 1_700_000_000.0
SETTINGS = Settings("/checkpoints", "", "/state", lambda: None)


def plan(**changes: Any) -> Plan:
    return plan_of({"version": 1, "driver": {"command": "rmmod e1000e; modprobe e1000e"}} | changes)


def event(kind: str, at: float = NOON, **more: Any) -> Event:
    return {"event": kind, "at": at, **more}


def done(phase: str, ok: bool = True, text: str = "fine", **data: Any) -> Event:
    return event("done", NOON + 1, phase=phase, ok=ok, words=text, data=data)


BEGIN = event(
    "begin", version=1, plan={"version": 1}, planFile="/p.yaml", options={}, bootId="b", pid=7
)


def progress(*events: Event) -> Progress:
    return progress_of([BEGIN, *events])


# --- before --------------------------------------------------------------------------------------


def test_steps_say_everything_that_will_be_done() -> None:
    text = "\n".join(steps(plan(masters={"names": ["bond4"], "carrier": False}), SETTINGS))
    for line in [
        "snapshot   bring the records in /checkpoints up to date",
        "hold       systemctl stop kubelet.service, and mask it until the next boot"
        " (a timer of systemd's undoes it after 26 min 5 s, should cni-repair vanish)",
        "driver     rmmod e1000e; modprobe e1000e (killed after 5 min)",
        "masters    wait up to 2 min for bond4\n",
        "release    unmask it; systemctl start kubelet.service",
        "what becomes of the kubelet where a phase failed: driver: release, masters: hold,"
        " repair: release, verify: release",
    ]:
        assert line in text
    assert [line.split()[0] for line in text.splitlines()[: len(PHASES)]] == list(PHASES)


@pytest.mark.parametrize(
    ("plan_now", "settings"),
    [
        (plan(kubelet="none"), SETTINGS),
        (plan(), replace(SETTINGS, hold_kubelet=False)),
    ],
)
def test_steps_without_a_kubelet_do_not_speak_of_one(plan_now: Plan, settings: Settings) -> None:
    text = "\n".join(steps(plan_now, settings))
    assert "systemctl" not in text
    assert "hold       no kubelet to hold" in text
    assert "what becomes of the kubelet" not in text


def test_command_as_one_would_type_it() -> None:
    assert command(plan(driver={"command": ["/a b", "$x"]})) == "'/a b' '$x'"
    assert command(plan(driver={"command": "a; b"})) == "a; b"


@pytest.mark.parametrize("failed", ["driver", "masters", "repair", "verify"])
def test_policies(failed: str) -> None:
    release = dict.fromkeys(("driver", "masters", "repair", "verify"), "release")
    assert not must_hold(plan(on_failure=release), [failed])
    assert must_hold(plan(on_failure=release | {failed: HOLD}), [failed, "hold"])
    assert not must_hold(plan(on_failure=release | {failed: HOLD}), ["preflight", "hold"])
    assert must_hold(plan(), [failed]) == (failed == "masters")


def test_kubelet_is_let_go_after_all_that_may_take_its_time() -> None:
    short = plan(kubelet={"deadman": "1m"}, verify={"timeout": "1s"})
    assert seconds_held(short) == 300 + 120 + 1 + 240 + 60


# --- meanwhile -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (event("phase", phase="driver"), "begins"),
        (event("phase", phase="repair"), ""),
        (done("repair"), "fine"),
        (done("repair", ok=False, text="no"), "FAILED: no"),
        (event("damaged", todo=3, attachments=4), "3 of 4 interfaces to repair"),
        (event("output", line="x"), "| x"),
        (event("word", text="waiting"), "waiting"),
        (event("lost", link="eth0"), "eth0 is gone, or has lost its carrier"),
        (event("back", link="eth0"), "eth0 is there"),
        (event("resume"), "goes on where it was cut short"),
        (BEGIN, ""),
        (event("restored", attachment="x"), ""),
        (event("end", status=0), ""),
    ],
    ids=lambda value: value["event"] if isinstance(value, dict) else "",
)
def test_events_in_words(one: Event, text: str) -> None:
    assert words(one) == text


def test_plain_lines_cannot_steer_a_terminal() -> None:
    out = io.StringIO()
    view = Plain(out)
    view.show(event("phase", phase="driver"))
    view.show(event("output", line="\x1b[2Ja\tb\r\n\x9bc"))
    view.close()
    when = clock(NOON)
    assert out.getvalue() == f"{when} driver     begins\n{when} driver     | ?[2Ja b ?c\n"


STORY = [
    event("phase", phase="driver"),
    event("output", line=":warning: [bold]" + "x" * 200),
    done("driver", ok=False),
    event("phase", phase="repair"),
    event("restored", attachment="x"),
    event("damaged", todo=200, attachments=200),
]


class Screen:
    """A terminal of 80 columns, and what was sent to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, term: str) -> None:
        monkeypatch.setenv("TERM", term)
        monkeypatch.delenv("COLUMNS", raising=False)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.out = open(slave, "w", encoding="utf-8")  # noqa: SIM115

    def sent(self) -> str:
        self.out.close()
        data = b""
        try:
            while more := os.read(self.master, 65536):
                data += more
        except OSError:  # EIO: nobody has the other end
            pass
        os.close(self.master)
        return data.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("term", ["vt100", "xterm-256color"])
def test_live_has_one_line_that_is_written_again(
    monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    screen = Screen(monkeypatch, term)
    monkeypatch.setattr("rich.console.Console.width", 80)
    view = Live(screen.out)
    for one in STORY:
        view.show(one)
    for seconds in (1, 2):
        view.refresh(NOON + seconds)
    view.close()
    sent = screen.sent()
    wipe = "\r\x1b[K"
    live = [f"[6/8] repair  {seconds} s  1 of 200 interfaces restored" for seconds in (1, 2)]
    assert sent.endswith(f"{wipe}{live[0]}{wipe}{live[1]}{wipe}")
    assert "| :warning: [bold]" + "x" * 200 + "\n" in sent  # whole, to be copied
    assert "\x1b[31mFAILED: fine\x1b[0m" in sent


def test_live_line_never_fills_the_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, "vt100")
    monkeypatch.setattr("rich.console.Console.width", 20)
    view = Live(screen.out)
    for one in STORY:
        view.show(one)
    view.refresh(NOON)
    view.close()
    assert screen.sent().endswith("\r\x1b[K[6/8] repair  0 s  \r\x1b[K")


def test_live_is_silent_between_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, "vt100")
    view = Live(screen.out)
    for one in [*STORY, done("repair"), event("end", status=0)]:
        view.show(one)
    view.refresh(NOON + 9)
    view.close()
    assert screen.sent().rpartition("\n")[2] == "\r\x1b[K\r\x1b[K"


@contextmanager
def aside_of(kind: type[Plain] = Plain) -> Iterator[tuple[Aside, int]]:
    """A view aside, and the end of the pipe at which its words arrive."""
    read, write = os.pipe()
    try:
        with open(write, "w") as out:
            aside = Aside(lambda: kind(out), out.fileno())
        yield aside, read
    finally:
        os.close(read)


def read_all(pipe: int) -> str:
    data = b""
    while more := os.read(pipe, 65536):
        data += more
    return data.decode()


def test_terminal_that_hangs_holds_nobody_up() -> None:
    with aside_of() as (aside, read):
        for number in range(20000):
            aside.show(event("word", text=f"{number} " + "x" * 100))
        closed = threading.Thread(target=aside.close)
        closed.start()
        heard = read_all(read)
        closed.join(HANG_SECONDS)
        assert not closed.is_alive()
    assert [int(line.split()[2]) for line in heard.splitlines()] == [*range(20000)]


def test_all_is_shown_before_it_is_closed() -> None:
    with aside_of() as (aside, read):
        for number in range(50):
            aside.show(event("word", text=str(number)))
        aside.close()
        os.set_blocking(read, False)
        assert len(read_all(read).splitlines()) == 50


def test_terminal_that_goes_away_holds_nobody_up() -> None:
    with aside_of() as (aside, read):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, read)  # nobody has the reading end any more
        os.close(null)
        for number in range(20000):
            aside.show(event("word", text=f"{number} " + "x" * 100))
        aside.close()


def test_no_thread_runs_for_it() -> None:
    """A repair that forks would copy the locks that it holds."""
    before = os.listdir("/proc/self/task")
    with aside_of() as (aside, _):
        assert os.listdir("/proc/self/task") == before
        aside.close()


def test_it_keeps_no_descriptor_of_the_upgrade(tmp_path: Path) -> None:
    """Should it outlive an upgrade that is killed, another may begin: its lock is free."""
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with aside_of() as (aside, _):
            lock.close()
            eventually(lambda: is_free(tmp_path / "lock"))
            aside.close()


def is_free(path: Path) -> bool:
    with open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_the_upgrade_does_not_stop_it(number: int) -> None:
    """Ctrl-C reaches both; what the upgrade says of it is still to be shown."""
    with aside_of() as (aside, read):
        os.kill(aside._process, number)
        aside.show(event("word", text="interrupted"))
        aside.close()
        assert read_all(read).endswith("interrupted\n")


def test_killed_upgrade_ends_it() -> None:
    with aside_of() as (aside, read):
        aside.show(event("word", text="the last"))
        os.close(aside._pipe)  # as the kernel does for the dead
        assert read_all(read).endswith("the last\n")
        os.waitpid(aside._process, 0)


def test_idle_one_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cni_repair.cli.upgrade.view._TICK_SECONDS", 0.01)

    class Clock(Plain):
        def refresh(self, now: float) -> None:
            self._out.write("tick\n")
            super().refresh(now)

    with aside_of(Clock) as (aside, read):
        heard = b""
        while heard.count(b"tick") < 3:
            heard += os.read(read, 100)
        aside.close()


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC0", "2023-11-14 22:13:20Z"),
        ("CET-1", "2023-11-14 23:13:20+01:00"),
        ("IST-5:30", "2023-11-15 03:43:20+05:30"),
        ("NST3:30", "2023-11-14 18:43:20-03:30"),
    ],
)
def test_time_is_told_with_its_date_and_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, text: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert clock(NOON) == text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    ["3 of 3 interfaces restorable, 3 refreshed", "no kubelet to hold: nothing rebuilds pods here"],
)
def test_usual_line_fits_into_80_columns_in_utc(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("cni_repair.cli.upgrade.view.clock", lambda at: "2023-11-14 22:13:20Z")
    out = io.StringIO()
    view = Plain(out)
    view.show(event("phase", phase="snapshot"))
    view.show(done("snapshot", text=text))
    (line,) = out.getvalue().splitlines()
    assert line.startswith("2023-11-14 22:13:20Z snapshot ")
    assert len(line) <= 80


# --- afterwards ----------------------------------------------------------------------------------

HELD = [
    event("kubelet", unit="kubelet.service", active=True, masked=False),
    event("deadman", until=NOON + 600),
]


@pytest.mark.parametrize(
    ("standing", "now", "held"),
    [
        (CUT_SHORT, NOON, True),
        (RUNNING, NOON, True),
        (ENDED, NOON, True),
        (REBOOTED, NOON, False),  # masks in /run are gone
        (CUT_SHORT, NOON + 601, False),  # its timer went off
    ],
)
def test_whether_the_kubelet_is_held(standing: str, now: float, held: bool) -> None:
    found = progress(event("phase", phase="hold"), *HELD)
    seen = Seen(standing, now, " --state-dir /x")
    assert report.document(found, seen)["kubelet"] == {
        "unit": "kubelet.service",
        "held": held,
        "until": NOON + 600 if held else None,
    }
    text = "\n".join(report.lines(found, seen))
    until = f"a timer of systemd's releases it at {clock(NOON + 600)}"
    assert (until in text) == held
    refused = standing == RUNNING  # as another upgrade is at work
    assert ("cni-repair upgrade --release --state-dir /x" in text) == (held and not refused)
    assert ("was to be released" in text) == (now > NOON + 600)


def test_kubelet_that_does_not_start_is_not_called_held() -> None:
    text = report.lines(progress(*HELD, done("release", ok=False)), Seen(ENDED, NOON))
    assert any(line.startswith("kubelet.service could not be released; a timer") for line in text)
    text = report.lines(progress(*HELD, done("release", ok=False, held=True)), Seen(ENDED, NOON))
    assert any(line.startswith("kubelet.service is held: stopped and masked") for line in text)


def test_what_is_left_to_do_is_said_with_its_command() -> None:
    found = progress(event("phase", phase="preflight"))
    line = f"left to do: {', '.join(PHASES)}: cni-repair upgrade --resume --state-dir /x"
    for standing, said in [(CUT_SHORT, True), (RUNNING, False), (REBOOTED, False)]:
        assert (line in report.lines(found, Seen(standing, NOON, " --state-dir /x"))) == said
    refused = progress(done("preflight", ok=False), event("end", status=3))
    assert "left to do" not in str(report.lines(refused, Seen(ENDED, NOON)))


def pod(**changes: Any) -> Event:
    return {
        "containerID": "c", "ifname": "eth0", "network": "podnet", "netns": "/run/netns/a",
        "pod": "shop/a", "master": "eth0", "addresses": ["10.9.0.2/24"],
        "state": "healthy", "lost": ["eth0 is gone"], "actions": ["one", "two"],
        "findings": [], "notes": [], "outageMs": 1234, "givenUp": False, **changes,
    }  # fmt: skip


def test_stale_record_is_no_failed_attachment() -> None:
    """It has an error, as in the document of a repair, and fails nothing there, either."""
    refused = {"code": 103, "msg": "the pod's netns is not there any more", "details": ""}
    pods = [pod(state=state, error=refused) for state in ("stale", "lost")]
    summary = report.document(progress(done("repair", pods=pods)), Seen(ENDED, NOON))["summary"]
    assert (summary["stale"], summary["lost"], summary["failed"]) == (1, 1, 1)


def test_report_as_text() -> None:
    found = progress(
        event("phase", phase="driver"),
        event("lost", NOON + 0.5, link="eth0"),
        done("driver"),
        event("back", NOON + 3.25, link="eth0"),
        event("phase", phase="repair"),
        done(
            "repair",
            ok=False,
            pods=[pod(), pod(state="lost", outageMs=None, findings=["no master"], pod="b")],
        ),
    )
    when = clock(NOON)
    assert report.lines(found, Seen(RUNNING, NOON)) == [
        f"{'AT':<{len(when)}} PHASE      RESULT    SECONDS  WHAT",
        f"{when} driver     ok            1.0  fine",
        f"{when} repair     FAILED        1.0  fine",
        f"{when} eth0 went, was away for 2.75 s",
        "",
        "STATE    ATTACHMENT     STEPS  OUTAGE  LOST",
        "healthy  shop/a c eth0  2      1.23 s  eth0 is gone",
        "lost     b c eth0       2      -       eth0 is gone",
        "    no master",
        "longest outage: 1.23 s",
    ]


def test_of_many_with_the_same_trouble_few_are_named() -> None:
    assert summarise(["a", "b"]) == "a; b"
    assert group_by_reason([("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")]) == [
        "a and 2 more: x",
        "b: y",
    ]
    assert summarise([str(number) for number in range(2000)]) == "0; 1; 2; 3; 4; and 1995 more"


# --- outages -------------------------------------------------------------------------------------

LOOKED = Report(KEY, CHECKPOINT, "", LOST, ("eth0 is gone",))
REPAIRED = Report(KEY, CHECKPOINT, "", "healthy", (), ("step",))
TOUCHED = event("driver", NOON, pid=1, start=1, deadline=1.0)


def outage(*events: Event, looked: Report = LOOKED, restored: float | None = NOON + 9) -> Any:
    times = {} if restored is None else {KEY.name: restored}
    (result,) = pod_results([looked], [REPAIRED], times, progress(TOUCHED, *events))
    return result.outage_ms


def test_outage_counts_from_the_first_link_below_that_went() -> None:
    vlan, card = (link.name for link in CHECKPOINT.attachment.parents)
    lost = [event("lost", NOON + 2, link=vlan), event("lost", NOON + 1, link=card)]
    assert outage(*lost) == 8000
    assert outage(*lost, event("lost", NOON + 0.5, link="another")) == 8000


def test_outage_of_a_pod_that_kept_its_interface_ends_with_its_uplinks() -> None:
    kept = replace(LOOKED, state="healthy", findings=())
    card = CHECKPOINT.attachment.parents[-1].name
    went = event("lost", NOON + 1, link=card)
    assert outage(went, event("back", NOON + 3, link=card), looked=kept, restored=None) == 2000
    assert outage(went, looked=kept, restored=None) is None


def test_outage_that_nobody_saw_begin_is_no_longer_than_that() -> None:
    assert outage() == 9000
    assert outage(looked=replace(LOOKED, state="healthy"), restored=None) is None


def test_outage_of_a_pod_that_was_lost_before_is_not_ours() -> None:
    before = [{"attachment": KEY.name, "restorable": True}]
    card = CHECKPOINT.attachment.parents[-1].name
    went = event("lost", NOON + 1, link=card)
    assert outage(done("snapshot", before=before), went) is None
