"""What verbs and commands tell systemd's journal: a real journald on the rig's node, read back by
the real journalctl, and by `cni-repair log`."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_repair import __version__
from cni_repair.base.log import KINDS
from cni_repair.upgrade.progress import PHASES
from tests.journal import SOCKET, Journal, journald_on
from tests.netns.rig import HANG_SECONDS, ROOT, Json, Rig, eventually, options
from tests.netns.upgrading import RELOAD, attached, plan, report, start, start_words
from tests.netns.watching import watching

pytestmark = pytest.mark.slow  # a journald each

_OURS = re.compile("[A-Z][A-Z_]*")


@pytest.fixture
def journal(rig: Rig) -> Iterator[Journal]:
    with journald_on(rig) as running:
        yield running


def ours(entry: Json) -> Json:
    """The fields that we wrote, without those that journald adds."""
    return {name: value for name, value in entry.items() if _OURS.fullmatch(name)}


def events(journal: Journal) -> list[Json]:
    """All events, each with what all have checked and taken away."""
    found = []
    for entry in journal.entries():
        fields = ours(entry)
        kind = fields["EVENT"]
        message_id, priority = KINDS[kind]
        assert fields.pop("MESSAGE_ID") == message_id
        assert fields.pop("PRIORITY") == str(priority)
        assert fields.pop("SYSLOG_IDENTIFIER") == "cni-repair"
        assert fields.pop("VERSION") == __version__
        assert re.fullmatch(r".+\[\d+\]", fields.pop("CALLER"))
        assert (entry["_UID"], entry["_TRANSPORT"]) == ("0", "journal")
        found.append(fields)
    return found


def about(pod: Any, **more: str) -> Json:
    named = {"CNI_CONTAINERID": pod.id, "IFNAME": "eth0", "POD": f"shop/{pod.name}"}
    return {**named, "NETWORK": "pods", **more}


def title(pod: Any) -> str:
    return f"shop/{pod.name} {pod.id[:12]} eth0"


def write(rig: Rig, code: str, user: str = "", drain: float = HANG_SECONDS) -> None:
    """Have a process on the node write events, and wait until the journal has taken them."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom cni_repair.base import log\n"
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    said = rig.run(*become, sys.executable, "-ISB", "-c", f"{program}{code}\nlog.drain({drain})")
    assert (said.out, said.err) == ("", "")


# --- the protocol -----------------------------------------------------------------------------


def test_a_value_cannot_forge_a_field(rig: Rig, journal: Journal) -> None:
    pod = "shop/web\nMESSAGE_ID=0\nPRIORITY=0\n_UID=1\n\nMESSAGE=forged"
    reason = "a=b\n\0\x1b[31m\udcff \ud800 ü"
    write(rig, f"log.event('refused', 'x\\nEVENT=healed', POD={pod!r}, REASON={reason!r})")
    (found,) = events(journal)
    assert found == {
        "EVENT": "refused",
        "MESSAGE": "x\nEVENT=healed",
        "POD": pod,
        "REASON": [*"a=b\n\0\x1b[31m\\udcff \\ud800 ü".encode()],  # as it prints odd bytes
    }


def test_more_than_a_datagram_holds(rig: Rig, journal: Journal) -> None:
    write(rig, "log.event('failed', 'many findings', REASON='line\\n' * 400_000, STEPS=3)")
    (found,) = events(journal)
    assert found == {
        "EVENT": "failed",
        "MESSAGE": "many findings",
        "REASON": "line\n" * 400_000,
        "STEPS": "3",
    }


def test_more_events_than_the_journal_takes_at_once(rig: Rig, journal: Journal) -> None:
    write(rig, "for n in range(2000): log.event('healed', str(n))")
    assert [event["MESSAGE"] for event in events(journal)] == [*map(str, range(2000))]


