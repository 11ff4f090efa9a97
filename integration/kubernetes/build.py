"""Kubernetes 1.20: of its daemons Debian has no packages, but the source package `kubernetes`.

They are built in the cache, one after the other, with Debian's Go unpacked there. What a build that
took too long had compiled is kept, and the next one goes on from there; of those that succeeded the
programs are.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from integration.errors import RigError
from integration.packages import CACHE, apt_get, locked_cache, made_whole, run, unpacked

KUBELET = CACHE / "kubelet"
APISERVER = CACHE / "kube-apiserver"
CONTROLLER_MANAGER = CACHE / "kube-controller-manager"
SCHEDULER = CACHE / "kube-scheduler"
PROGRAMS = (KUBELET, APISERVER, CONTROLLER_MANAGER, SCHEDULER)

_WORK = CACHE / "kubernetes-build"
_GOPATH = _WORK / "gopath"
_APT = Path("/etc/apt")
_KUBERNETES = "k8s.io/kubernetes"
_SOURCE = _GOPATH / "src" / _KUBERNETES
_VERSION = f"{_KUBERNETES}/vendor/k8s.io/component-base/version.gitVersion"
_FLAGS = ("-tags", "providerless dockerless")

_GO, _GO_SOURCE = "golang-1.19-go", "golang-1.19-src"
_REFLECT2 = "github.com/modern-go/reflect2"

# The API server's description of its API is made from these marks, and is no part of the source.
_OPENAPI_MARK = "+k8s:openapi-gen="
_OPENAPI = "pkg/generated/openapi"
_OPENAPI_FILE = "zz_generated.openapi"


class NotBuilt(RigError):
    """A program is not there, in the time that there was for it or on this distribution."""


def prepare(seconds: float = 0) -> Path:
    """The path of a kubelet; builds it, which takes minutes, if there is none yet.

    Raises NotBuilt after `seconds` and where there is no Go for it, RigError if it fails. To be
    called by the main thread: the time is measured by SIGALRM.
    """
    _build_missing([KUBELET], seconds)
    return KUBELET


def prepare_all(seconds: float = 0) -> None:
    """Have all of PROGRAMS, likewise; kubelet first, for those who wait for no other."""
    _build_missing(PROGRAMS, seconds)


def _build_missing(programs: Sequence[Path], seconds: float) -> None:
    missing = [program for program in programs if not program.exists()]
    with _at_most(seconds, missing):
        for program in missing:
            # A lock for each: who waits for one waits for no more than that.
            with locked_cache(program.name):
                if not program.exists():
                    _build(program)
    if missing and all(program.exists() for program in PROGRAMS):
        with locked_cache("kubernetes"):
            shutil.rmtree(_WORK, ignore_errors=True)


@contextlib.contextmanager
def _at_most(seconds: float, programs: Sequence[Path]) -> Iterator[None]:
    def too_late(number: int, frame: FrameType | None) -> None:
        name = next((one.name for one in programs if not one.exists()), "Kubernetes")
        raise NotBuilt(
            f"{name} is not built after {seconds:g} s; the next attempt goes on from there, and"
            " without --build-seconds waits until it is"
        )

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)  # 0: never
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _build(program: Path) -> None:
    with locked_cache("kubernetes"):
        go = _prepare_source()
    if program == APISERVER:
        _describe_api(go)
    _compile(go, f"cmd/{program.name}", _WORK / program.name)
    (_WORK / program.name).rename(program)


def _prepare_source() -> Path:
    """Have the source, and a Go, in the cache; the Go's root."""
    _WORK.mkdir(exist_ok=True)
    _check_go()
    # Its src is a link into the other package's tree.
    go = unpacked(_GO, f"{_WORK.name}/go", _GO_SOURCE) / "usr/lib/go-1.19"
    newer = unpacked("golang-github-modern-go-reflect2-dev", f"{_WORK.name}/reflect2")
    if not _GOPATH.exists():
        with made_whole(_GOPATH) as work:
            _unpack_source(_download_source(work), work / "tree", newer)
    return go


def _check_go() -> None:
    """Kubernetes 1.20 is too old for the Go of later Debians."""
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


def _unpack_source(source: Path, gopath: Path, newer: Path) -> None:
    # Debian's patches are of no matter here: they change kubectl and error texts.
    target = gopath / "src" / _KUBERNETES
    target.mkdir(parents=True)
    run(["tar", "-xf", str(source), "--strip-components=1", "-C", str(target)])
    # The vendored 1.0.1 reads Go's maps as those before Go 1.18 were: the API server would crash
    # when a node's status is patched.
    vendored = target / "vendor" / _REFLECT2
    shutil.rmtree(vendored)
    shutil.copytree(newer / "usr/share/gocode/src" / _REFLECT2, vendored)
    # `kubernetes_1.20.5+really1.20.2.orig.tar.gz`
    version = re.findall(r"\d+\.\d+\.\d+", source.name)[-1]
    (gopath / "version").write_text(f"v{version}")


def _describe_api(go: Path) -> None:
    """Have openapi-gen write the API's description, where it is not written yet."""
    target = _SOURCE / _OPENAPI / f"{_OPENAPI_FILE}.go"
    if target.exists():
        return
    generator = _WORK / "openapi-gen"
    _compile(go, "vendor/k8s.io/kube-openapi/cmd/openapi-gen", generator)
    found = run(["grep", "-rlF", "--include=*.go", f"// {_OPENAPI_MARK}", "."], cwd=_SOURCE)
    marked = {str(Path(name).parent) for name in found.splitlines()}
    # What is in staging is imported from vendor, where links to it are.
    packages = sorted(name.replace("staging/src/", "vendor/") for name in marked)
    # Not in its place until it is whole.
    draft = _WORK / "openapi"
    shutil.rmtree(draft, ignore_errors=True)
    options = {
        "--input-dirs": ",".join(f"{_KUBERNETES}/{one}" for one in packages),
        "--output-package": f"{_KUBERNETES}/{_OPENAPI}",
        "--output-file-base": _OPENAPI_FILE,
        "--output-base": draft,
        "--go-header-file": _SOURCE / "hack/boilerplate/boilerplate.generatego.txt",
        "--report-filename": _WORK / "openapi.report",
    }
    words = [str(word) for option in options.items() for word in option]
    _run_go(go, [str(generator), "--logtostderr", *words])
    (draft / _KUBERNETES / _OPENAPI / target.name).rename(target)


def _compile(go: Path, package: str, program: Path) -> None:
    flags = f"-s -w -X {_VERSION}={(_GOPATH / 'version').read_text()}"
    command = [f"{go}/bin/go", "build", *_FLAGS, "-ldflags", flags]
    _run_go(go, [*command, "-o", str(program), f"{_KUBERNETES}/{package}"])


def _run_go(go: Path, command: Sequence[str]) -> None:
    """Run what compiles, or reads, Go in the source; when we are ended, it is, too."""
    (_WORK / "tmp").mkdir(exist_ok=True)  # what a killed build leaves there goes with all the rest
    own = {
        "GOTMPDIR": _WORK / "tmp",
        "GOROOT": go,
        "GOPATH": _GOPATH,
        "GOCACHE": _WORK / "cache",
        "GO111MODULE": "off",
    }
    path = f"{go}/bin:{os.environ['PATH']}"
    rest = {"GOENV": "off", "GOFLAGS": "", "CGO_ENABLED": "0", "PATH": path}
    with subprocess.Popen(
        command,
        cwd=_SOURCE,
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
        raise RigError(f"{Path(command[0]).name}: exit {process.returncode}: {said[-1000:]}")
