"""Three sessions at once (`--beside`): two thirds of the tests, by the time that they take, run in
two of their own, and what came of each is told here as if it had run here.

Each session has its own mounts and its own mark (tests/leaks.py): neither sees the other's traces.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.background import in_machines_mounts
from tests.patience import HANG_SECONDS, eventually

# Each session's; all of them are to take about as long. Kernels and daemons are waited for in each,
# for longer than there is something to compute: so there may be more of them than processors.
_SESSIONS = (
    (
        "tests/netns/test_detection.py",
        "tests/netns/test_differential.py",
        "tests/netns/test_many.py",
        "tests/netns/test_present.py",
        "tests/netns/test_repair.py",
        "tests/netns/test_upgrade*.py",
        "tests/netns/test_verbs.py",
        "tests/netns/test_watch*.py",
        "tests/test_manual.py",
    ),
    (
        "tests/install/*",
        "tests/packages/*",
        "tests/test_adopt_containerd.py",
        "tests/test_bundle.py",
        "tests/test_clients.py",
        "tests/test_cluster.py",
        "tests/test_containerd.py",
        "tests/test_fleet.py",
        "tests/test_kubelet*.py",
        "tests/test_kubernetes.py",
        "tests/test_prometheus.py",
    ),
)
_END_SECONDS = 2 * HANG_SECONDS
_SESSION = pytest.StashKey[int]()  # of `_SESSIONS`, or none


def runs_here(item: pytest.Item) -> bool:
    """Whether a test is this session's own."""
    return _SESSION not in item.stash


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("cni-repair")
    group.addoption(
        "--beside", action="store_true", help="run some tests in a session beside this one"
    )
    group.addoption("--tell", metavar="FILE", help="write there what came of each test")


def register(config: pytest.Config) -> None:
    if config.option.tell:
        config.pluginmanager.register(Teller(config, Path(config.option.tell)))
    if config.option.beside and not config.option.collectonly:
        config.pluginmanager.register(Beside(config))


class Teller:
    """Of the session beside: writes its reports, a line each."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self._config.hook
        self._tell(hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell({"finished": nodeid})

    def pytest_unconfigure(self) -> None:
        self._file.close()

    def _tell(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(document) + "\n")


class Session:
    """One that runs beside this one, and what it has told by now."""

    def __init__(self, items: list[pytest.Item], directory: Path) -> None:
        self._items = {item.nodeid: item for item in items}
        self._directory = directory
        self._reports = dict[str, list[dict[str, Any]]]()  # of tests that are finished, or at work
        self._finished = set[str]()
        self._read = 0  # characters of what it has told
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, config: pytest.Config) -> None:
        self._directory.mkdir()
        names = self._directory / "names"
        names.write_text("\n".join(self._items), encoding="utf-8")
        # (With us ends the other, whatever ended us.)
        command = ["setpriv", "--pdeathsig", "INT", "env", f"--chdir={config.rootpath}"]
        command += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"--tell={self._told}", f"--basetemp={self._directory}/t", f"@{names}"]
        self._told.touch()
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [*in_machines_mounts(), *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def documents_of(self, nodeid: str) -> list[dict[str, Any]]:
        """What came of a test, once it has ended; as it was told."""
        eventually(lambda: self._has_finished(nodeid), nodeid, float("inf"), 0.1)
        return self._reports.pop(nodeid, [])

    def failure_of(self, nodeid: str) -> str:
        """Why it never came to the end of a test; empty where it did."""
        if nodeid in self._finished:
            return ""
        said = self._said.read_text(errors="replace")[-4000:]
        return f"the session beside ended before this test:\n{said}"

    def end(self) -> None:
        """(Ctrl-C has reached it already.)"""
        if self._process is None or self._process.poll() is not None:
            return
        if self._items.keys() - self._finished:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _told(self) -> Path:
        return self._directory / "told"

    @property
    def _said(self) -> Path:
        return self._directory / "said"

    def _has_finished(self, nodeid: str) -> bool:
        """Whether a test has ended; or the whole session, so that it never will."""
        assert self._process is not None
        running = self._process.poll() is None  # asked before: what it tells last is not missed
        *lines, _ = self._told.read_text(encoding="utf-8")[self._read :].split("\n")
        self._read += sum(len(line) + 1 for line in lines)
        for document in map(json.loads, lines):
            if "finished" in document:
                self._finished.add(document["finished"])
            else:
                self._reports.setdefault(document["nodeid"], []).append(document)
        return nodeid in self._finished or not running


class Beside:
    """Of the session that people see: starts the others, and replays what they tell."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._sessions = dict[int, Session]()
        where = config.option.basetemp  # whoever gave it removes what is next to it
        prefix = f"{where}-" if where else f"{tempfile.gettempdir()}/cni-repair-tests-"
        self._directory = Path(tempfile.mkdtemp(prefix=prefix))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Those that run beside come last here: by then most of them have ended."""
        parts: list[list[pytest.Item]] = [[] for _ in (None, *_SESSIONS)]
        for item in items:
            parts[_session_of(item)].append(item)
        first, *_ = there = [number for number, part in enumerate(parts) if part] or [0]
        for number in there:
            if number != first:  # without any of this session's own, the next one's are
                self._sessions[number] = Session(parts[number], self._directory / str(number))
                for item in parts[number]:
                    item.stash[_SESSION] = number
        items[:] = [item for part in parts for item in part]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        for session in self._sessions.values():
            session.start(self._config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> object | None:
        is_beside = not runs_here(item)
        if not is_beside and (nextitem is None or runs_here(nextitem)):
            return None  # as ever
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        if is_beside:
            for report in self._reports_of(item):
                hook.pytest_runtest_logreport(report=report)
        else:
            # The last one here: what is of the whole session ends with it.
            runtestprotocol(item, nextitem=None)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        """Whatever ends this session ends the others, too."""
        for session in self._sessions.values():
            session.end()
        subprocess.run(["rm", "-rf", "--", self._directory], check=True)

    def _reports_of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        session = self._sessions[item.stash[_SESSION]]
        for document in session.documents_of(item.nodeid):
            if isinstance(document["longrepr"], list):  # a skip's, which JSON made of a tuple
                document["longrepr"] = tuple(document["longrepr"])
            yield self._config.hook.pytest_report_from_serializable(
                config=self._config, data=document
            )
        if why := session.failure_of(item.nodeid):
            yield pytest.TestReport(
                item.nodeid, item.location, {}, "failed", why, "call", duration=0.0
            )


def _session_of(item: pytest.Item) -> int:
    """Which of the sessions a test is of: 0 is the one that people see."""
    for number, patterns in enumerate(_SESSIONS, 1):
        if any(item.path.match(str(item.config.rootpath / pattern)) for pattern in patterns):
            return number
    return 0