def test_every_kind_is_written(rig: Rig, journal: Journal) -> None:
    write(rig, "for kind in log.KINDS: log.event(kind, 'x')")
    assert [event["EVENT"] for event in events(journal)] == [*KINDS]


def test_nothing_is_an_empty_field(rig: Rig, journal: Journal) -> None:
    write(rig, "log.event('added', 'x', POD='', MASTER=None, OUTAGE_MS=0)")
    assert events(journal) == [{"EVENT": "added", "MESSAGE": "x", "OUTAGE_MS": "0"}]


def test_only_roots_events_are_written(rig: Rig, journal: Journal) -> None:
    write(rig, "log.event('added', 'a user')", user="65534")
    write(rig, "log.event('added', 'root')")
    assert [event["MESSAGE"] for event in events(journal)] == ["root"]


_FULL = f"""
import socket
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
import os
os.makedirs(os.path.dirname({SOCKET!r}))
journal.bind({SOCKET!r})
"""


def test_a_journal_that_reads_nothing_holds_nobody(rig: Rig) -> None:
    """As journald does when it hangs: its socket fills up."""
    write(rig, _FULL + "for n in range(10_000): log.event('healed', 'x' * 300)", drain=0.1)


def test_what_the_journal_had_no_room_for_comes_later(rig: Rig) -> None:
    write(
        rig,
        _FULL
        + """
for n in range(1000): log.event('healed', str(n))
journal.setblocking(False)
got = []
while True:
    try:
        got.append(journal.recv(4096))
    except BlockingIOError:
        if len(got) == 1000: break
        log.drain(0.01)
assert [b'MESSAGE=%d\\n' % n in one for n, one in enumerate(got)] == [True] * 1000
""",
    )


@pytest.mark.parametrize(
    "there",
    [
        "pass",
        # A socket that nobody listens on any more.
        _FULL + "journal.close()",
        _FULL + f"journal.close(); os.unlink({SOCKET!r}); os.mkdir({SOCKET!r})",
    ],
    ids=["none", "deaf", "odd"],
)
def test_without_a_journal(rig: Rig, there: str) -> None:
    """Nobody hears of it: neither an exception, nor a word on stderr or stdout."""
    write(rig, there + "\nlog.event('added', 'x')")


def test_plain_lines_where_there_is_no_journal(rig: Rig) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom cni_repair.base import log\n"
        "log.use_stderr()\n"
        "log.event('lost', 'gone\\n\\x1b[31m', POD='a/b', OUTAGE_MS=3, CAUSE='')\n"
        "log.event('lost', 'x' * 9999)\n"
    )
    done = rig.run(sys.executable, "-ISB", "-c", code)
    first, second = done.err.splitlines()
    assert first == "cni-repair: lost: gone??[31m [POD=a/b] [OUTAGE_MS=3]"
    assert second == "cni-repair: lost: " + "x" * (4095 - len("cni-repair: lost: "))
    assert done.out == ""


def test_a_full_pipe_holds_nobody(rig: Rig) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom cni_repair.base import log\n"
        "import os\n"
        "reader, writer = os.pipe(); os.dup2(writer, 2)\n"
        "log.use_stderr()\n"
        "for _ in range(1000): log.event('lost', 'x' * 1000)\n"
        "print('done')\n"
    )
    assert rig.run(sys.executable, "-ISB", "-c", code).out == "done\n"


# --- the verbs --------------------------------------------------------------------------------


def test_add_and_del(rig: Rig, journal: Journal) -> None:
    web = rig.attach("web")
    rig.plugin("DEL", web.pod).ok()
    rig.plugin("DEL", web.pod).ok()
    added, deleted, again = events(journal)
    address = web.result["ips"][0]["address"]
    assert added == about(
        web.pod,
        EVENT="added",
        COMMAND="ADD",
        MESSAGE=f"added {title(web.pod)}: {address}",
        ADDRESSES=address,
        MASTER="eth0",
    )
    assert deleted == about(
        web.pod, EVENT="deleted", COMMAND="DEL", MESSAGE=f"deleted {title(web.pod)}"
    )
    assert again == deleted


