"""The plugin's frame and its verbs: one JSON document and an exit status, whatever comes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.errors import DECODE, ENVIRONMENT, INTERNAL, IO, CniError
from cni_repair.cni import skel
from cni_repair.cni.call import Call, Verb, check
from cni_repair.cni.plugin import VERBS as TABLE
from tests.unit.samples import CONTAINER, REPOSITORY, run_module

VERBS = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION", "REPAIR"]
GOOD = {
    "CNI_CONTAINERID": CONTAINER,
    "CNI_NETNS": "/var/run/netns/none",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/nonexistent",
}
CONF: dict[str, Any] = {"cniVersion": "0.4.0", "name": "podnet", "type": "cni-repair"}


def failure(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """The error object: the one document on stdout."""
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.stdout.endswith(b"}\n")
    assert set(document) == {"cniVersion", "code", "msg", "details"}
    assert isinstance(document["code"], int)
    assert document["msg"]
    return document


def serve(verb: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    return run_module(environ={"CNI_COMMAND": verb, **environ}, stdin=stdin)


# --- the environment ----------------------------------------------------------------------------


def ack(environ: dict[str, str]) -> CniError:
    with pytest.raises(CniError) as caught:
        check(environ, b"", TABLE)
    assert caught.value.code == ENVIRONMENT
    return caught.value


@pytest.mark.parametrize(
    ("verb", "missing"),
    [(name, variable) for name, verb in TABLE.items() for variable in verb.required],
)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_missing_variable_is_named(verb: str, missing: str, how: str) -> None:
    environ = {**GOOD, "CNI_COMMAND": verb, missing: ""}
    if how == "absent":
        del environ[missing]
    assert missing in ack(environ).msg


def test_every_verb_is_tried_here() -> None:
    assert sorted(TABLE) == sorted(VERBS)


def test_all_missing_variables_are_named_at_once() -> None:
    msg = ack({"CNI_COMMAND": "ADD"}).msg
    assert all(name in msg for name in GOOD)


@pytest.mark.parametrize("verb", VERBS)
def test_good_environment(verb: str) -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAME=a=b;x"
    call = check({**GOOD, "CNI_COMMAND": verb, "CNI_ARGS": args}, b"{}", TABLE)
    assert (call.command, call.container_id, call.ifname) == (verb, CONTAINER, "eth0")
    assert call.args == {"IgnoreUnknown": "1", "K8S_POD_NAME": "a=b"}
    assert call.stdin == b"{}"


@pytest.mark.parametrize("verb", ["add", "ADD ", "ADD\n", "UNKNOWN", "\u0391DD"])
def test_unknown_verb(verb: str) -> None:
    error = ack({**GOOD, "CNI_COMMAND": verb})
    assert "CNI_COMMAND" in error.msg
    assert "REPAIR" in error.details


@pytest.mark.parametrize(
    "container",
    ["../x", "a/b", ".hidden", "-x", "abc\n", "a b", "a@b", "x" * 201, "\udcff"],
    ids=ascii,
)
@pytest.mark.parametrize("verb", VERBS)
def test_bad_container_id(verb: str, container: str) -> None:
    assert "CNI_CONTAINERID" in ack({**GOOD, "CNI_COMMAND": verb, "CNI_CONTAINERID": container}).msg


@pytest.mark.parametrize(
    "ifname", [".", "..", "a/b", "a:b", "eth0\n", "eth 0", "x" * 16, "../../etc/cron.d"], ids=ascii
)
@pytest.mark.parametrize("verb", VERBS)
def test_bad_ifname(verb: str, ifname: str) -> None:
    assert "CNI_IFNAME" in ack({**GOOD, "CNI_COMMAND": verb, "CNI_IFNAME": ifname}).msg


def test_repair_of_one_needs_its_ifname() -> None:
    assert "CNI_IFNAME" in ack({"CNI_COMMAND": "REPAIR", "CNI_CONTAINERID": "a"}).msg
    assert check({"CNI_COMMAND": "REPAIR"}, b"", TABLE).container_id == ""


# --- as a process -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {"CNI_COMMAND": "NONSENSE"},
        {"CNI_COMMAND": "ADD"},
        {**GOOD, "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "../x"},
        {**GOOD, "CNI_COMMAND": "DEL", "CNI_CONTAINERID": "abc\n"},
        {**GOOD, "CNI_COMMAND": "CHECK", "CNI_IFNAME": "a/b"},
        {"CNI_COMMAND": "STATUS"},
        {"CNI_COMMAND": "GC"},
        {"CNI_COMMAND": "REPAIR", "CNI_CONTAINERID": "abc"},
    ],
    ids=["unknown-verb", "nothing", "bad-id", "newline", "bad-ifname", "status", "gc", "repair"],
)
def test_bad_environment_is_code_4(environ: dict[str, str]) -> None:
    document = failure(run_module(environ=environ, stdin=json.dumps(CONF).encode()))
    assert document["code"] == ENVIRONMENT
    assert document["cniVersion"] == "0.4.0"  # as the configuration asks


@pytest.mark.parametrize("verb", VERBS)
def test_junk_on_stdin_is_code_6(verb: str) -> None:
    document = failure(serve(verb, b'{"cniVersion": "0.4.0", ', **GOOD))
    assert document["code"] == DECODE
    assert document["cniVersion"] == "1.0.0"


@pytest.mark.parametrize(
    "stdin",
    [b"\xff\xfe", bytes(4096), b"[" * 100_000, b"[]", b'{"a":1,"A":2}', b" " * (5 << 20)],
    ids=["not-utf-8", "nul", "brackets", "list", "case-folded", "5-mb"],
)
def test_worse_junk_is_code_6(stdin: bytes) -> None:
    assert failure(serve("ADD", stdin, **GOOD))["code"] == DECODE


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("VERSION", "REPAIR")])
def test_empty_stdin_is_code_6(verb: str) -> None:
    assert failure(serve(verb, b"", **GOOD))["code"] == DECODE


def with_streams(close: str, verb: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run with some of the standard streams closed: `close` in a shell's words."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m cni_repair {close}', sys.executable],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "CNI_COMMAND": verb, **environ},
        input=json.dumps(CONF).encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_closed_stdin_is_code_5(verb: str) -> None:
    assert failure(with_streams("<&-", verb, **GOOD))["code"] == IO


def test_closed_stdout_fails_quietly_before_anything_is_done(tmp_path: Path) -> None:
    done = with_streams(">&-", "VERSION", **GOOD)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_closed_stderr_is_no_hindrance() -> None:
    done = with_streams("2>&-", "VERSION", **GOOD)
    assert done.returncode == 0
    assert "supportedVersions" in json.loads(done.stdout)


def test_full_stdout_is_exit_status_1() -> None:
    done = with_streams(">/dev/full", "VERSION", **GOOD)
    assert (done.returncode, done.stderr) == (1, b"")


def test_version_without_a_delegate_to_ask() -> None:
    done = serve("VERSION", b'{"cniVersion": "0.4.0"}')
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "cniVersion": "0.4.0",
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


def plugin(directory: Path, script: str) -> dict[str, str]:
    path = directory / "macvlan"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"CNI_PATH": str(directory)}


def test_version_is_what_both_support(tmp_path: Path) -> None:
    says = '{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.3.1","1.0.0","9.9.9"]}'
    done = serve("VERSION", b"", **plugin(tmp_path, f"echo '{says}'"))
    assert json.loads(done.stdout)["supportedVersions"] == ["0.1.0", "0.3.1", "1.0.0"]


def test_version_is_asked_and_answered_in_any_case(tmp_path: Path) -> None:
    environ = plugin(tmp_path, """echo '{"SupportedVersions":["0.4.0"]}'""")
    (tmp_path / "macvlan").rename(tmp_path / "other")
    asked = b'{"CNIVersion":"0.4.0","delegate":{"Type":"other"}}'
    done = serve("VERSION", asked, **environ)
    assert json.loads(done.stdout) == {"cniVersion": "0.4.0", "supportedVersions": ["0.4.0"]}


def local(tmp_path: Path, **more: object) -> bytes:
    """A configuration whose directories are the test's own."""
    directories = {"checkpointDir": str(tmp_path / "c"), "runDir": str(tmp_path / "run")}
    return json.dumps({**CONF, "master": "lo", **directories, **more}).encode()


