"""What `-o json` prints is as its published schema says. (Every document that a test in tests/netns
reads is checked, too: see Rig.cli and Rig.plugin.)"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cni_repair.adoption.caches import Unreadable
from cni_repair.adoption.uncovered import Uncovered
from cni_repair.adoption.verdict import Adoption
from cni_repair.base.errors import BAD_CHECKPOINT, TRY_AGAIN, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from cni_repair.cli.commands import adopt, log, validate
from cni_repair.cli.commands.watch import document
from cni_repair.cli.journal import Entry
from cni_repair.cli.validation.findings import Part, note, warning
from cni_repair.network.reachability.duplicates import Holder
from cni_repair.network.reachability.gateways import ANSWERED, SILENT, Gateway
from cni_repair.node import forget, verify
from cni_repair.node import report as reports
from cni_repair.node.asking import Answers
from cni_repair.node.discovery import Unmanaged
from cni_repair.node.report import STATES, Report
from cni_repair.node.snapshot import KEPT, REFRESHED, UNCHANGED, Snapshot, judge
from cni_repair.upgrade import progress, verdict
from cni_repair.upgrade import report as upgrades
from cni_repair.upgrade.baseline import LinkFacts, Measure, facts_of
from cni_repair.upgrade.planfile import plan_of
from cni_repair.upgrade.pods import pod_results
from cni_repair.upgrade.progress import (
    CUT_SHORT,
    ENDED,
    NONE,
    PHASES,
    REBOOTED,
    RUNNING,
    progress_of,
)
from cni_repair.upgrade.report import Seen
from cni_repair.watch import rundir
from cni_repair.watch import status as watch
from cni_repair.watch.pausing import Pause
from tests.outputs import SCHEMAS, is_valid, mistakes_in, schema, schema_for
from tests.unit.samples import CHECKPOINT, KEY, NETNS, run_module
from tests.unit.watching import STATUS

NAMES = sorted(path.name for path in SCHEMAS.glob("*.json"))
AWAY = CniError(TRY_AGAIN, "master eth0 does not exist", "repair again once it is there")
BARE = Unmanaged("/run/netns/bare", "net1", "eth0", "ipvlan")
NOON = 1_700_000_000.25

REPORTS = [
    Report(KEY, CHECKPOINT, NETNS, "healthy"),
    Report(KEY, CHECKPOINT, NETNS, "healthy", (), ("ip link set up dev eth0",), None, ("moved",)),
    Report(KEY, CHECKPOINT, NETNS, "lost", ("eth0 is gone",), ("ip link add",)),
    Report(KEY, CHECKPOINT, NETNS, "lost", ("eth0 is gone",), (), AWAY),
    Report(KEY, CHECKPOINT, NETNS, "degraded", ("eth0 has no carrier",)),
    Report(KEY, CHECKPOINT, NETNS, "stale", error=CniError(103, "the node was rebooted")),
    Report(KEY, CHECKPOINT, NETNS, "foreign", ("eth0 is a bridge",)),
    Report(KEY, None, "", "unreadable", error=CniError(BAD_CHECKPOINT, "not used", "torn")),
]


# --- documents, in every variant -----------------------------------------------------------------


def verified() -> list[verify.Verdict]:
    gateways = (Gateway("10.9.0.1", ANSWERED, "02:00:00:00:00:01", 1.5), Gateway("fe80::1", SILENT))
    answers = [
        Answers(),
        Answers(gateways=gateways),
        Answers(holders=(Holder("10.9.0.7", "02:00:00:00:00:07"),)),
        Answers(dadfailed=("fd00::7",), carrier=False),
        Answers(error=AWAY),
    ]
    pods = {"02:00:00:00:00:07": verify.PodHere("shop/other")}
    return [verify.judge(report, one, pods) for report in REPORTS for one in answers]


def snapshots() -> Iterator[Snapshot]:
    records = [judge(report) for report in REPORTS]
    yield Snapshot((), ())
    yield Snapshot(tuple(records), (BARE,))
    refreshed = replace(records[0], outcome=REFRESHED, findings=("the node's side",))
    yield Snapshot((refreshed, replace(records[0], outcome=KEPT, failed=True)), ())


def forgotten() -> list[forget.Forgotten]:
    living = forget.StillOwned("its pod lives")
    return [
        forget.Forgotten(REPORTS[5], forget.FORGOTTEN, "the node was rebooted", None, ("/d/f",)),
        forget.Forgotten(REPORTS[5], forget.FORGETTABLE, "the node was rebooted"),
        *(forget.Forgotten(report, forget.KEPT, error=living) for report in REPORTS),
    ]


def adopted() -> list[Adoption]:
    blank = Adoption(KEY, "/var/lib/cni/results/x", "", NETNS, "podnet", model.Pod("shop", "a"))
    states = [replace(blank, state=state, reason="why") for state in adopt._STATES]
    known = replace(blank, state="adopted", checkpoint=CHECKPOINT, unknown=("its MTU",))
    nameless = replace(known, checkpoint=replace(CHECKPOINT, pod=model.Pod()), pod=model.Pod())
    return [*states, known, nameless]


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"event": kind, "at": NOON, **more}


def ended(phase: str, **data: Any) -> dict[str, Any]:
    return event("done", phase=phase, ok=True, words="fine", data=data)


PLAN = {"version": 1, "driver": {"command": ["/bin/true"]}, "kubelet": "none"}
BEGIN = event("begin", version=1, plan=PLAN, planFile="/p", options={}, bootId="b", pid=7)
KUBELET = [
    event("kubelet", unit="kubelet.service", active=True, masked=False),
    event("deadman", until=NOON + 600),
]
FAILED_DRIVER = {**ended("driver"), "ok": False}
RESUMED = event("resume", bootId="b", pid=8)
WENT = [event("lost", link="eth0"), event("lost", link="eth0.3"), event("back", link="eth0")]
# As 0.1.0 wrote it before its documents had schemas.
OLD = [
    ended(
        "repair",
        pods=[
            {"containerID": "c", "ifname": "eth0", "pod": "shop/a", "title": "shop/a c eth0",
             "state": state, "lost": ["eth0 is gone"], "actions": ["one"], "outageMs": 12,
             "reason": reason, "givenUp": False}
            for state, reason in (("healthy", ""), ("lost", "no master"))
        ],
    ),
    ended(
        "verify",
        verdicts=[
            {"containerID": "c", "ifname": "eth0", "netns": "/n", "pod": "shop/a",
             "state": "healthy", "verdict": "healthy", "gateways": []},
            {"containerID": "d", "ifname": "eth0", "netns": "/n", "pod": "shop/a",
             "state": "lost", "verdict": "lost", "gateways": [], "reason": "eth0 is gone"},
        ],
    ),
]  # fmt: skip


LINKS = {
    "eth0": LinkFacts("eth0", True, True, True, 1500, driver="i40e", version="2.8.20"),
    "eth1": LinkFacts("eth1", there=False, bond="bond4"),
}
MEASURE = Measure(LINKS, {str(n): facts_of(one) for n, one in enumerate(verified())})


def upgraded() -> Iterator[dict[str, Any]]:
    pods = pod_results([REPORTS[2]], [REPORTS[1]], {KEY.name: NOON + 1}, progress_of([BEGIN]))
    after = [
        ended("snapshot", notRestorable=["web-2 eth0: foreign"], before=[]),
        ended("repair", pods=[one.document() for one in pods]),
        ended(
            "verify",
            verdicts=[one.document() for one in verified()[:6]],
            after=Measure(LINKS, MEASURE.pods).document(),
        ),
    ]
    before = event("before", **Measure({"eth0": LINKS["eth0"]}, MEASURE.pods).document())
    histories: list[list[dict[str, Any]]] = [
        [BEGIN],
        [BEGIN, event("phase", phase="hold"), *KUBELET],
        [BEGIN, before, *KUBELET, *WENT, *after, event("end", status=0)],
        [BEGIN, *OLD, event("end", status=1)],
        [BEGIN, ended("preflight", problems=["x"]), event("end", status=3)],
        [BEGIN, FAILED_DRIVER, event("end", status=1), RESUMED, event("end", status=0)],
        [BEGIN, FAILED_DRIVER, event("end", status=1), event("end", status=1, givenUp=True)],
    ]
    standings = (RUNNING, CUT_SHORT, ENDED, REBOOTED, ENDED, ENDED, ENDED)
    assert len(histories) == len(standings)
    for events, standing in zip(histories, standings):
        yield upgrades.document(progress_of(events), Seen(standing, NOON, cards=LINKS))
    yield upgrades.document(progress_of([]), Seen(NONE, NOON))


def watched() -> Iterator[tuple[str, Any]]:
    on_disk = {"schemaVersion": 1, "bootId": "b", "updated": 12.5, **STATUS}
    blank = {**on_disk, "attachments": {}, "byNetwork": {}, "masters": [], "refused": []}
    heals = {"total": 0, "failed": 0, "lastAt": None, "lastOutageMs": None}
    blank = {**blank, "heals": heals, "lastLook": None, "config": ""}
    for standing in (watch.RUNNING, watch.HUNG, watch.DEAD):
        for status in (on_disk, blank):
            yield "watch.json", document(watch.Standing(standing, status, 1.25), None)
    none = watch.Standing(watch.NONE, None, 0.0)
    yield "watch.json", document(none, Pause(rundir.boot_time() + 60, "bob", "a cable"))


def logged() -> list[Entry]:
    """An event that says all that there is, and one that says nothing."""
    known = {"MESSAGE": "x", "EVENT": "healed", "OUTAGE_MS": "7", "STEPS": "3", "_PID": "1"}
    return [Entry(NOON, known), Entry(NOON, {"OUTAGE_MS": "long"})]


def documents() -> Iterator[tuple[str, Any]]:
    """(schema, document): all that is printed, as the code that prints it makes it."""
    bare = Uncovered((BARE, replace(BARE, state="lost", container_id="c", owner="docker")))
    for found in ([], REPORTS):
        yield "status.json", bare.added_to(reports.document(found, "1.0.0"))
    for name in ("repair.json", "plan.json"):
        yield name, reports.document([], "1.0.0")
        yield name, reports.document(REPORTS, "1.0.0")
    yield "verify.json", Uncovered().added_to(verify.document([]))
    yield "verify.json", bare.added_to(verify.document(verified()))
    yield from (("snapshot.json", one.document()) for one in snapshots())
    bad = Unreadable("/var/lib/cni/results/y", CniError(6, "torn"))
    yield "forget.json", forget.document([], False)
    yield "forget.json", forget.document(forgotten(), True)
    yield "adopt.json", adopt.document(adopt.Found([], [], []), True)
    yield "adopt.json", adopt.document(adopt.Found(adopted(), [bad], [BARE]), False)
    yield from (("upgrade.json", one) for one in upgraded())
    told = (warning("$.vlan", "not a key", "did you mean 'vlanId'?"), note("$", "passed on"))
    yield "log.json", log.document([])
    yield "log.json", log.document(logged())
    yield "validate.json", validate.document([validate.File("/p", (Part(1, "record", told),))])
    yield from watched()
    yield (
        "upgrade-dry-run.json",
        upgrades.dry_run_document(plan_of(PLAN), ["preflight  x"], ["no command"], MEASURE),
    )


DOCUMENTS = list(documents())
IDS = [f"{name}-{number}" for number, (name, _) in enumerate(DOCUMENTS)]


@pytest.mark.parametrize(("name", "document"), DOCUMENTS, ids=IDS)
def test_document_is_as_published(name: str, document: Any) -> None:
    assert mistakes_in(json.loads(json.dumps(document)), name) == []


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, (dict, list)):
            yield from objects(part)


# One that is as large as this is looked at as often as it has objects: for seconds.
LARGE = 60
SLOW = [pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "document"),
    [
        pytest.param(*case, id=name, marks=SLOW if len([*objects(case[1])]) > LARGE else [])
        for case, name in zip(DOCUMENTS, IDS)
    ],
)
def test_document_with_a_key_that_is_not_published_fails(name: str, document: Any) -> None:
    """Wherever it is: no object of any document is open. (Nor has one a key with a blank.)"""
    spoilt = copy.deepcopy(document)
    for part in objects(spoilt):
        part["left alone"] = 1
        assert not is_valid(spoilt, name), part
        del part["left alone"]
    assert is_valid(spoilt, name)


def test_a_key_with_a_blank_is_named() -> None:
    document = adopt.document(adopt.Found([], [], []), False)
    document["summary"]["left alone"] = 1
    (mistake,) = mistakes_in(document, "adopt.json")
    assert mistake.startswith("$.summary: Additional properties are not allowed ('left alone' was")


@pytest.mark.parametrize(("name", "document"), DOCUMENTS, ids=IDS)
def test_document_without_one_of_its_keys_fails(name: str, document: Any) -> None:
    for key in [one for one in document if one != "plan"]:
        rest = {**document}
        del rest[key]
        assert not is_valid(rest, name), key


def test_an_attachment_begins_the_same_in_all_documents() -> None:
    keys = list(reports.attachment_document(KEY, CHECKPOINT, NETNS, "healthy"))
    found = [one for _, document in DOCUMENTS for one in document.get("attachments", [])]
    assert len(found) > 50
    for one in found:
        assert set(keys) <= one.keys()


# --- the schemas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_valid(name: str) -> None:
    published = schema(name)
    assert published["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_camel_case(name: str) -> None:
    keys = [key for part in objects(schema(name)) for key in part.get("properties", {})]
    assert [key for key in keys if not re.fullmatch(r"[a-z]+([A-Z][a-z]+|ID)*", key)] == []


def test_schemas_know_every_state() -> None:
    common = schema("common.json")["$defs"]
    assert common["state"]["enum"] == list(STATES)
    assert set(common["verified"]["properties"]["verdict"]["enum"]) == set(verify.VERDICTS)
    adopts = schema("adopt.json")["properties"]["attachments"]["items"]["properties"]
    assert set(adopts["state"]["enum"]) == set(adopt._STATES)
    report = schema("upgrade.json")
    assert report["$defs"]["phase"]["enum"] == list(PHASES)
    standings = {NONE, RUNNING, CUT_SHORT, ENDED, REBOOTED}
    assert set(report["properties"]["standing"]["enum"]) == standings
    endings = {None, verdict.WELL, verdict.HEALED, verdict.FAILED_SO_FAR, verdict.GIVEN_UP}
    assert set(report["properties"]["verdict"]["enum"]) == {*endings, verdict.NOT_BEGUN}
    runs = report["properties"]["runs"]["items"]["properties"]
    assert set(runs["by"]["enum"]) == {progress.START, progress.RESUME, progress.GIVEN_UP}
    outcomes = schema("snapshot.json")["properties"]["attachments"]["items"]["properties"]
    assert set(outcomes["outcome"]["enum"]) == {REFRESHED, UNCHANGED, KEPT}
    forgets = schema("forget.json")["properties"]["attachments"]["items"]["properties"]
    assert set(forgets["outcome"]["enum"]) == {forget.FORGOTTEN, forget.FORGETTABLE, forget.KEPT}


# --- what commands really print ------------------------------------------------------------------


def printed(*words: str) -> Any:
    done = run_module(*words, "-o", "json")
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert mistakes_in(document, schema_for(words)) == []
    return document


@pytest.mark.skipif(os.geteuid() != 0, reason="reads other processes' namespaces")
@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["plan"], ["repair", "--all"], ["verify"], ["snapshot", "--check"],
        ["snapshot"], ["forget", "--dry-run", "torn", KEY.container_id],
    ],
    ids=" ".join,
)  # fmt: skip
def test_of_damaged_records(tmp_path: Path, words: list[str]) -> None:
    directory = tmp_path / "checkpoints"
    directory.mkdir(mode=0o700)
    stale = directory / f"{KEY.name}.json"
    stale.write_text(model.encode(CHECKPOINT))
    (directory / "torn@eth0.json").write_text("{")
    for file in directory.iterdir():
        file.chmod(0o600)
    document = printed(
        *words, "--checkpoint-dir", str(directory), "--run-dir", str(tmp_path / "run")
    )
    assert {one["state"] for one in document["attachments"]} == {"stale", "unreadable"}