def test_an_add_that_failed(rig: Rig, journal: Journal) -> None:
    pod = rig.pod("web")
    error = rig.plugin("ADD", pod, rig.conf(master="eth9")).error(11).removesuffix(": ")
    (failed,) = events(journal)
    assert failed == about(
        pod,
        EVENT="failed",
        COMMAND="ADD",
        CODE="11",
        MESSAGE=f"ADD {title(pod)}: {error}",
        REASON=error,
    )


def test_a_call_that_makes_no_sense(rig: Rig, journal: Journal) -> None:
    error = rig.plugin("ADD", rig.pod("web"), CNI_CONTAINERID="../x").error(4)
    (failed,) = events(journal)
    assert (failed["EVENT"], failed["CNI_CONTAINERID"], failed["REASON"]) == (
        "failed",
        "../x",
        error,
    )


def test_what_is_asked_all_the_time_is_no_event(rig: Rig, journal: Journal) -> None:
    rig.plugin("VERSION").ok()
    rig.plugin("STATUS").ok()
    rig.uplink_down()
    rig.plugin("STATUS", conf=rig.conf(statusGrace=0)).error(50)
    web = rig.pod("web")
    rig.plugin("DEL", web).ok()
    assert [event["EVENT"] for event in events(journal)] == ["deleted"]


def test_del_without_a_master(rig: Rig, journal: Journal) -> None:
    """The macvlan plugin fails then: that we freed the address is worth a word."""
    web = rig.attach("web")
    rig.uplink_down()
    rig.plugin("DEL", web.pod).ok()
    _, deleted = events(journal)
    assert deleted["EVENT"] == "deleted"
    assert deleted["REASON"].startswith("plugin macvlan: ")
    assert deleted["REASON"].endswith("; what it left was cleaned up")


def test_repair_tells_of_what_was_lost_alone(rig: Rig, journal: Journal) -> None:
    lost, well = rig.attach("lost"), rig.attach("well")
    rig.ip("link delete eth0", lost.pod)
    report = rig.plugin("REPAIR").report(0)
    assert len(report["attachments"]) == 2
    repaired, total = events(journal)[2:]
    assert repaired.pop("MESSAGE").startswith(f"repaired {title(lost.pod)} (lost: ")
    assert repaired.pop("CAUSE").startswith("lost: ")
    assert int(repaired.pop("STEPS")) > 0
    assert repaired == about(
        lost.pod, EVENT="repaired", COMMAND="REPAIR", STATE="healthy", MASTER="eth0"
    )
    took = total.pop("TOOK_MS")
    assert total == {
        "EVENT": "repaired",
        "COMMAND": "REPAIR",
        "MESSAGE": f"repaired 1 of 2 attachments in {took} ms",
        "ATTACHMENTS": "2",
        "REPAIRED": "1",
        "DAMAGED": "0",
    }
    rig.plugin("REPAIR").report(0)
    rig.plugin("DEL", well.pod).ok()
    assert [event["EVENT"] for event in events(journal)[4:]] == ["deleted"]


_A_WORKER_IS_KILLED = """
import os
from cni_repair.repair import scheduler, transfer, workers
scheduler.usable_processors = lambda: 2
scheduler._WORTH_A_PROCESS = 1
transfer.SharedRepair._repair_there = lambda *_: os.kill(os.getpid(), 9)
# (The first process might be done before the other has begun.)
mine = workers.Workers.mine
def late(self):
    os.waitid(os.P_PID, self._processes[0], os.WEXITED | os.WNOWAIT)
    return mine(self)
workers.Workers.mine = late
"""


