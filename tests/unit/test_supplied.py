"""The proof `supplied`: what it makes of a lock that pip could read otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from integration.trust.proof import Extent
from integration.trust.supplied import lock, outside, proof
from integration.trust.supplied.lock import Pin, pins

HASH = f"--hash=sha256:{'0' * 64}"


def test_the_lock_is_read_whole() -> None:
    text = lock.LOCK.read_text()
    assert sum(len(pin.hashes) for pin in pins()) == text.count("--hash=")
    assert [pin.trouble for pin in pins() if pin.trouble] == []


@pytest.mark.parametrize(
    ("text", "hashes", "trouble"),
    [
        ("rich==15.0.0", (HASH,), ""),
        ("rich==15.0.0 ; python_full_version < '3.13'", (HASH, HASH), ""),
        ("rich>=15", (HASH,), "not pinned"),
        ("rich", (HASH,), "not pinned"),
        ("rich @ https://example.org/rich.whl", (HASH,), "not pinned"),
        ("rich==15.0.0", (), "no SHA-256"),
        ("rich==15.0.0", (HASH, f"--hash=md5:{'0' * 32}"), "something else"),
    ],
)
def test_what_pip_could_take_something_else_for(
    text: str, hashes: tuple[str, ...], trouble: str
) -> None:
    found = Pin(text, hashes).trouble
    assert (trouble in found) and bool(found) == bool(trouble)


def test_a_case_that_does_not_hold_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lock"
    file.write_text(f"good==1 \\\n    {HASH}\nbad>=2 \\\n    {HASH}\n")
    monkeypatch.setattr(lock, "LOCK", file)
    monkeypatch.setattr(outside, "environment", lambda directory: directory)
    monkeypatch.setattr(proof, "environment", lambda directory: directory)
    monkeypatch.setattr(proof, "refuses", lambda python, pin, place: "pip took it")
    monkeypatch.setattr(proof, "_SWAPPED_IN_A_SAMPLE", 2)
    outcome = proof.prove(Extent())
    assert outcome.tried == 4
    assert [(one.case.split("==")[0], one.saw) for one in outcome.failures] == [
        ("lock bad>=2", "it is not pinned to one version"),
        *[(one.case.split("==")[0], "pip took it") for one in outcome.failures[1:]],
    ]
    assert len(outcome.failures) == 3


def test_what_the_network_does_not_give_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise outside.Unreachable("no index")

    monkeypatch.setattr(proof, "installed", unreachable)
    monkeypatch.setattr(proof, "environment", lambda directory: directory)
    monkeypatch.setattr(proof, "refuses", lambda *_: "")
    outcome = proof.prove(Extent(full=True))
    assert outcome.holds
    assert dict(outcome.figures) == {"installed": "left out: no index"}


def test_swapped_file_is_a_good_wheel(tmp_path: Path) -> None:
    """But for its hash, pip would install it."""
    outside._write_wheel(tmp_path, Pin("cni-repair-none==1.0", ()))
    (wheel,) = tmp_path.iterdir()
    target = tmp_path / "target"
    options = ("--no-index", "--no-deps", "--quiet", "--target", target)
    done = outside.run(Path(sys.executable), "-I", "-m", "pip", "install", *options, wheel)
    assert (done.returncode, (target / "evil.py").exists()) == (0, True), done.stderr