def test_what_a_delegate_shouts_does_not_reach_stdout(tmp_path: Path) -> None:
    environ = plugin(tmp_path, "echo shouting; echo whispering >&2")
    done = serve("DEL", local(tmp_path), **{**GOOD, "CNI_NETNS": "", **environ})
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"whispering\n"


def test_delegate_gets_the_calls_variables_and_no_others(tmp_path: Path) -> None:
    environ = plugin(tmp_path, f"env >{tmp_path}/environ; cat >{tmp_path}/stdin")
    more = {"SECRET": "x", "LD_PRELOAD_": "y", "CNI_ARGS": "K8S_POD_NAME=a"}
    stdin = local(tmp_path, vlanId=3, ipam={"type": ""})
    done = serve("DEL", stdin, **{**GOOD, "CNI_NETNS": "", **more, **environ})
    assert done.returncode == 0, done.stdout
    lines = (tmp_path / "environ").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {*GOOD, "CNI_COMMAND", "CNI_ARGS", "PATH"}
    assert json.loads((tmp_path / "stdin").read_text()) == {
        **CONF, "type": "macvlan", "master": "lo.3", "ipam": {"type": ""},
    }  # fmt: skip


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_delegate_gets_the_very_bytes(tmp_path: Path, utf8: str) -> None:
    """Whatever the locale makes of them, and where they are no text."""
    environ = plugin(tmp_path, f'printf %s "$CNI_ARGS" >{tmp_path}/args')
    locale = {"LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
    args = {"CNI_ARGS": "K8S_POD_NAME=\u00e4\udce4"}
    done = serve("DEL", local(tmp_path), **{**GOOD, "CNI_NETNS": "", **environ, **locale, **args})
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "args").read_bytes() == b"K8S_POD_NAME=\xc3\xa4\xe4"


