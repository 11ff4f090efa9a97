"""Started with next to no descriptors, or memory: whoever asks is answered all the same."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_repair.placing.launcher import launcher_text
from tests.unit.samples import REPOSITORY

SECONDS = 60.0


@pytest.fixture(name="launcher")
def _launcher(tmp_path: Path) -> Path:
    """As an installation has it, of this checkout."""
    path = tmp_path / "cni-repair"
    path.write_text(launcher_text(sys.executable, [str(REPOSITORY), sysconfig.get_path("purelib")]))
    path.chmod(0o755)
    return path


def run(
    launcher: Path, limit: Callable[[], None], *words: str, verb: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command, or a verb, with such a limit, and see that it ends as it should."""
    where = str(launcher.parent / "none")
    netconf = {"cniVersion": "1.0.0", "name": "x", "checkpointDir": where, "runDir": where}
    done = subprocess.run(
        [str(launcher), *words],
        input=json.dumps(netconf) if verb else "",
        env={"CNI_COMMAND": verb, "CNI_PATH": "/usr/lib/cni"} if verb else {},
        preexec_fn=limit,
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode in (0, 1, 2, 3)  # 3: not root
    assert "Traceback" not in done.stdout + done.stderr
    assert "a bug in" not in done.stdout + done.stderr
    return done


def verb(launcher: Path, limit: Callable[[], None], name: str) -> None:
    done = run(launcher, limit, verb=name)
    document = json.loads(done.stdout)
    assert done.returncode == 0 or document["code"] in (5, 50), document


def command(launcher: Path, limit: Callable[[], None], *words: str) -> None:
    done = run(launcher, limit, *words)
    assert done.returncode == 0 or done.stderr.startswith("cni-repair"), done.stderr


@pytest.mark.parametrize("descriptors", range(4, 13))
def test_few_descriptors(launcher: Path, descriptors: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    for name in ("VERSION", "REPAIR"):
        verb(launcher, limit, name)
    where = ("--checkpoint-dir", str(launcher.parent / "none"))
    command(launcher, limit, "status", *where)
    command(launcher, limit, "repair", "--all", "-o", "json", *where)


def _is_enough(megabytes: int) -> bool:
    """Whether the interpreter itself starts with so much."""
    return (
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", "pass"],
            preexec_fn=lambda: _limit_memory(megabytes),
            check=False,
            stderr=subprocess.DEVNULL,
        ).returncode
        == 0
    )


def _limit_memory(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def test_little_memory(launcher: Path) -> None:
    """From what the interpreter starts with to what is enough, in steps."""
    least = next(size for size in range(8, 128) if _is_enough(size))
    # (With less than 2 MB more it may not even come to the launcher's first line.)
    for more in range(2, 14, 2):

        def limit(megabytes: int = least + more) -> None:
            _limit_memory(megabytes)

        verb(launcher, limit, "REPAIR")
        command(launcher, limit, "status", "--checkpoint-dir", str(launcher.parent / "none"))
