"""A kubelet: no Debian package has one, but the source package `kubernetes` has its source.

It is built in the cache, with Debian's Go unpacked there. What a build that took too long had
compiled is kept, and the next one goes on from there; of one that succeeded the kubelet is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from integration.errors import RigError
from integration.packages import CACHE, apt_get, locked_cache, made_whole, run, unpacked

KUBELET = CACHE / "kubelet"

_WORK = CACHE / "kubelet-build"
_APT = Path("/etc/apt")
_SOURCE = "src/k8s.io/kubernetes"
_PACKAGE = "k8s.io/kubernetes/cmd/kubelet"
_VERSION = "k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion"


_GO, _GO_SOURCE = "golang-1.19-go", "golang-1.19-src"


class NotBuilt(RigError):
    """There is no kubelet, in the time that there was for it or on this distribution."""


def prepare(seconds: float = 0) -> Path:
    """The path of a kubelet; builds it, which takes minutes, if there is none yet.

    Raises NotBuilt after `seconds` and where there is no Go for it, RigError if it fails. To be
    called by the main thread: the time is measured by SIGALRM.
    """
    if not KUBELET.exists():
        with _at_most(seconds), locked_cache("kubelet"):
            if not KUBELET.exists():
                _build()
    return KUBELET


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def too_late(number: int, frame: FrameType | None) -> None:
        raise NotBuilt(
            f"kubelet is not built after {seconds:g} s; the next attempt goes on from there, and"
            " integration/kubelet/run waits until it is"
        )

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)  # 0: never
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _build() -> None:
    _WORK.mkdir(exist_ok=True)
    _check_go()
    # Its src is a link into the other package's tree.
    go = unpacked(_GO, "kubelet-build/go", _GO_SOURCE) / "usr/lib/go-1.19"
    gopath = _WORK / "gopath"
    if not gopath.exists():
        with made_whole(gopath) as work:
            _unpack_source(_download_source(work), work / "tree")
    _compile(go, gopath)
    (_WORK / "kubelet").rename(KUBELET)
    shutil.rmtree(_WORK)


def _check_go() -> None:
    """Kubelet 1.20 is too old for the Go of later Debians."""
    apt_get("update", check=False)
    newer, fitting = (run(["apt-cache", "show", name], check=False) for name in ("golang-go", _GO))
    if newer and not fitting:  # with neither, there are no lists of packages
        raise NotBuilt(f"kubelet cannot be built here: {_GO} is Debian 12's")


def _download_source(work: Path) -> Path:
    """The source's tar, by apt, with lists of its own: many machines have no deb-src lines."""
    parts = work / "sources.list.d"
    parts.mkdir()
    for path in (_APT / "sources.list", *(_APT / "sources.list.d").glob("*")):
        if path.suffix in (".list", ".sources") and path.exists():
            (parts / path.name).write_text(_for_sources(path.read_text()))
    (work / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": parts,
        "Dir::State::Lists": work / "lists",
    }
    own = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    apt_get(*own, "update", check=False)
    apt_get(*own, "source", "--download-only", "kubernetes", cwd=work)
    (source,) = work.glob("kubernetes_*.orig.tar.*")
    return source


def _for_sources(text: str) -> str:
    """A list of packages' places as one of their sources'; see sources.list(5)."""
    text = re.sub(r"^deb\s", "deb-src ", text, flags=re.M)
    return re.sub(r"^Types:.*", "Types: deb-src", text, flags=re.M)


def _unpack_source(source: Path, gopath: Path) -> None:
    # Debian's patches are of no matter here: they change kubectl and error texts.
    target = gopath / _SOURCE
    target.mkdir(parents=True)
    run(["tar", "-xf", str(source), "--strip-components=1", "-C", str(target)])
    # `kubernetes_1.20.5+really1.20.2.orig.tar.gz`
    version = re.findall(r"\d+\.\d+\.\d+", source.name)[-1]
    (gopath / "version").write_text(f"v{version}")


def _compile(go: Path, gopath: Path) -> None:
    flags = f"-s -w -X {_VERSION}={(gopath / 'version').read_text()}"
    command = [f"{go}/bin/go", "build", "-tags", "providerless dockerless"]
    command += ["-ldflags", flags, "-o", f"{_WORK}/kubelet", _PACKAGE]
    (_WORK / "tmp").mkdir(exist_ok=True)  # what a killed build leaves there goes with all the rest
    own = {
        "GOTMPDIR": _WORK / "tmp",
        "GOROOT": go,
        "GOPATH": gopath,
        "GOCACHE": _WORK / "cache",
        "GO111MODULE": "off",
    }
    rest = {"GOENV": "off", "GOFLAGS": "", "CGO_ENABLED": "0", "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        command,
        cwd=gopath / _SOURCE,
        env={name: str(value) for name, value in (own | rest).items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with its compilers
            raise
    if process.returncode != 0:
        raise RigError(f"go build: exit {process.returncode}: {said[-1000:]}")
