"""The command line as its user meets it: texts, exit statuses, hostile files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.errors import BAD_CHECKPOINT, TRY_AGAIN, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from cni_repair.checkpoint.store import Key
from cni_repair.cli import main, render
from cni_repair.cli.commands.snapshot import show
from cni_repair.cli.coverage import WithoutRecord
from cni_repair.cli.scope import Scope
from cni_repair.node.report import Report
from cni_repair.node.snapshot import KEPT, Record, Snapshot
from tests.unit.samples import (
    CHECKPOINT,
    KEY,
    NETCONF,
    NETNS,
    REPOSITORY,
    SEED,
    SEED_NAME,
    configurations,
    run_module,
)

FINE, DAMAGED, USAGE, REFUSED = 0, 1, 2, 3
COMMANDS = [
    "status", "plan", "repair", "verify", "snapshot", "adopt", "forget", "upgrade", "watch",
    "check", "log", "validate", "help", "demo",
]  # fmt: skip
ESCAPE = "\x1b[31mred\x07"

as_root = pytest.mark.needs_root  # the command line reads other processes' namespaces


def outcome(*arguments: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr), of which neither may hold a traceback."""
    done = run_module(*arguments)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in out + err
    return done.returncode, out, err


def put(directory: Path, checkpoint: model.Checkpoint = CHECKPOINT) -> Path:
    path = directory / f"{checkpoint.key.name}.json"
    path.write_text(model.encode(checkpoint))
    path.chmod(0o600)
    return path