def test_delegates_error_object_passes_unchanged(tmp_path: Path) -> None:
    says = {"cniVersion": "0.4.0", "code": 7, "msg": "no", "details": "\u00e4", "more": [1]}
    environ = plugin(tmp_path, f"echo '{json.dumps(says)}'; exit 1")
    done = serve("CHECK", local(tmp_path), **{**GOOD, **environ})
    assert (done.returncode, json.loads(done.stdout)) == (1, says)


def test_delegates_error_object_is_one_in_any_case(tmp_path: Path) -> None:
    environ = plugin(tmp_path, """echo '{"Code": 11, "MSG": "later"}'; exit 1""")
    done = serve("CHECK", local(tmp_path), **{**GOOD, **environ})
    assert json.loads(done.stdout) == {"code": 11, "msg": "later"}


@pytest.mark.parametrize(
    "script",
    ["exit 3", "echo oops; exit 1", "kill -9 $$", "printf '{\"code\":'; exit 1"],
    ids=["silent", "words", "killed", "torn"],
)
def test_delegate_that_fails_without_an_error_object(tmp_path: Path, script: str) -> None:
    environ = plugin(tmp_path, script)
    document = failure(serve("CHECK", local(tmp_path), **{**GOOD, **environ}))
    assert "macvlan" in document["msg"]


def test_missing_delegate_is_named(tmp_path: Path) -> None:
    document = failure(serve("CHECK", local(tmp_path), **GOOD))
    assert "macvlan" in document["msg"]
    assert "containernetworking-plugins" in document["details"]


def test_del_twice_of_what_never_was(tmp_path: Path) -> None:
    environ = plugin(tmp_path, "exit 0")
    for _ in range(2):
        done = serve("DEL", local(tmp_path), **{**GOOD, **environ})
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert os.listdir(tmp_path / "run") == []


def test_add_without_a_namespace_changes_nothing(tmp_path: Path) -> None:
    environ = plugin(tmp_path, f"touch {tmp_path}/called")
    for netns in ("/nonexistent", "/dev/null", str(tmp_path), "/proc/self/ns/mnt"):
        document = failure(serve("ADD", local(tmp_path), **{**GOOD, **environ, "CNI_NETNS": netns}))
        assert document["code"] == ENVIRONMENT
        assert netns in document["msg"]
    assert [path.name for path in tmp_path.iterdir()] == ["macvlan"]


def test_add_into_the_nodes_own_namespace_is_refused(tmp_path: Path) -> None:
    environ = plugin(tmp_path, f"touch {tmp_path}/called")
    stdin = local(tmp_path)
    document = failure(serve("ADD", stdin, **{**GOOD, **environ, "CNI_NETNS": "/proc/self/ns/net"}))
    assert document["code"] == ENVIRONMENT
    assert "own network namespace" in document["msg"]
    assert not (tmp_path / "called").exists()


def test_repair_of_an_empty_node(tmp_path: Path) -> None:
    done = serve("REPAIR", local(tmp_path))
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["attachments"] == []
    assert document["summary"]["attachments"] == 0


def test_repair_of_the_unknown_names_where_it_looked(tmp_path: Path) -> None:
    document = failure(serve("REPAIR", local(tmp_path), CNI_CONTAINERID="abc", CNI_IFNAME="eth0"))
    assert document["code"] >= INTERNAL
    assert str(tmp_path / "c") in document["details"]


# --- bugs ---------------------------------------------------------------------------------------


def test_bug_of_ours_is_still_one_document(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Call) -> tuple[str, int]:
        print("a stray print")
        raise ZeroDivisionError("oops")

    for name, value in {**GOOD, "CNI_COMMAND": "ADD"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(skel, "_read_stdin", lambda: json.dumps(CONF).encode())
    saved = os.dup(1)
    try:
        assert skel.serve({"ADD": Verb(broken)}) == 1
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    document = json.loads(capfd.readouterr().out.replace("a stray print\n", ""))
    assert document["code"] == INTERNAL
    assert "ZeroDivisionError" in document["msg"]
    assert "test_skel.py" in document["details"]