def test_a_process_of_a_repair_that_is_killed(rig: Rig, journal: Journal) -> None:
    """As by the kernel, where memory is short: another repairs its pods, and nobody would know."""
    names = [f"web{number}" for number in range(8)]
    for name in names:
        rig.ip("link delete eth0", rig.attach(name).pod)
    rig.plugin("REPAIR", patch=_A_WORKER_IS_KILLED).report(0)
    told = [event for event in events(journal) if event["COMMAND"] == "REPAIR"]
    text = "a process that repaired pods was killed by signal 9"
    assert told[0] == {"EVENT": "trouble", "COMMAND": "REPAIR", "MESSAGE": text}
    assert sorted(one["POD"] for one in told[1:-1]) == [f"shop/{name}" for name in names]
    assert {one["EVENT"] for one in told[1:]} == {"repaired"}


def test_what_is_in_the_way_is_said_in_the_line_itself(rig: Rig, journal: Journal) -> None:
    """Who reads by journalctl sees MESSAGE alone: what the pod lacks, and why that stays so."""
    web = rig.attach("web")
    rig.uplink_down()
    rig.plugin("REPAIR", web.pod).error(11)
    failed = events(journal)[-1]
    assert failed["MESSAGE"] == f"failed, still lost: {title(web.pod)} ({failed['REASON']})"
    assert failed["REASON"].endswith("eth0 does not exist: repair again once it is there")


def test_a_refusal_is_told_once(rig: Rig, journal: Journal) -> None:
    web = rig.attach("web")
    rig.ip("link delete eth0", web.pod)
    rig.ip("link add eth0 type veth peer name other", web.pod)
    rig.plugin("REPAIR", web.pod).error(102)
    rig.plugin("DEL", web.pod).ok()
    _, refused, deleted = events(journal)
    assert refused.pop("MESSAGE").startswith(f"refused, still foreign: {title(web.pod)} (eth0 is ")
    assert refused.pop("CAUSE") == f"foreign: {refused['REASON']}"
    assert "eth0" in refused.pop("REASON")
    assert refused == about(
        web.pod, EVENT="refused", COMMAND="REPAIR", STATE="foreign", MASTER="eth0", STEPS="0"
    )
    assert deleted["EVENT"] == "deleted"


def test_check_that_repairs(rig: Rig, journal: Journal) -> None:
    conf = rig.conf(repairOnCheck=True)
    web = rig.attach("web", conf)
    conf["prevResult"] = web.result
    rig.plugin("CHECK", web.pod, conf).ok()
    rig.ip("link delete eth0", web.pod)
    rig.plugin("CHECK", web.pod, conf).ok()
    _, repaired = events(journal)
    assert (repaired["EVENT"], repaired["COMMAND"]) == ("repaired", "CHECK")


def test_gc_tells_whom_it_deleted(rig: Rig, journal: Journal) -> None:
    web, kept = rig.attach("web"), rig.attach("kept")
    valid = [{"containerID": kept.pod.id, "ifname": "eth0"}]
    conf = {**rig.conf(), "cni.dev/valid-attachments": valid}
    rig.plugin("GC", conf=conf).ok()
    *_, deleted = events(journal)
    why = "the runtime does not have it any more"
    assert deleted == about(
        web.pod,
        EVENT="deleted",
        COMMAND="GC",
        MESSAGE=f"deleted {title(web.pod)}: {why}",
        CAUSE=why,
    )


# --- the commands -----------------------------------------------------------------------------


def test_repair_by_hand(rig: Rig, journal: Journal) -> None:
    web = rig.attach("web")
    rig.ip("link delete eth0", web.pod)
    assert rig.cli("repair", "--all", "--dry-run", *options(rig)).status == 1
    assert rig.cli("repair", "--all", *options(rig)).status == 0
    assert rig.cli("repair", "--all", *options(rig)).status == 0
    _, repaired = events(journal)
    assert (repaired["EVENT"], repaired["COMMAND"], repaired["POD"]) == (
        "repaired",
        "repair",
        "shop/web",
    )


