"""`cni-repair watch` asked or told, and the line in `status`: words and exit statuses."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.procfs import boot_id
from cni_repair.cli.common import DAMAGED, REFUSED, USAGE
from cni_repair.cli.watch import beside
from cni_repair.watch import rundir
from cni_repair.watch.pausing import NAME, pause
from cni_repair.watch.status import HUNG_SECONDS, first_watcher, write_status
from tests.outputs import mistakes_in
from tests.unit.samples import REPOSITORY, run_module
from tests.unit.watching import STATUS

FINE = 0
USER = pwd.getpwuid(os.getuid()).pw_name

pytestmark = pytest.mark.needs_root


@pytest.fixture
def config(tmp_path: Path, run_dir: str) -> str:
    path = tmp_path / "watch.yaml"
    path.write_text(f"version: 1\nrunDir: {run_dir}\n")
    path.chmod(0o600)
    return str(path)


def outcome(*words: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = run_module("watch", *words, environ={"TZ": "UTC", **(environ or {})})
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    return done.returncode, out, err


def printed(config: str, *words: str) -> Any:
    _, out, _ = outcome("--config", config, *words, "-o", "json")
    document = json.loads(out)
    assert mistakes_in(document, "watch.json") == []
    return document


# --- wrong usage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--pause 5m", "watch: say why: cni-repair watch --pause 5m --reason TEXT"),
        ("--reason x", "watch: --reason is of --pause"),
        ("--resume --reason x", "watch: --reason is of --pause"),
        ("-o json", "watch: -o json is of --status, --pause and --resume"),
        ("--pause 30 --reason x", "argument --pause: '30' is no duration: write a number with s, m"
         " or h, such as 30m"),
        ("--pause 1h30m --reason x", "argument --pause: '1h30m' is no duration"),
        ("--pause forever --reason x", "argument --pause: 'forever' is no duration"),
        ("--pause 0s --reason x", "argument --pause: '0s' is too short: write more than none"),
        ("--pause 25h --reason x", "argument --pause: '25h' is longer than a day: write less"),
        ("--pause -5m --reason x", "argument --pause: expected one argument"),
        ("--pause 5m --reason ", "argument --reason: empty; say why"),
        ("--pause 5m --reason \x1b[31m", "argument --reason: give at most 200 plain characters"),
        ("--pause 5m --reason " + "x" * 201, "argument --reason: give at most 200 plain"),
        ("--pause 5m --resume --reason x", "argument --resume: not allowed with argument --pause"),
        ("--stat", "unrecognized arguments: --stat (did you mean --status?)"),
    ],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_wrong_usage(run_dir: str, config: str, words: str, said: str) -> None:
    status, out, err = outcome("--config", config, *words.split(" "))
    assert (status, out) == (USAGE, "")
    assert said in err
    assert not os.path.exists(run_dir)


# --- the configuration --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nHeal: drift\n", "$.Heal: unknown key: did you mean heal?"),
        ("version: 1\nmetrics: {listen: 10.0.0.1:80}\n", "$.metrics.listen: '10.0.0.1:80' is"),
        ("version: 1\nheal: 'x\n", "line 3, column 1: "),
        ("version: 1\ncheckpointDirs: [x]\nrunDir: y\n", "$.checkpointDirs[0]: 'x' is no absolute"),
    ],
)
def test_a_daemon_with_a_bad_configuration(config: str, text: str, said: str) -> None:
    Path(config).write_text(text)
    status, out, err = outcome("--config", config)
    assert (status, out) == (USAGE, "")
    lines = err.splitlines()
    assert lines[0].startswith(f"cni-repair: {config}: {said}")
    assert all(line.startswith(f"cni-repair: {config}: ") for line in lines)


@pytest.mark.parametrize("words", [[], ["--status"], ["--resume"]])
def test_a_configuration_that_is_not_there(tmp_path: Path, words: list[str]) -> None:
    path = str(tmp_path / "none.yaml")
    assert outcome("--config", path, *words) == (
        USAGE,
        "",
        f"cni-repair: {path}: cannot be read: No such file or directory: name a file that is"
        " there\n",
    )


def test_what_is_asked_needs_no_more_of_it_than_the_run_directory(
    config: str, run_dir: str
) -> None:
    """The daemon goes by what it said before; to pause that one is urgent."""
    Path(config).write_text(f"version: 1\nheal: upl\nrunDir: {run_dir}\n")
    assert outcome("--config", config, "--pause", "5m", "--reason", "x")[0] == FINE
    assert os.path.exists(f"{run_dir}/{NAME}")


def test_a_configuration_of_others_is_not_followed(config: str) -> None:
    os.chmod(config, 0o666)
    for words in ([], ["--status"]):
        status, out, err = outcome("--config", config, *words)
        assert (status, out) == (USAGE, "")
        assert f"others may write to it (mode 0666): chown root:root {config}" in err


OF_WATCH, PLAN = "configuration of cni-repair watch", "upgrade plan"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("version: 1\n", OF_WATCH),
        ("version: 1\nheal: drift\n", OF_WATCH),
        ("version: 1\nheals: drift\n", OF_WATCH),
        ("version: 1\nkubelet: {deadline: 5m}\n", OF_WATCH),
        ("version: 1\nkubelet: none\nmetric: {}\n", OF_WATCH),
        ('{"version": 1, "run_dir": "/x"}\n', OF_WATCH),
        ("version: 1\nkubelet: none\ndriver: {command: x}\n", PLAN),
        ("version: 1\ncoverage: 50%\n", PLAN),
        ("version: 1\nmaster: {}\n", PLAN),
    ],
)
def test_validate_tells_it_from_an_upgrade_plan(tmp_path: Path, text: str, kind: str) -> None:
    """By the keys that it has, or nearly has: what is wrong is told of the right one."""
    path = tmp_path / "file.yaml"
    path.write_text(text)
    document = json.loads(run_module("validate", str(path), "-o", "json").stdout)
    (part,) = document["files"][0]["parts"]
    assert part["kind"].startswith(kind)


def test_validate_tells_all_mistakes_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "watch.yaml"
    path.write_text("version: 1\nHeal: off\nmetrics: {listen: 0.0.0.0:80}\n")
    path.chmod(0o666)  # it may be on a laptop
    done = run_module("validate", str(path))
    assert (done.returncode, done.stdout) == (DAMAGED, b"")
    lines = done.stderr.decode().splitlines()
    assert lines[0] == f"{path}: $.Heal: unknown key: did you mean heal?"
    assert lines[1].startswith(f"{path}: $.metrics.listen: '0.0.0.0:80' is reached from outside")
    assert len(lines) == 2


# --- who asks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--status"], ["--pause", "5m", "--reason", "x"], ["--resume"], []]
)
def test_an_ordinary_user(words: list[str]) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from cni_repair.cli import main\n"  # (the checkout may be root's alone)
        "from cni_repair.cli.commands import watch\n"
        "from cni_repair.cli.parser import make_parser\n"
        "make_parser(['watch'])\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main.run(['watch', *sys.argv[1:]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert done.stderr.startswith("cni-repair: must run as root (")
    assert done.stderr.endswith(": use sudo\n")


# --- pausing ------------------------------------------------------------------------------------


def test_a_pause_without_a_watcher(config: str) -> None:
    status, out, err = outcome("--config", config, "--pause", "30m", "--reason", " new \t cable ")
    assert (status, err) == (FINE, "")
    assert re.fullmatch(
        r"paused for 30m, until [-0-9]+ [:0-9]+Z\n"
        r"no watcher runs on this node now: one that is started meanwhile begins so\n",
        out,
    )
    found = printed(config, "--status")
    assert (found["standing"], found["status"]) == ("none", None)
    assert (found["pause"]["by"], found["pause"]["reason"]) == (USER, "new cable")


def test_who_paused_is_who_called_sudo(config: str) -> None:
    outcome("--config", config, "--pause", "5m", "--reason", "x", environ={"SUDO_USER": "b\x1bob"})
    assert printed(config, "--status")["pause"]["by"] == "b?ob"


def test_a_pause_with_a_watcher(config: str, run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
        found = printed(config, "--pause", "5m", "--reason", "x")
        assert (found["standing"], found["pause"]["reason"]) == ("running", "x")
        status, out, _ = outcome("--config", config, "--resume")
    assert (status, out) == (FINE, f"the pause by {USER} (x) has ended\n")


def test_resume_with_nothing_paused(config: str, run_dir: str) -> None:
    with first_watcher(run_dir):
        assert outcome("--config", config, "--resume") == (FINE, "nothing was paused\n", "")
    status, out, _ = outcome("--config", config, "--resume")
    assert (status, out) == (FINE, "nothing was paused\nno watcher runs on this node now\n")


def test_a_shorter_pause_is_refused_and_a_longer_one_prolongs(config: str, run_dir: str) -> None:
    pause(run_dir, 600.0, "bob", "new cable")
    status, out, err = outcome("--config", config, "--pause", "5m", "--reason", "x")
    assert (status, out) == (REFUSED, "")
    assert err.startswith("cni-repair: paused by bob for another ")
    assert "--resume" in err and len(err.splitlines()) == 1
    with first_watcher(run_dir):
        status, out, err = outcome("--config", config, "--pause", "1h", "--reason", "x")
    assert (status, err) == (FINE, "")
    assert out.startswith("the pause by bob (new cable) is prolonged: until ")


def test_a_pause_that_nobody_can_read(config: str, run_dir: str) -> None:
    pause(run_dir, 600.0, "bob", "x")
    Path(run_dir, NAME).write_text(json.dumps({"bootId": boot_id()}))
    status, out, err = outcome("--config", config, "--status")
    assert (status, out) == (DAMAGED, "")
    assert "holds no pause: cni-repair watch --resume removes it" in err
    assert outcome("--config", config, "--resume")[0] == FINE
    assert outcome("--config", config, "--status")[2] == ""


@pytest.mark.parametrize(
    "words", [["--status"], ["--pause", "5m", "--reason", "x"], ["--resume"]], ids=" ".join
)
def test_a_run_directory_that_is_not_trusted(config: str, run_dir: str, words: list[str]) -> None:
    with first_watcher(run_dir):
        pass
    os.chmod(run_dir, 0o777)
    status, out, err = outcome("--config", config, *words)
    assert (status, out) == (DAMAGED, "")
    assert err.startswith(f"cni-repair: run directory {run_dir} is not trusted: others may write")


# --- status -------------------------------------------------------------------------------------


def test_status_of_one_that_runs(config: str, run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
        status, out, err = outcome("--config", config, "--status")
        found = printed(config, "--status")
    assert (status, err) == (FINE, "")
    assert out.splitlines()[0] == "251 attachments: 2 lost, 1 stale, 248 healthy"
    assert found["standing"] == "running"
    assert found["status"]["masters"] == STATUS["masters"]


def test_status_of_one_that_died_or_hangs(config: str, run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
    status, out, _ = outcome("--config", config, "--status")
    assert (status, out.split(":")[1]) == (DAMAGED, " DOES NOT RUN")
    path = Path(run_dir, "watch.json")
    old = {**json.loads(path.read_text()), "updated": rundir.boot_time() - HUNG_SECONDS - 1}
    path.write_text(json.dumps(old))
    with first_watcher(run_dir):
        status, out, _ = outcome("--config", config, "--status")
    assert (status, out.split(":")[1]) == (DAMAGED, " HANGS")


def test_status_where_there_was_none(config: str) -> None:
    status, out, err = outcome("--config", config, "--status")
    assert (status, err) == (DAMAGED, "")
    assert out.startswith("watch: does not run, and has not since this boot")
    assert printed(config, "--status") == {
        "schemaVersion": 1, "standing": "none", "secondsOld": None, "pause": None, "status": None,
    }  # fmt: skip


def test_hostile_names_do_not_steer_the_terminal(config: str, run_dir: str) -> None:
    with first_watcher(run_dir):
        refused = STATUS["refused"][0].copy()
        refused.update({"pod": "a\x1b[2Jb", "reason": "c\rd\u202e"})
        write_status(run_dir, {**STATUS, "refused": [refused]})
        _, out, _ = outcome("--config", config, "--status")
    assert "  foreign a?[2Jb eth0:\n    c d?\n" in out


# --- the line in `status` -----------------------------------------------------------------------


def said(run_dir: str) -> str:
    (line,) = beside.lines(run_dir)
    assert len(line) <= 80
    return line


def test_nothing_is_said_where_there_is_no_watcher(run_dir: str) -> None:
    assert beside.lines(run_dir) == []


def test_one_that_is_installed_and_was_not_started(
    run_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = tmp_path / "cni-repair-watch.service"
    unit.write_text("")
    monkeypatch.setattr(beside, "UNIT_FILE", str(unit))
    assert said(run_dir).endswith("does not run, heals nothing: systemctl start cni-repair-watch")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "watch: heals by itself what an uplink takes with it: cni-repair watch --status"),
        ({"refused": STATUS["refused"]}, "watch: heals by itself, but has refused 1 pod: cni-"),
        ({"refused": STATUS["refused"] * 2}, "watch: heals by itself, but has refused 2 pods: "),
        ({"heal": "drift"}, "watch: heals by itself what pods lose: cni-repair watch --status"),
        ({"mode": "upgrading"}, "watch: heals nothing during an upgrade: cni-repair upgrade --s"),
        ({"mode": "looking", "heal": "off"}, "watch: looking, nothing is healed by itself: cni-"),
    ],
)
def test_one_that_runs(run_dir: str, changes: Any, words: str) -> None:
    with first_watcher(run_dir):
        assert said(run_dir).startswith("watch: heals by itself")
        write_status(run_dir, {**STATUS, "refused": [], **changes})
        assert said(run_dir).startswith(words)


@pytest.mark.parametrize(("by", "shown"), [("bob", "bob"), ("engineer-on-call", "engine…")])
def test_one_that_is_paused(run_dir: str, by: str, shown: str) -> None:
    pause(run_dir, 86399.0, by, "x")
    with first_watcher(run_dir):
        words = f"watch: heals nothing, paused by {shown}, 23h 59m left: cni-repair watch --status"
        assert said(run_dir) == words


def test_a_mistake_is_told_where_it_would_not_start(config: str, run_dir: str) -> None:
    Path(config).write_text(f"version: 1\nheal: upl\nrunDir: {run_dir}\n")
    assert (
        f"cni-repair validate {config}: it has a mistake"
        in outcome("--config", config, "--status")[1]
    )


def test_one_that_died(run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
    assert said(run_dir).startswith("watch: DOES NOT RUN: nothing is healed by itself: cni-repair")


def test_one_whose_files_are_not_trusted(run_dir: str) -> None:
    with first_watcher(run_dir):
        write_status(run_dir, STATUS)
    os.chmod(run_dir, 0o777)
    (line,) = beside.lines(run_dir)
    assert line.startswith(f"watch: nobody can tell whether it runs: run directory {run_dir}")