# --- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["status", "--nonsense"],
        ["status", "-o", "yaml"],
        ["status", "--checkpoint-dir"],
        pytest.param(["repair"], marks=as_root),
        pytest.param(["repair", "--all", "abc"], marks=as_root),
        ["plan", "--all", "abc"],
        ["repair", "--all", "--wait", "-1"],
        ["repair", "--all", "--wait", "soon"],
        ["repair", "--all", "--wait", "nan"],
        ["validate"],
        ["demo", "extra"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_says_why(arguments: list[str]) -> None:
    status, out, err = outcome(*arguments)
    assert (status, out) == (USAGE, "")
    assert "cni-repair" in err


def test_nothing_asked_for_is_help_and_wrong_usage() -> None:
    """A script whose variable is unset must not go on."""
    status, out, err = outcome()
    assert (status, err) == (USAGE, "")
    assert out == outcome("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "usage", "hint"),
    [
        (["repair", "--al"], "cni-repair repair", "(did you mean --all?)"),
        (["repair", "-a"], "cni-repair repair", "(did you mean --all?)"),
        (["status", "--outptu", "json"], "cni-repair status", "(did you mean --output?)"),
        (["verify", "--time-out=3"], "cni-repair verify", "(did you mean --timeout?)"),
        (["adopt", "--wirte"], "cni-repair adopt", "(did you mean --write?)"),
        (["verify", "--wait", "3"], "cni-repair verify", "unrecognized arguments: --wait"),
        (["upgrade", "--statu"], "cni-repair upgrade", "(did you mean --status?)"),
        (["upgrade", "--dry-rum", "i40e.yaml"], "cni-repair upgrade", "(did you mean --dry-run?)"),
        (["stats"], "cni-repair ", "did you mean status?"),
        (["--verison"], "cni-repair ", "did you mean --version?"),
        (["frobnicate"], "cni-repair ", "cni-repair --help lists them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_word_is_answered_by_its_command_with_the_nearest(
    arguments: list[str], usage: str, hint: str
) -> None:
    status, out, err = outcome(*arguments)
    assert (status, out) == (USAGE, "")
    assert err.startswith(f"usage: {usage}")
    assert hint in err


@pytest.mark.parametrize("seconds", ["0", "0.0", "0.05"])
def test_verify_without_a_time_to_answer_in_is_wrong_usage(seconds: str) -> None:
    status, _, err = outcome("verify", "--timeout", seconds)
    assert status == USAGE
    assert "give 0.1 s or more" in err


def test_help_teaches_what_to_do_on_call() -> None:
    status, out, err = outcome("--help")
    assert (status, err) == (FINE, "")
    for command in COMMANDS:
        assert f"  {command} " in out
    assert "cni-repair repair --all" in out
    assert "exit status: 0 fine, 1 something is damaged or failed, 2 wrong usage, 3" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    status, out, err = outcome(command, "--help")
    assert (status, err) == (FINE, "")
    assert out.startswith(f"usage: cni-repair {command}")
    assert len(out.splitlines()) > 4


@pytest.mark.parametrize("command", ["status", "plan", "repair"])
def test_commands_that_read_checkpoints_take_their_directory(command: str) -> None:
    assert "--checkpoint-dir DIR" in outcome(command, "--help")[1]


def test_version() -> None:
    status, out, _ = outcome("--version")
    assert status == FINE
    assert out.startswith("cni-repair ")


@pytest.mark.parametrize("arguments", [["status"], ["plan"], ["repair", "--all"], ["demo"]])
def test_not_root_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.run(arguments) == REFUSED
    assert "sudo" in capsys.readouterr().err


@as_root
@pytest.mark.parametrize("command", [["status"], ["verify"], ["repair", "--all"]], ids=" ".join)
@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("-net_admin", "CAP_NET_ADMIN is missing"),
        ("-sys_admin", "CAP_SYS_ADMIN is missing"),
        ("-net_raw,-net_admin", "CAP_NET_ADMIN, CAP_NET_RAW are missing"),
        ("", "root of a user namespace only"),
    ],
    ids=["net-admin", "sys-admin", "two", "user-namespace"],
)
def test_missing_capability_is_refused_and_named(
    directory: Path, command: list[str], without: str, named: str
) -> None:
    """Pods that are well would be told as degraded."""
    put(directory)
    inside = ["setpriv", f"--bounding-set={without}"] if without else ["unshare", "-Ur"]
    words = [*command, "--checkpoint-dir", str(directory)]
    done = subprocess.run(
        [*inside, sys.executable, "-m", "cni_repair", *words],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert named in done.stderr
    assert "run it as root on the node itself" in done.stderr


def test_validating_needs_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.run(["validate", str(put(tmp_path))]) == FINE


@pytest.mark.parametrize(
    "arguments",
    [["--help"], pytest.param(["status", "--all"], marks=as_root)],
    ids=" ".join,
)
def test_reader_that_has_seen_enough(directory: Path, arguments: list[str]) -> None:
    """As `cni-repair status | head -0`."""
    if arguments[0] == "status":
        put(directory)
        arguments = [*arguments, "--checkpoint-dir", str(directory)]
    nobody, stdout = os.pipe()
    os.close(nobody)
    done = subprocess.run(
        [sys.executable, "-m", "cni_repair", *arguments],
        cwd=REPOSITORY,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(stdout)
    assert done.stderr == b""


# --- status, plan, repair -----------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("command", [["status"], ["plan"], ["repair", "--all"]], ids=" ".join)
def test_absent_directory_is_fine_and_said(tmp_path: Path, command: list[str]) -> None:
    """But not one that the command line names: a slip of the pen would pass for a healthy node."""
    absent = tmp_path / "none"
    status, out, err = outcome(*command, "--checkpoint-dir", str(absent))
    assert (status, out) == (USAGE, "")
    assert f"{absent} does not exist: correct --checkpoint-dir" in err
    conf = tmp_path / "conf"
    conf.write_text(json.dumps({**NETCONF, "checkpointDir": str(absent)}))
    status, _, err = outcome(*command, "--conf", str(conf))
    assert status == FINE
    assert f"{absent} does not exist (yet)" in err
    assert not absent.exists()


@as_root
@pytest.mark.parametrize(("name", "what"), [("none", "does not exist"), (".", "is a directory")])
def test_configuration_that_is_no_file_is_wrong_usage(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / name
    plan = tmp_path / "plan.yaml"
    plan.write_text("version: 1\nkubelet: none\ndriver:\n  command: [/bin/true]\n")
    for command in (["status"], ["upgrade", "--dry-run", str(plan)]):
        status, _, err = outcome(*command, "--conf", str(path))
        assert (status, err) == (USAGE, f"cni-repair: {path} {what}: correct --conf\n")


@as_root
def test_empty_directory_is_fine(directory: Path) -> None:
    status, out, err = outcome("status", "--checkpoint-dir", str(directory))
    assert (status, err) == (FINE, "")
    assert str(directory) in out


@as_root
def test_untrusted_directory_is_named(directory: Path) -> None:
    directory.chmod(0o777)
    status, _, err = outcome("status", "--checkpoint-dir", str(directory))
    assert status == DAMAGED
    assert str(directory) in err


@as_root
def test_stale_attachment_is_reported(directory: Path) -> None:
    put(directory)
    status, out, err = outcome("status", "--checkpoint-dir", str(directory))
    assert (status, err) == (FINE, "")
    assert "STATE" in out
    assert "stale" in out
    assert "shop/cart-0" in out
    assert "rebooted" in out
    assert "1 attachment: 1 stale" in out


@as_root
def test_status_for_scripts(directory: Path) -> None:
    put(directory)
    status, out, _ = outcome("status", "-o", "json", "--checkpoint-dir", str(directory))
    assert status == FINE
    document = json.loads(out)
    (attachment,) = document["attachments"]
    assert attachment["containerID"] == KEY.container_id
    assert attachment["state"] == "stale"
    assert attachment["error"]["details"]
    assert document["summary"]["stale"] == 1


@as_root
@pytest.mark.parametrize("command", [["plan"], ["repair"], ["repair", "--dry-run"]], ids=" ".join)
def test_unknown_container_is_wrong_usage_and_named(directory: Path, command: list[str]) -> None:
    status, _, err = outcome(*command, "feedbeef", "--checkpoint-dir", str(directory))
    assert status == USAGE
    assert "feedbeef" in err


@as_root
def test_ambiguous_container_is_refused_with_its_meanings(directory: Path) -> None:
    for container_id in ("abc1", "abc2"):
        put(directory, replace(CHECKPOINT, key=Key(container_id, "eth0")))
    status, _, err = outcome("status", "abc", "--checkpoint-dir", str(directory))
    assert status == USAGE
    assert "abc1" in err
    assert "abc2" in err


@as_root
@pytest.mark.parametrize("name", ["06c9b8", "shop/cart-0"])
def test_container_by_its_beginning_and_pod_by_its_name(directory: Path, name: str) -> None:
    put(directory)
    put(directory, replace(CHECKPOINT, key=Key("other", "eth0"), pod=model.Pod("shop", "x")))
    out = outcome("status", name, "--checkpoint-dir", str(directory))[1]
    assert "1 attachment" in out


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 8 << 20)


def writable(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "symlink": lambda path: path.symlink_to("/etc/passwd"),
    "fifo": lambda path: os.mkfifo(path, 0o600),
    "directory": lambda path: path.mkdir(),
    "8mb": sparse,
    "empty": lambda path: path.touch(),
    "nul": lambda path: path.write_bytes(bytes(4096)),
    "torn": lambda path: path.write_text(model.encode(CHECKPOINT)[:300]),
    "utf8": lambda path: path.write_bytes(b'{"a":"\xff"}'),
    "list": lambda path: path.write_text("[]"),
    "brackets": lambda path: path.write_text("[" * 100_000),
    "newer": lambda path: path.write_text('{"schemaVersion": 2}'),
    "writable": writable,
    "copied": lambda path: path.write_text(model.encode(CHECKPOINT)),
    "changed": lambda path: path.write_text(model.encode(CHECKPOINT).replace("cart", "card")),
}


@as_root
@pytest.mark.parametrize("command", [["status"], ["plan"], ["repair", "--all"]], ids=" ".join)
def test_hostile_files_are_named_and_stop_nobody(
    directory: Path, tmp_path: Path, command: list[str]
) -> None:
    for name, make in HOSTILE.items():
        make(directory / f"{name}@eth0.json")
    put(directory)
    status, out, err = outcome(
        *command, "--checkpoint-dir", str(directory), "--run-dir", str(tmp_path / "run")
    )
    assert (status, err) == (DAMAGED, "")
    for name in HOSTILE:
        assert re.search(rf"its record is not used: .*{name}@eth0\.json\)$", out, re.M), name
    assert "stale" in out  # the good one was looked at, too
    assert "schemaVersion 2" in out


@as_root
def test_file_of_another_user_is_named(directory: Path) -> None:
    os.chown(put(directory), 1, 1)
    status, out, _ = outcome("status", "--checkpoint-dir", str(directory))
    assert status == DAMAGED
    assert "belongs to uid 1" in out


@as_root
def test_seed_checkpoint_asks_for_its_configuration(directory: Path, tmp_path: Path) -> None:
    (directory / SEED_NAME).write_text(json.dumps(SEED))
    status, out, _ = outcome("status", "--checkpoint-dir", str(directory))
    assert status == DAMAGED
    assert "--conf FILE" in out
    conf = tmp_path / "10.conf"
    conf.write_text(json.dumps(NETCONF))
    out = outcome("status", "--conf", str(conf), "--checkpoint-dir", str(directory))[1]
    assert "xxxx" in out
    assert "stale" in out


@as_root
@pytest.mark.parametrize("command", [["status"], ["plan"], ["repair", "--all"]], ids=" ".join)
def test_names_do_not_steer_the_terminal(
    directory: Path, tmp_path: Path, command: list[str]
) -> None:
    """Nor do they end the comment that `plan` writes them into."""
    put(directory, replace(CHECKPOINT, pod=model.Pod(ESCAPE, f"a\nreboot\r{ESCAPE}")))
    (directory / f"{ESCAPE}@eth0.json").touch()
    status, out, err = outcome(
        *command, "--checkpoint-dir", str(directory), "--run-dir", str(tmp_path / "run")
    )
    assert status == DAMAGED
    assert all(char.isprintable() or char == "\n" for char in out + err)
    assert "reboot" not in {line.strip() for line in out.splitlines()}


def test_plan_prints_commands_that_do_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = f"ip address add 10.0.0.1/24 label '{ESCAPE}' dev eth0"
    report = Report(KEY, CHECKPOINT, NETNS, "degraded", ("why",), (command,))
    render.commands([report], Scope("/nowhere", "/nowhere", None, (), False, ""))
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)


@as_root
def test_repair_says_once_what_pods_share(directory: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(directory, replace(CHECKPOINT, key=Key(name, "eth0"), pod=model.Pod("shop", name)))
    status, out, _ = outcome(
        *("repair", "--all", "--checkpoint-dir", str(directory)),
        *("--run-dir", str(tmp_path / "run")),
    )
    assert status == FINE
    *pods, reason, totals, _, _, following = out.splitlines()
    assert pods == [f"stale      shop/{name} {name} eth0 (nothing done)" for name in "abc"]
    assert reason.startswith("    all 3: the pod's netns is not there any more: the node was reb")
    assert totals == "3 attachments: 3 stale"
    where = f"--checkpoint-dir {directory} --run-dir {tmp_path}/run"
    assert following == f"        or cni-repair forget --stale {where}"


def test_reasons_of_a_repair_stand_below_those_whom_they_concern(
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = CniError(TRY_AGAIN, "master eth0 does not exist", "repair again once it is there")
    lost = Report(KEY, CHECKPOINT, NETNS, "lost", ("eth0 is gone",), (), away)
    done = Report(KEY, CHECKPOINT, NETNS, "healthy", (), ("ip link set up dev eth0",))
    moved = replace(done, notes=("moved to eth1",))
    well = replace(done, actions=())
    scope = Scope("/nowhere", "/nowhere", None, (), False, "")
    render.repaired([lost, done, well, lost, lost, moved], scope)
    pod = f"shop/cart-0 {KEY.container_id[:12]} eth0"
    why = "eth0 is gone; master eth0 does not exist: repair again once it is there"
    printed = capsys.readouterr().out.splitlines()
    # (What to do next depends on the node's links, which are this machine's here.)
    assert printed[:8] == [
        f"lost       {pod} (nothing done)",
        f"lost       {pod} (nothing done)",
        f"lost       {pod} (nothing done)",
        f"    all 3: {why}",
        f"repaired   {pod} (1 step)",
        f"repaired   {pod} (1 step)",
        "    moved to eth1",
        "6 attachments: 3 healthy, 3 lost",
    ]


def test_advice_repeats_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    """It is there to be copied."""
    degraded = Report(KEY, CHECKPOINT, NETNS, "degraded", ("why",), ("ip link set dev eth0 up",))
    reports = [degraded, replace(degraded, state="lost"), replace(degraded, state="stale")]
    scope = Scope("/d", "", None, (), False, " --checkpoint-dir /d")
    render.table(reports, scope, False, WithoutRecord())
    advice = capsys.readouterr().out
    for command in ("repair --all", "forget --stale"):
        assert advice.count(command) == advice.count(f"{command} --checkpoint-dir /d") > 0


@pytest.mark.parametrize(
    ("pods", "named"),
    [
        ([model.Pod("shop", "web-1")] * 2, "shop/web-1"),
        ([model.Pod("shop", "a b")], "'shop/a b'"),
        ([model.Pod("shop", ESCAPE)], "\"$(printf %b 'shop/\\0033[31mred\\0007')\""),
        ([model.Pod("", "web-1")], KEY.container_id),
        ([model.Pod("shop", "web-1"), model.Pod("shop", "web-2")], "NAMESPACE/NAME"),
    ],
    ids=["interfaces", "blank", "escape", "bare", "several"],
)
def test_snapshot_says_how_to_accept(
    pods: list[model.Pod], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [
        Record(
            Report(KEY, replace(CHECKPOINT, pod=pod), NETNS, "degraded", ("why",)),
            KEPT, True, ("why",),
        )
        for pod in pods
    ]  # fmt: skip
    scope = Scope("/d", "", None, (), False, " --checkpoint-dir /d")
    show(Snapshot(tuple(kept), ()), scope, False)
    (hint,) = [line for line in capsys.readouterr().out.splitlines() if "--accept" in line]
    assert hint.endswith(f" cni-repair snapshot --accept --checkpoint-dir /d {named}")


@as_root
def test_plan_of_damage_is_a_script_of_comments(directory: Path) -> None:
    put(directory)
    status, out, _ = outcome("plan", "--checkpoint-dir", str(directory))
    assert status == FINE
    assert all(line.startswith("#") for line in out.splitlines())


@as_root
@pytest.mark.parametrize(
    "command", [["plan", "--all"], ["repair", "--all", "--dry-run"]], ids=" ".join
)
def test_plan_of_all_is_a_plan_where_nobody_is_named(directory: Path, command: list[str]) -> None:
    put(directory)
    where = ["--checkpoint-dir", str(directory)]
    assert outcome(*command, *where) == outcome("plan", *where)
    assert outcome(*command, *where)[1].endswith("# 1 attachment: 1 stale\n")


# --- validate -----------------------------------------------------------------------------------


def written(tmp_path: Path, document: object, name: str = "10-net.conf") -> str:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


CONFLIST: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "podnet",
    "plugins": [
        {"type": "cni-repair", "master": "eth0", "ipam": {"type": "dhcp"}},
        {"type": "tuning"},
    ],
}
SEEDS_OWN: dict[str, Any] = {
    "cniVersion": "0.3.0",
    "name": "macvlan",
    "type": "cni-repair",
    "master": "bond4",
    "master2": "eth0",
    "vlanID": 3,
    "checkDir": "/opt/cni/checkpoints",
    "ipam": {"type": "dhcp"},
}


@pytest.mark.parametrize(
    ("document", "name"),
    [(NETCONF, "a.conf"), (SEEDS_OWN, "a.conf"), (CONFLIST, "a.conflist")],
    ids=["conf", "seeds-own", "conflist"],
)
def test_good_configuration(tmp_path: Path, document: dict[str, Any], name: str) -> None:
    path = written(tmp_path, document, name)
    status, out, err = outcome("validate", path)
    assert (status, err) == (FINE, "")
    assert out.startswith(f"{path}: a valid network configuration\n")


def test_good_checkpoint(tmp_path: Path) -> None:
    path = put(tmp_path)
    assert outcome("validate", str(path)) == (FINE, f"{path}: a valid checkpoint\n", "")


PLAN = "version: 1\nkubelet: none\ndriver:\n  command: [/bin/true]\n"


@pytest.mark.parametrize("name", ["plan.yaml", "plan.yml", "PLAN.YAML"])
def test_good_plan(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, PLAN, name)
    assert outcome("validate", path) == (FINE, f"{path}: a valid upgrade plan\n", "")


def test_good_plan_for_another_machine(tmp_path: Path) -> None:
    path = written(tmp_path, PLAN.replace("true", "none"), "plan.yaml")
    status, out, err = outcome("validate", path)
    assert (status, err) == (FINE, "")
    assert out.startswith(f"{path}: a valid upgrade plan (not on this machine: '/bin/none' is not")


def test_bad_plan_says_all_that_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, PLAN.replace("1", "2") + "  deadline: 5 min\n", "plan.yaml")
    status, out, err = outcome("validate", path)
    assert (status, out) == (DAMAGED, "")
    assert err.splitlines() == [
        f"{path}: $.version: 2 is no version that is read here: write 1",
        f"{path}: $.driver.deadline: '5 min' is no duration: write a number with s, m or h, such"
        " as 5m",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "it is empty"), ("{", "line 1, column 2: "), (PLAN + "x: 1\nx: 2\n", "line 6: key 'x'")],
    ids=["empty", "brace", "twice"],
)
def test_plan_that_is_no_yaml(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path, text, "plan.yaml")
    status, out, err = outcome("validate", path)
    assert (status, out) == (DAMAGED, "")
    assert err.startswith(f"{path}: {problem}")
    assert len(err.splitlines()) == 1


def test_absent_plan(tmp_path: Path) -> None:
    path = str(tmp_path / "plan.yaml")
    assert outcome("validate", path) == (
        USAGE,
        "",
        f"{path}: cannot be read: No such file or directory: name a file that is there\n",
    )


@pytest.mark.parametrize("path", configurations(), ids=lambda path: path.name)
def test_examples_are_valid(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["validate", str(path)]) == FINE
    of_ours = {"upgrade": "upgrade plan", "watch": "configuration of cni-repair watch"}
    kind = of_ours.get(path.stem, "network configuration")
    assert capsys.readouterr().out.startswith(f"{path}: a valid {kind}")


def test_good_checkpoint_of_the_seed(tmp_path: Path) -> None:
    path = written(tmp_path, SEED, SEED_NAME)
    assert outcome("validate", path) == (
        FINE,
        f"{path}: a valid checkpoint of the predecessor's format\n",
        "",
    )


def with_plugin(**changes: object) -> dict[str, Any]:
    first, second = CONFLIST["plugins"]
    return {**CONFLIST, "plugins": [second, {**first, **changes}]}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({**NETCONF, "vlanId": 5000}, "$.vlanId: "),
        ({**NETCONF, "vlanId": "3"}, "$.vlanId: "),
        ({**NETCONF, "master": ["eth0", 5]}, "$.master"),
        ({**NETCONF, "delegate": "../../evil"}, "$.delegate"),
        ({**NETCONF, "delegate": "cni-repair"}, "$.delegate"),
        ({**NETCONF, "checkpointDir": "relative"}, "$.checkpointDir: "),
        ({**NETCONF, "repairOnCheck": "yes"}, "$.repairOnCheck: "),
        ({**NETCONF, "cniVersion": "2.0.0"}, "$.cniVersion: "),
        ({**NETCONF, "Mode": "bridge"}, "'Mode'"),
        ({**NETCONF, "name": "../x"}, "$.name: "),
        (with_plugin(vlanId=0), "$.plugins[1].vlanId: "),
        (with_plugin(master="a" * 128), "$.plugins[1].master"),
        ({**CONFLIST, "plugins": {}}, "$.plugins: expected a list"),
        ({**CONFLIST, "plugins": [{"type": "tuning"}]}, "no plugin of type 'cni-repair'"),
        ({"type": "macvlan"}, "no plugin of type 'cni-repair'"),
        ("", "empty"),
        ("{", "decode"),
        ('{"type":"cni-repair","Type":"x"}', "appears twice"),
        ("[]", "not a JSON object"),
    ],
    ids=lambda value: value if isinstance(value, str) and value else None,
)  # fmt: skip
def test_bad_configuration_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: object, place: str
) -> None:
    path = written(tmp_path, document)
    assert main.run(["validate", path]) == DAMAGED
    out, err = capsys.readouterr()
    assert out == ""
    assert path in err
    assert place in err


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"mtu":1500,"kind":"macvlan"', '"mtu":-1,"kind":"macvlan"', "$.link.mtu: "),
        ('"dst":"::/0"', '"dst":"anywhere"', "$.routes[1].dst: "),
        ('"ipv4/arp_notify"', '"kernel/panic"', "$.sysctls"),
        ('"cart-0"', '"cart-1"', "$.checksum"),
        ('"schemaVersion":1', '"schemaVersion":2', "schemaVersion"),
    ],
    ids=["mtu", "dst", "sysctl", "changed", "newer"],
)
def test_bad_checkpoint_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, place: str
) -> None:
    path = put(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert main.run(["validate", str(path)]) == DAMAGED
    out, err = capsys.readouterr()
    assert out == ""
    assert str(path) in err
    assert place in err


def test_checkpoint_of_another_name_is_invalid(tmp_path: Path) -> None:
    path = put(tmp_path).rename(tmp_path / "other@eth0.json")
    status, _, err = outcome("validate", str(path))
    assert status == DAMAGED
    assert KEY.name in err


def test_one_bad_file_of_many(tmp_path: Path) -> None:
    good, absent = written(tmp_path, NETCONF), str(tmp_path / "none")
    status, out, err = outcome("validate", absent, good)
    assert status == USAGE
    assert good in out
    assert absent in err


def test_directory_cannot_be_validated(tmp_path: Path) -> None:
    status, _, err = outcome("validate", str(tmp_path))
    assert status == DAMAGED
    assert str(tmp_path) in err


@as_root
def test_configuration_that_repair_needs_must_name_us_once(tmp_path: Path) -> None:
    path = written(tmp_path, {"type": "macvlan"})
    status, _, err = outcome("status", "--conf", path)
    assert status == USAGE
    assert err == (
        f"cni-repair: {path} has no plugin of type cni-repair: correct it, or --conf;"
        f" cni-repair validate {path} has more\n"
    )


@as_root
@pytest.mark.parametrize(
    "document", ["{", {**NETCONF, "vlanId": 5000}, {**CONFLIST, "plugins": [NETCONF, NETCONF]}],
    ids=["no-json", "no-vlan", "two"],
)  # fmt: skip
def test_a_wrong_conf_is_wrong_usage_and_named(tmp_path: Path, document: object) -> None:
    path = written(tmp_path, document)
    status, out, err = outcome("repair", "--all", "--conf", path)
    assert (status, out) == (USAGE, "")
    assert path in err.partition(": correct it")[0].partition("; correct it")[0]
    assert err.endswith(f"; cni-repair validate {path} has more\n")


@as_root
def test_the_conf_of_another_network_is_not_taken_for_a_node_without_pods(
    directory: Path, tmp_path: Path
) -> None:
    put(directory)
    conf = written(tmp_path, {**NETCONF, "name": "other", "checkpointDir": str(directory)})
    status, out, _ = outcome("status", "--conf", conf)
    assert status == FINE
    said = f"no attachments of network other in {directory}; of all networks: cni-repair status;"
    assert out.startswith(said)


@as_root
def test_code_of_an_unreadable_checkpoint(directory: Path) -> None:
    (directory / "a@eth0.json").touch()
    document = json.loads(outcome("status", "-o", "json", "--checkpoint-dir", str(directory))[1])
    (attachment,) = document["attachments"]
    assert (attachment["state"], attachment["error"]["code"]) == ("unreadable", BAD_CHECKPOINT)


def test_empty_name_does_not_mean_every_pod() -> None:
    """An unset variable of a script."""
    status, out, err = outcome("repair", "")
    assert (status, out) == (USAGE, "")
    assert "empty" in err


@as_root
def test_full_disk_under_the_report(directory: Path) -> None:
    put(directory)
    command = [
        sys.executable,
        "-m",
        "cni_repair",
        "status",
        "--all",
        "--checkpoint-dir",
        str(directory),
    ]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == DAMAGED
    assert b"cannot write the report: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_closed_standard_streams_are_nobodys_place(tmp_path: Path) -> None:
    """What is opened next would become 0, 1 or 2: a lock that children inherit, or write to."""
    code = (
        "import os; from cni_repair.cli.main import run; run(['validate', '/']);"
        f" open({str(tmp_path / 'fd')!r}, 'w').write(str(os.open('/dev/null', os.O_RDONLY)))"
    )
    command = f"exec {sys.executable} -c {shlex.quote(code)} <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], cwd=REPOSITORY, check=True)
    assert int((tmp_path / "fd").read_text()) > 2


@as_root
def test_beginning_of_an_id_must_mean_one(directory: Path) -> None:
    put(directory)
    other = replace(CHECKPOINT, key=Key(f"{KEY.container_id[:20]}ff", "eth0"))
    put(directory, other)
    status, _, err = outcome("plan", KEY.container_id[:6], "--checkpoint-dir", str(directory))
    assert status == USAGE
    assert f"{KEY.container_id[:6]} is ambiguous: {KEY.container_id[:12]} (" in err


@as_root
def test_next_command_repeats_the_options(directory: Path) -> None:
    put(directory)
    damaged = f"{CHECKPOINT.key.name}.json"
    (directory / damaged).write_text("{")
    _, _, err = outcome("plan", "nosuch", "--checkpoint-dir", str(directory))
    assert f"cni-repair status --all --checkpoint-dir {directory} lists all pods" in err
    assert "1 of the records cannot be read" in err


@as_root
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("web-1", "shop/web-1 or test/web-1"), ("shop/web1", "shop/web-1"), ("Web-2", "shop/web-2"),
        ("zzz", ""),
    ],
)  # fmt: skip
def test_a_mistyped_pod_is_answered_with_who_may_be_meant(
    directory: Path, typed: str, meant: str
) -> None:
    for number, pod in enumerate(("shop/web-1", "shop/web-2", "test/web-1")):
        key = Key(f"{number}" * 64, "eth0")
        put(directory, replace(CHECKPOINT, key=key, pod=model.Pod(*pod.split("/"))))
    status, _, err = outcome("repair", typed, "--checkpoint-dir", str(directory))
    assert status == USAGE
    said = f"cni-repair: no record of {typed}: "
    assert err.startswith(f"{said}did you mean {meant}?\n" if meant else f"{said}cni-repair status")


@as_root
def test_console_that_cannot_show_a_name(directory: Path) -> None:
    put(directory, replace(CHECKPOINT, pod=model.Pod("\u5546\u5e97", "web")))
    command = [sys.executable, "-m", "cni_repair", "status", "--checkpoint-dir", str(directory)]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert done.returncode == FINE
    assert b"\\u5546" in done.stdout
    assert done.stderr == b""


def test_validate_of_a_directory_names_its_files(tmp_path: Path) -> None:
    _, _, err = outcome("validate", f"{tmp_path}/")
    assert err == f"{tmp_path}/: cannot be read: Is a directory: name its files: {tmp_path}/*\n"