def test_snapshot_and_forget(rig: Rig, journal: Journal) -> None:
    web = rig.attach("web")
    rig.ip("route add 198.51.100.0/24 dev eth0", web.pod)
    rig.cli("snapshot", "--check", *options(rig))
    rig.cli("snapshot", *options(rig))
    _, refreshed, total = events(journal)
    assert refreshed == about(
        web.pod,
        EVENT="snapshot",
        COMMAND="snapshot",
        MESSAGE=f"record of {title(web.pod)} brought up to date",
        STATE="healthy",
        MASTER="eth0",
    )
    assert (total["EVENT"], total["ATTACHMENTS"], total["RESTORABLE"]) == ("snapshot", "1", "1")
    rig.drop_pod(web.pod)
    assert rig.cli("forget", "--stale", "--dry-run", *options(rig)).status == 0
    assert rig.cli("forget", "--stale", *options(rig)).status == 0
    *_, forgotten = events(journal)
    assert forgotten.pop("MESSAGE") == f"forgot {title(web.pod)}: {forgotten.pop('REASON')}"
    assert forgotten == about(
        web.pod, EVENT="forgotten", COMMAND="forget", STATE="stale", MASTER="eth0"
    )


def test_adopt(rig: Rig, journal: Journal) -> None:
    web = rig.attach("web")
    legacy = rig.checkpoint(web.pod)
    cache = rig.base / "cache/results"
    cache.mkdir(parents=True, mode=0o700)
    legacy.unlink()
    conf = {**rig.conf(), "type": "macvlan"}
    entry = {
        "kind": "cniCacheV1",
        "containerId": web.pod.id,
        "config": base64.b64encode(json.dumps({**conf, "plugins": [conf]}).encode()).decode(),
        "ifName": "eth0",
        "networkName": conf["name"],
        "netns": web.pod.path,
        "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web"]],
        "result": web.result,
    }
    (cache / f"pods-{web.pod.id}-eth0").write_text(json.dumps(entry))
    words = ("adopt", "--cache-dir", str(cache.parent), *options(rig))
    assert rig.cli(*words).status == 0
    assert rig.cli(*words, "--write").status == 0
    _, adopted = events(journal)
    assert adopted == about(
        web.pod, EVENT="adopted", COMMAND="adopt", MESSAGE=f"adopted {title(web.pod)}"
    )


def test_an_upgrade(rig: Rig, journal: Journal) -> None:
    """Each phase, the links, and a line for each pod."""
    pods = attached(rig)
    assert start(rig, plan(rig)).status == 0
    told = [event for event in events(journal) if event["COMMAND"] == "upgrade"]
    phases = [event["PHASE"] for event in told if "PHASE" in event]
    assert phases == [*PHASES]
    assert told[0]["MESSAGE"] == f"upgrade by {rig.base}/plan.yaml begins"
    assert told[-1] == {
        "EVENT": "upgrade",
        "COMMAND": "upgrade",
        "MESSAGE": "upgrade ended well",
        "STATUS": "0",
    }
    links = [(event["EVENT"], event["MASTER"]) for event in told if "uplink" in event["EVENT"]]
    assert links == [("uplink-lost", "eth0"), ("uplink-back", "eth0")]
    outages = {one["containerID"]: one["outageMs"] for one in report(rig)["attachments"]}
    repaired = [event for event in told if event["EVENT"] == "repaired"]
    assert {one["CNI_CONTAINERID"]: int(one["OUTAGE_MS"]) for one in repaired} == outages
    assert [one["CAUSE"] for one in repaired] == ["lost: the pod's eth0 is gone"] * len(pods)


def test_an_upgrade_that_failed(rig: Rig, journal: Journal) -> None:
    attached(rig, 1)
    assert start(rig, plan(rig, f"{RELOAD}; exit 7")).status == 1
    failed = [event for event in events(journal) if event["EVENT"] == "failed"]
    assert [one["MESSAGE"] for one in failed[1:]] == ["upgrade ended, and something failed"]
    assert failed[0]["PHASE"] == "driver" and "exit 7" in failed[0]["REASON"]


