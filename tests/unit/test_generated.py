"""What is made from the parser: the man page, bash's completion; and --version."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cni_repair
from cni_repair.cli import version as versions
from cni_repair.cli.completion import script
from cni_repair.cli.manpage import page
from cni_repair.cli.manual import pages
from cni_repair.cli.parser import make_parser, parsers
from tests.unit.samples import REPOSITORY, run_module

BASH = "/bin/bash"
COMMANDS = sorted(parsers())


def options_of(command: str) -> set[str]:
    """The options that its own --help names."""
    text = run_module(command, "--help").stdout.decode()
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", text.partition("options:")[2]))


# --- the man page --------------------------------------------------------------------------------

FORMATTERS = [
    ["mandoc", "-Tlint", "-Wwarning"],
    ["groff", "-man", "-Tutf8", "-ww", "-z"],
    ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"],
]


@pytest.mark.parametrize("formatter", FORMATTERS, ids=lambda words: words[0])
def test_man_page_has_no_warning(tmp_path: Path, formatter: list[str]) -> None:
    if not shutil.which(formatter[0]):
        pytest.skip(f"no {formatter[0]}")
    file = tmp_path / "cni-repair.8"
    file.write_text(page())
    done = subprocess.run([*formatter, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert formatter[0] != "mandoc" or done.stdout == ""


def test_man_page_of_a_day() -> None:
    """So that packages of the same commit are the same on any day."""
    assert page(1_700_000_000).startswith('.TH CNI\\-REPAIR 8 "2023-11-14" ')


def test_man_page_names_all_that_there_is() -> None:
    plain = page().replace("\\-", "-").replace("\\(ga", "`")
    for command in COMMANDS:
        assert f".SS {command}\n" in plain
        section = plain.partition(f".SS {command}\n")[2].partition("\n.S")[0]
        assert all(option in section for option in options_of(command))
    for topic, known in pages().items():
        assert f".B {topic}\n{known.summary[:20]}" in plain
    assert "3 refused" in plain and "/var/lib/cni-repair/checkpoints" in plain


def test_man_page_is_printed_by_its_module() -> None:
    command = [sys.executable, "-m", "cni_repair.cli.manpage"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (page(), "")


# --- completion ----------------------------------------------------------------------------------


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What is offered in the place of the last word, which has begun so."""
    file = tmp_path / "completion"
    file.write_text(script())
    code = (
        f'set -eu; . {file}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cni_repair;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [BASH, "--norc", "-c", code, "bash", "cni-repair", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(filter(None, done.stdout.splitlines()))


def test_commands_are_offered(tmp_path: Path) -> None:
    assert [word for word in completed(tmp_path, "") if word[0] != "-"] == COMMANDS
    assert completed(tmp_path, "up") == ["upgrade"]
    assert completed(tmp_path, "--ver") == ["--version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_offered(tmp_path: Path, command: str) -> None:
    assert set(completed(tmp_path, command, "-")) == options_of(command)
    assert completed(tmp_path, command, "--he") == ["--help"]


def test_topics_are_offered(tmp_path: Path) -> None:
    assert completed(tmp_path, "help", "on") == ["on-call"]
    assert [one for one in completed(tmp_path, "help", "") if one[0] != "-"] == sorted(pages())


def test_values_of_options_are_offered(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").touch()
    (tmp_path / "plans here").mkdir()
    assert completed(tmp_path, "status", "-o", "") == ["json", "table"]
    assert completed(tmp_path, "status", "--all", "--checkpoint-dir", "pl") == ["plans here"]
    assert completed(tmp_path, "status", "--conf", "pl") == ["plan.yaml", "plans here"]
    assert completed(tmp_path, "upgrade", "pl") == ["plan.yaml", "plans here"]
    assert completed(tmp_path, "validate", "plan.yaml", "pl") == ["plan.yaml", "plans here"]
    assert completed(tmp_path, "repair", "--wait", "") == []
    assert completed(tmp_path, "nonsense", "") == []


def test_pods_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the journal knows, but for what no pod is called: anybody may write there."""
    journalctl = tmp_path / "bin/journalctl"
    journalctl.parent.mkdir()
    names = [
        "shop/web-1",
        "shop/db-0",
        "kube-system/dns.x",
        "$(touch hit)",
        "a b/c",
        "x;y/z",
        "web",
    ]
    journalctl.write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.join(names)}\n")
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{journalctl.parent}:{os.environ['PATH']}")
    for command in ("log", "repair"):
        offered = [word for word in completed(tmp_path, command, "") if word[0] != "-"]
        assert offered == ["kube-system/dns.x", "shop/db-0", "shop/web-1"]
        assert completed(tmp_path, command, "shop/w") == ["shop/web-1"]
    assert completed(tmp_path, "adopt", "s") == []
    assert completed(tmp_path, "log", "--since", "") == []
    assert not (tmp_path / "hit").exists()


def test_pods_where_there_is_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert completed(tmp_path, "log", "s") == []


def test_completion_is_clean(tmp_path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck")
    file = tmp_path / "completion"
    file.write_text(script())
    done = subprocess.run(
        ["shellcheck", "--shell=bash", file], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


# --- the version ---------------------------------------------------------------------------------


def git(directory: Path, *words: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.net"]
    command = ["git", "-C", str(directory), *names, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a copy of the command line, all of it committed."""
    if not shutil.which("git"):
        pytest.skip("no git")
    ignored = shutil.ignore_patterns("__pycache__", "COMMIT")
    shutil.copytree(REPOSITORY / "cni_repair", tmp_path / "cni_repair", ignore=ignored)
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    return tmp_path


def version_in(checkout: Path, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cni_repair", "--version"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


OWN = f"cni-repair {cni_repair.__version__}"


def test_version_of_a_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert version_in(checkout) == f"{OWN} (commit {commit})"
    elsewhere = str(REPOSITORY / ".git")
    assert version_in(checkout, GIT_DIR=elsewhere) == f"{OWN} (commit {commit})"
    (checkout / "more").touch()
    assert version_in(checkout) == f"{OWN} (commit {commit}, dirty)"


def test_version_of_an_installation(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    assert version_in(checkout) == OWN
    (checkout / "cni_repair" / "COMMIT").write_text("abc1234, dirty\n")
    assert version_in(checkout) == f"{OWN} (commit abc1234, dirty)"
    (checkout / "cni_repair" / "COMMIT").write_bytes(b"\xff")
    assert version_in(checkout) == OWN


def test_version_where_git_is_missing(checkout: Path) -> None:
    assert version_in(checkout, PATH="/nonexistent") == OWN


def test_version_of_another_users_checkout(checkout: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("gives files away")
    os.chown(checkout, 1, 1)
    os.chown(checkout / ".git", 1, 1)
    assert version_in(checkout) == OWN


def test_no_git_is_asked_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda: pytest.fail("asked"))
    make_parser([])
