"""How CNI's own programs read a document: a Go program with their types, built on the spot."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cni_repair.base.closeable import Closeable
from integration.errors import RigError
from integration.packages import CACHE, apt_get, locked_cache, run, unpacked
from integration.trust.fed.reader import Answer, Question

_SOURCE = Path(__file__).with_name("golang") / "reader.go"
_CNI = "golang-github-appc-cni-dev"  # github.com/containernetworking/cni, as Debian calls it
_PIPE_BYTES = 1 << 15  # what a pipe holds for certain


def program() -> Path:
    """The program's path; builds it, if there is none yet. Raises RigError where it cannot be."""
    key = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    built = CACHE / f"fed-go-{key}"
    if not built.exists():
        with locked_cache("fed-go"):
            if not built.exists():
                _build(built)
    return built


def _build(into: Path) -> None:
    version = _version_of_go()
    tree = unpacked(f"golang-{version}-go", f"go-{version}", f"golang-{version}-src", _CNI)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        environ = {
            "GOROOT": f"{tree}/usr/lib/go-{version}",
            "GOPATH": f"{tree}/usr/share/gocode",
            "GOCACHE": f"{work}/cache",
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
            "GOENV": "off",
            "GOFLAGS": "",
        }
        words = [f"{name}={value}" for name, value in environ.items()]
        go = f"{environ['GOROOT']}/bin/go"
        run(["env", *words, go, "build", "-o", f"{work}/reader", str(_SOURCE)])
        os.rename(f"{work}/reader", into)


def _version_of_go() -> str:
    """Debian's: golang-go is empty, and depends on the one of its time."""
    for attempt in range(2):
        shown = run(["apt-cache", "show", "--no-all-versions", "golang-go"], check=False)
        found = re.search(r"^Depends:.*\bgolang-(\d+\.\d+)-go\b", shown, re.M)
        if found:
            return found[1]
        if attempt == 0:
            apt_get("update", check=False)
    raise RigError("no Go here: apt knows no package golang-go")


class Go(Closeable):
    """The program at work."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout

    def close(self) -> None:
        self._to.close()
        self._from.close()
        self._process.wait()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each, in their order."""
        answers: list[Answer] = []
        asked = size = 0
        for question in questions:
            said = b"".join(
                (
                    question.letter.encode(),
                    struct.pack("!I", len(question.first)),
                    question.first,
                    struct.pack("!I", len(question.second)),
                    question.second,
                )
            )
            # (It answers meanwhile: with more on the way than a pipe holds, both would wait.)
            if asked and size + len(said) > _PIPE_BYTES:
                answers += self._answers(asked)
                asked = size = 0
            self._to.write(said)
            asked, size = asked + 1, size + len(said)
        return answers + self._answers(asked)

    def _answers(self, count: int) -> list[Answer]:
        self._to.flush()
        lines = [self._from.readline() for _ in range(count)]
        if not all(lines):
            raise RigError("the Go program has ended: see above")
        return [json.loads(line) for line in lines]