def test_an_upgrade_that_was_refused(rig: Rig, journal: Journal) -> None:
    attached(rig, 1)
    path = plan(rig, "/no/such/command")
    rig.cli(*start_words(rig, path), "--dry-run")
    assert start(rig, path).status == 3
    _, begun, *refused = events(journal)
    assert begun["EVENT"] == "upgrade"
    assert [(one["EVENT"], one.get("PHASE")) for one in refused] == [
        ("failed", "preflight"),
        ("failed", None),
    ]
    assert refused[1]["MESSAGE"] == "upgrade refused, nothing was touched"


def test_daemon_tells_later_what_the_journal_had_no_room_for(rig: Rig) -> None:
    """Not with the next event: that may be months away."""
    path = Path(rig.outside(SOCKET))
    path.parent.mkdir(parents=True)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        full.bind(str(path))
        full.setblocking(False)
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"MESSAGE=of another", str(path))

        def is_told() -> bool:
            with contextlib.suppress(BlockingIOError):
                return b"MESSAGE=the node is watched" in full.recv(4096)
            return False

        with watching(rig) as watch:
            watch.until(lambda status: status["lastLook"], "a first look")
            eventually(is_told, "its first event")


def test_a_night_of_the_daemons(rig: Rig, journal: Journal) -> None:
    """The uplink goes and returns: nobody is there, and in the morning it is all to be read."""
    pods = attached(rig)
    with watching(rig) as watch:
        watch.until_healthy(len(pods))
        rig.uplink_down()
        watch.until_armed(len(pods))
        rig.uplink_up()
        watch.until_healed(len(pods))
        assert watch.end() == 0
        assert watch.said == ""
    told = [event for event in events(journal) if event["COMMAND"] == "watch"]
    kinds = [event["EVENT"] for event in told]
    assert [kinds[0], kinds[-1]] == ["started", "stopped"]
    order = ["uplink-lost", "armed", "uplink-back", "healed"]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    healed = [event for event in told if event["EVENT"] == "healed"]
    assert sorted(event["POD"] for event in healed) == sorted(
        f"shop/{one.pod.name}" for one in pods
    )
    shown = [one for one in log(rig, *(one.pod.id for one in pods)) if one["event"] == "healed"]
    assert [one["outageMs"] for one in shown] == [int(one["OUTAGE_MS"]) for one in healed]


# --- `cni-repair log` -------------------------------------------------------------------------


def log(rig: Rig, *words: str) -> list[Json]:
    found: list[Json] = json.loads(rig.cli("log", "-o", "json", *words).out)["events"]
    return found


def test_log_shows_what_was_written(rig: Rig, journal: Journal) -> None:
    web, db = rig.attach("web"), rig.attach("db")
    rig.ip("link delete eth0", web.pod)
    rig.plugin("REPAIR", web.pod).ok()
    journal.sync()
    assert [(one["event"], one["pod"]) for one in log(rig)] == [
        ("added", "shop/web"),
        ("added", "shop/db"),
        ("repaired", "shop/web"),
    ]
    for name in ("shop/web", "web", web.pod.id, web.pod.id[:6]):
        assert [one["event"] for one in log(rig, name)] == ["added", "repaired"], name
    assert [one["event"] for one in log(rig, "-n", "1")] == ["repaired"]
    assert [one["event"] for one in log(rig, "web", "db", "-n", "2")] == ["added", "repaired"]
    assert log(rig, "shop/no-such-pod") == []
    assert len(log(rig, "--since", "1h")) == 3
    assert log(rig, "--since", "2037-01-01") == []
    (one,) = log(rig, "db")
    assert one["containerID"] == db.pod.id
    assert one["more"].keys() == {"ADDRESSES", "PRIORITY", "VERSION"}


def test_log_as_a_table(rig: Rig, journal: Journal) -> None:
    web = rig.attach("web")
    rig.ip("link delete eth0", web.pod)
    rig.plugin("REPAIR", web.pod).ok()
    journal.sync()
    lines = rig.cli("log").out.splitlines()
    day = re.compile(r"\d{4}-\d\d-\d\d [+-]\d{4}")
    assert day.fullmatch(lines[1])
    # (At midnight there is another day between.)
    header, added, address, repaired, *why = [one for one in lines if not day.fullmatch(one)]
    assert header.split() == ["TIME", "EVENT", "POD", "IFNAME", "OUTAGE"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  added +shop/web  eth0 +-", added)
    assert address == f"    ADD: {web.result['ips'][0]['address']}"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  repaired +shop/web  eth0 +-", repaired)
    assert why[0].startswith("    REPAIR: lost: ")
    assert all(len(line) <= 80 for line in why)


def test_log_believes_root_alone(rig: Rig, journal: Journal) -> None:
    """Anybody on the node can write to its journal, with our identifier and MESSAGE_ID."""
    forge = (
        f"import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        f"s.sendto(b'MESSAGE=forged\\nSYSLOG_IDENTIFIER=cni-repair\\nEVENT=healed\\n', {SOCKET!r})"
    )
    someone = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    rig.run(*someone, sys.executable, "-ISc", forge)
    write(rig, "log.event('healed', 'true')")
    journal.sync()
    assert [one["message"] for one in log(rig)] == ["true"]


def test_log_cannot_steer_a_terminal(rig: Rig, journal: Journal) -> None:
    write(rig, "log.event('healed', 'x', POD='a\\x1b[31m\\nb', CNI_CONTAINERID='c', CAUSE='\\r!')")
    journal.sync()
    said = rig.cli("log").out
    assert "a?[31m b" in said and "\x1b" not in said and "\r" not in said
    assert log(rig)[0]["pod"] == "a\x1b[31m\nb"


def test_log_of_a_nodes_files(rig: Rig, journal: Journal) -> None:
    write(rig, "log.event('healed', 'x')")
    journal.sync()
    (directory,) = rig.run("sh", "-c", "echo /run/log/journal/*").out.split()
    assert [one["event"] for one in log(rig, "--directory", directory)] == ["healed"]
    missing = rig.cli("log", "--directory", "/no/such")
    assert missing.status == 2
    assert missing.err == "cni-repair: /no/such is no directory: correct --directory\n"


def test_log_where_nothing_was_written(rig: Rig, journal: Journal) -> None:
    assert rig.cli("log").out == "the journal has no event of cni-repair\n"
    said = rig.cli("log", "web", "--since", "2026-01-02 03:04").out
    since = "about web since 2026-01-02 03:04:00"
    assert said.startswith(f"the journal has no event of cni-repair {since}")


def test_log_without_a_journal(rig: Rig) -> None:
    rig.run("mount", "-t", "tmpfs", "log", "/var/log")
    done = rig.cli("log")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "cni-repair: this machine keeps no journal: there is no /var/log/journal and no"
        " /run/log/journal: in a container, name the node's: --directory /host/var/log/journal\n"
    )


def test_log_without_journalctl(rig: Rig, journal: Journal) -> None:
    done = rig.run("env", f"PATH={rig.base}", rig.launcher(), "log", check=False)
    assert done.status == 1
    assert done.err.startswith("cni-repair: there is no journalctl here: ")


def test_log_for_somebody_who_may_not_read_the_journal(rig: Rig, journal: Journal) -> None:
    someone = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    rig.base.chmod(0o755)
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; sys.argv[1:] = ['log']\n"
    code += "from cni_repair.__main__ import console; console()"
    done = rig.run(*someone, sys.executable, "-ISBc", code, check=False)
    assert done.status == 1
    assert done.err.startswith("cni-repair: you may not read the journal in /run/log/journal: ")
