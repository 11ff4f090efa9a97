"""install.sh: fresh installations, upgrades, and what may go wrong in either."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from cni_repair import __version__
from tests.install.node import (
    BILL,
    COMMAND_LINK,
    COMPLETION,
    LAUNCHER,
    LOCK,
    MAN_PAGE,
    PREFIX,
    REPOSITORY,
    VERSION_REQUEST,
    Node,
)
from tests.patience import eventually
from tests.processes import is_alive

EVIL = 'raise SystemExit("not isolated")\n'

BROKEN_MAIN = "def main() -> int:\n    raise RuntimeError('broken on purpose')\n"


def wheels_with_main(wheels: Path, target: Path, main: str) -> str:
    """Wheels in which cni_repair/__main__.py is `main`."""
    target.mkdir()
    for wheel in wheels.iterdir():
        if wheel.name.startswith("cni_repair-"):
            rewrite(wheel, target / wheel.name, "cni_repair/__main__.py", main)
        else:
            (target / wheel.name).symlink_to(wheel)
    return str(target)


def rewrite(wheel: Path, target: Path, name: str, text: str) -> None:
    """The wheel, only with another text in one of its files."""
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, text if entry.filename == name else old.read(entry))


def git(*words: str) -> str:
    """What git says of this checkout; nothing where it is none."""
    if not (REPOSITORY / ".git").exists():
        return ""
    command = ["git", "-C", str(REPOSITORY), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def assert_installed_for_all(node: Node) -> None:
    for path, (owner, mode) in node.tree(PREFIX, LAUNCHER).items():
        assert owner == 0, path
        assert not mode & 0o022, path
        assert mode & 0o444 == 0o444, path
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o755, path
    assert stat.S_IMODE(node.path(LAUNCHER).stat().st_mode) == 0o755


@pytest.mark.slow
class TestFreshInstallation:
    def test_is_for_all_whatever_the_umask(self, fresh_node: Node) -> None:
        assert_installed_for_all(fresh_node)

    def test_names(self, fresh_node: Node) -> None:
        (version,) = fresh_node.versions()
        assert fresh_node.version_in_service() == version
        assert os.readlink(fresh_node.path(f"{PREFIX}/current")) == f"versions/{version}"
        assert os.readlink(fresh_node.path(COMMAND_LINK)) == LAUNCHER
        assert os.listdir(fresh_node.path("/opt/cni/bin")) == ["cni-repair"]
        assert set(os.listdir(fresh_node.path(PREFIX))) == {"versions", "current", ".lock"}

    def test_is_byte_compiled_and_without_pip(self, fresh_node: Node) -> None:
        (packages,) = fresh_node.path(f"{PREFIX}/current/lib").glob("python3.*/site-packages")
        assert not {"pip", "setuptools"} & set(os.listdir(packages))
        assert list((packages / "cni_repair" / "__pycache__").glob("__main__.*.pyc"))
        assert list((packages / "cni_repair" / "__pycache__").glob("pack.cpython-*[0-9]"))

    def test_carries_the_schemas(self, fresh_node: Node) -> None:
        (package,) = fresh_node.path(f"{PREFIX}/current/lib").glob("python3.*/*/cni_repair")
        schemas = {path.relative_to(REPOSITORY) for path in REPOSITORY.glob("cni_repair/**/*.json")}
        assert {path.relative_to(package.parent) for path in package.rglob("*.json")} == schemas

    def test_carries_the_manual_the_licence_and_its_types(self, fresh_node: Node) -> None:
        (packages,) = fresh_node.path(f"{PREFIX}/current/lib").glob("python3.*/site-packages")
        pages = {path.name for path in (REPOSITORY / "cni_repair" / "manual").iterdir()}
        assert {path.name for path in (packages / "cni_repair" / "manual").iterdir()} == pages
        assert (packages / "cni_repair" / "py.typed").exists()
        assert list(packages.glob("cni_repair-*.dist-info/licenses/LICENSE"))
        shown = fresh_node.run(LAUNCHER, "help", "on-call")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith("ON CALL\n")

    def test_man_page_and_completion_are_linked(self, fresh_node: Node) -> None:
        for link, text in ((MAN_PAGE, ".SH COMMANDS"), (COMPLETION, "complete -F _cni_repair")):
            name = link.removeprefix("/usr/local/share")
            assert os.readlink(fresh_node.path(link)) == f"{PREFIX}/current/share{name}"
            assert text in fresh_node.shell(f"cat {link}")
        if os.path.exists("/usr/bin/man"):
            shown = fresh_node.run("/usr/bin/man", "cni-repair", env={"PATH": os.defpath})
            assert (shown.returncode, shown.stderr) == (0, "")
            assert "cni-repair repair --all" in shown.stdout

    def test_bill_of_materials_is_what_the_lock_pins(self, fresh_node: Node) -> None:
        document = json.loads(fresh_node.path(f"{PREFIX}/current/share/{BILL}").read_text())
        (packages,) = fresh_node.path(f"{PREFIX}/current/lib").glob("python3.*/site-packages")
        told = {one["name"]: one["version"] for one in document["components"] if "purl" in one}
        there = (path.stem.split("-") for path in packages.glob("*.dist-info"))
        versions = {str(canonicalize_name(name)): version for name, version in there}
        assert document["metadata"]["component"]["version"] == versions.pop("cni-repair")
        assert told == versions
        lock = (REPOSITORY / LOCK).read_text()
        assert [
            f"{name}=={told[name]}" for name in told if f"{name}=={told[name]} " not in lock
        ] == []

    def test_version_is_told_with_its_commit(self, fresh_node: Node) -> None:
        done = fresh_node.run(LAUNCHER, "--version", env={"PATH": os.defpath})
        commit = git("rev-parse", "--short", "HEAD")
        dirty = ", dirty" if git("status", "--short") else ""
        told = f" (commit {commit}{dirty})" if commit else ""
        assert done.stdout == f"cni-repair {__version__}{told}\n"

    @pytest.mark.parametrize(
        "env",
        [
            {},
            {"PATH": ""},
            {"PATH": "/run/evil"},
            {"PYTHONPATH": "/run/evil"},
            {"PYTHONHOME": "/run/evil"},
            {"PYTHONSTARTUP": "/run/evil/json.py"},
            {"PYTHONPLATLIBDIR": "evil"},
            {"PYTHONIOENCODING": "utf-16"},
            {"PYTHONINSPECT": "1", "PYTHONVERBOSE": "1"},
            {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
            {"PYTHONUSERBASE": "/run/evil/.local"},
            {"HOME": "/run/evil"},
            {"VIRTUAL_ENV": "/run/evil", "__PYVENV_LAUNCHER__": "/run/evil/python3"},
        ],
        ids=lambda env: "+".join(env) or "cwd",
    )
    def test_launcher_is_isolated(self, fresh_node: Node, env: dict[str, str]) -> None:
        expected = fresh_node.answer()
        user_site = "/run/evil/.local/lib/python3.{}/site-packages"
        for name in ("json", "os", "encodings", "sitecustomize", "cni_repair/__init__"):
            fresh_node.write(f"/run/evil/{name}.py", EVIL)
        for minor in range(10, 20):
            fresh_node.write(f"{user_site.format(minor)}/usercustomize.py", EVIL)
            fresh_node.write(f"{user_site.format(minor)}/evil.pth", f"import os; {EVIL}")
        fresh_node.write("/run/evil/python3", "#!/bin/sh\necho not isolated\n", 0o755)
        assert fresh_node.answer(env=env, cwd="/run/evil") == expected
        assert fresh_node.answer(COMMAND_LINK, env=env, cwd="/run/evil") == expected


@pytest.mark.slow
def test_commit_is_told_only_of_what_was_installed(
    node: Node, wheels: Path, tmp_path: Path
) -> None:
    """Wheels of another commit may have the same version."""
    main = (REPOSITORY / "cni_repair" / "__main__.py").read_text()
    others = wheels_with_main(wheels, tmp_path / "others", f"{main}# changed\n")
    assert node.install("--wheels", others).returncode == 0
    done = node.run(LAUNCHER, "--version", env={"PATH": os.defpath})
    assert done.stdout == f"cni-repair {__version__}\n"


@pytest.mark.slow
def test_links_of_others_are_left_and_those_of_another_prefix_taken_over(
    node: Node, wheels: Path
) -> None:
    node.write(MAN_PAGE, "somebody's\n")
    before = "/opt/another/current/share/bash-completion/completions/cni-repair"
    node.path(COMPLETION).parent.mkdir(parents=True)
    node.path(COMPLETION).symlink_to(before)
    done = node.install("--wheels", str(wheels))
    assert f"{MAN_PAGE} is not ours: left as it is\n" in done.stdout
    assert node.path(MAN_PAGE).read_text() == "somebody's\n"
    assert os.readlink(node.path(COMPLETION)).startswith(f"{PREFIX}/current/share/")
    assert node.install("--uninstall").returncode == 0
    assert node.path(MAN_PAGE).exists() and not node.path(COMPLETION).is_symlink()


@pytest.mark.slow
def test_without_the_command_there_are_no_links(node: Node, wheels: Path) -> None:
    node.write(COMMAND_LINK, "#!/bin/sh\n", 0o755)
    assert node.install("--wheels", str(wheels)).returncode == 0
    assert os.listdir(node.path("/usr/local/share")) == []


@pytest.mark.slow
def test_read_only_checkout_is_built_elsewhere(node: Node, checkout: Path, wheels: Path) -> None:
    node.shell(f"mount --bind -o ro {checkout} {checkout}")
    before = sorted(checkout.rglob("*"))
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    done = node.install(source=str(checkout), env={"PYTHONPATH": "/run/evil", **index})
    assert (done.returncode, done.stderr) == (0, "")
    node.answer()
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.slow
def test_what_has_another_hash_than_the_lock_is_not_installed(
    node: Node, checkout: Path, wheels: Path, tmp_path: Path
) -> None:
    """An index that was broken into, say."""
    others = tmp_path / "others"
    others.mkdir()
    for wheel in wheels.iterdir():
        shutil.copy(wheel, others)
    (changed,) = others.glob("rich-*.whl")
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("rich/evil.py", "")
    done = node.install(
        source=str(checkout), env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(others)}
    )
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"install.sh: pip cannot install what {checkout}/{LOCK} pins: see above")
    assert not node.path(LAUNCHER).exists()
    assert not node.path(PREFIX).exists()


@pytest.mark.slow
def test_without_the_lock_nothing_is_installed(node: Node, checkout: Path) -> None:
    (checkout / LOCK).unlink()
    done = node.install(source=str(checkout))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"install.sh: no {checkout}/{LOCK}: run install.sh from a complete checkout"
    )
    assert not node.path(PREFIX).exists()


@pytest.mark.slow
def test_upgrade_fails_no_call(installed_node: Node, wheels: Path) -> None:
    node = installed_node
    first = node.version_in_service()
    version = {"CNI_COMMAND": "VERSION"}
    expected = node.run(LAUNCHER, env=version, stdin=VERSION_REQUEST).stdout
    call = f"{LAUNCHER} 2>&1 <<<'{VERSION_REQUEST}' || echo FAILED"
    loop = f"while [[ ! -e /run/stop ]]; do {call}; done; echo stopped"
    loops = [node.started(node.command("/bin/bash", "-c", loop, env=version)) for _ in range(2)]
    # A long command of the first version: it may import that version's modules at any time.
    watch = node.started(
        node.command(f"{PREFIX}/versions/{first}/bin/python3", "-IS", "-c", "input()"),
        stdin=subprocess.PIPE,
    )
    try:
        done = node.install("--wheels", str(wheels), umask=0)
        assert (done.returncode, done.stderr) == (0, "")
        assert_installed_for_all(node)
    finally:
        node.write("/run/stop", "")
    for process in loops:
        calls = process.communicate()[0].removesuffix("stopped\n")
        assert calls
        assert calls == expected * (len(calls) // len(expected))
    assert len(node.versions()) == 2
    assert {first, node.version_in_service()} == node.versions()
    watch.communicate("\n")
    assert watch.returncode == 0


@pytest.mark.slow
def test_upgrade_removes_what_nobody_needs(installed_node: Node, wheels: Path) -> None:
    node = installed_node
    previous = node.version_in_service()
    half_built = "0.0.8-20200101T000000Z-1"
    node.write(f"{PREFIX}/versions/{half_built}/bin-dir", "/opt/cni/bin\n")
    node.write(f"/opt/cni/bin/.cni-repair-{half_built}", "#!")
    no_record = "0.0.8-20200101T000000Z-2"
    node.path(f"{PREFIX}/versions/{no_record}").mkdir()
    elsewhere = "0.0.9-20200101T000000Z-1"
    node.write(f"{PREFIX}/versions/{elsewhere}/bin-dir", "/opt/cni/bin\n/opt/other\n")
    node.write("/opt/other/cni-repair", f"#!{PREFIX}/versions/{elsewhere}/bin/python3 -IS\n")

    assert node.install("--wheels", str(wheels)).returncode == 0

    assert node.versions() == {previous, elsewhere, node.version_in_service()}
    assert node.version_in_service() != previous
    assert os.listdir(node.path("/opt/cni/bin")) == ["cni-repair"]

    assert node.install("--uninstall").returncode == 0
    assert os.listdir(node.path("/opt/other")) == []
    assert not node.path(PREFIX).exists()


@pytest.mark.slow
def test_concurrent_installations(node: Node, wheels: Path) -> None:
    installers = [node.start_install("--wheels", str(wheels)) for _ in range(2)]
    outputs = [installer.communicate()[0] for installer in installers]
    assert [installer.returncode for installer in installers] == [0, 0], outputs
    assert sum("waiting for another install.sh" in output for output in outputs) == 1
    assert len(node.versions()) == 2
    assert node.version_in_service() in node.versions()
    node.answer()


@pytest.mark.slow
def test_version_that_does_not_work_is_not_put_into_service(
    installed_node: Node, wheels: Path, tmp_path: Path
) -> None:
    node = installed_node
    before = node.version_in_service()
    broken = wheels_with_main(wheels, tmp_path / "broken", BROKEN_MAIN)
    done = node.install("--wheels", broken)
    assert done.returncode == 1
    assert "broken on purpose" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("install.sh: the new version does not answer")
    assert node.versions() == {before}
    assert node.version_in_service() == before
    node.answer()


@pytest.mark.slow
def test_first_installation_that_fails_leaves_nothing(node: Node, tmp_path: Path) -> None:
    done = node.install("--wheels", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("install.sh: pip cannot install cni-repair")
    assert os.listdir(node.path("/opt")) == []
    assert not node.path(COMMAND_LINK).is_symlink()


class Held:
    """Wheels with which a new version is not built to its end, but stands at a stage."""

    def __init__(self, wheels: Path, target: Path, stage: str) -> None:
        self.stage = stage
        self.wheels = target
        self._gate = target / "gate"
        target.mkdir()
        for wheel in wheels.iterdir():
            if not wheel.name.startswith("cni_repair-"):
                (target / wheel.name).symlink_to(wheel)
            elif stage == PIP:  # reads the gate in its place
                self._gate = target / wheel.name
            else:
                waiting = f"open({str(self._gate)!r}).read()\n"
                rewrite(wheel, target / wheel.name, "cni_repair/base/packing.py", waiting)
        os.mkfifo(self._gate)

    def reached(self, node: Node, before: str) -> list[int]:
        """The processes that stand there."""
        return eventually(lambda: building(node, before, self.stage), self.stage)

    def release(self) -> None:
        """Have them go on, and fail: there is nothing to be read."""
        writing = os.open(self._gate, os.O_WRONLY)
        self._gate.unlink()
        os.close(writing)


PIP = "/pip install"
PACKING = "-m cni_repair.base.packing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stage"),
    [("SIGINT", PIP), ("SIGTERM", PIP), ("SIGHUP", PIP), ("SIGINT", PACKING)],
)
def test_interrupted_upgrade_changes_nothing(
    installed_node: Node, wheels: Path, tmp_path: Path, name: str, stage: str
) -> None:
    node, held = installed_node, Held(wheels, tmp_path / "held", stage)
    before = node.version_in_service()
    installer = node.start_install("--wheels", str(held.wheels))
    held.reached(node, before)
    installer.send_signal(signal.Signals[name])
    output = installer.communicate()[0]
    assert installer.returncode == 128 + signal.Signals[name], output
    assert node.versions() == {before}
    assert not building(node, before)
    assert os.listdir(node.path("/run/tmp")) == []
    node.answer()


@pytest.mark.slow
def test_killed_upgrade_is_cleaned_by_the_next(
    installed_node: Node, wheels: Path, tmp_path: Path
) -> None:
    node, held = installed_node, Held(wheels, tmp_path / "held", PIP)
    before = node.version_in_service()
    installer = node.start_install("--wheels", str(held.wheels))
    (pid,) = held.reached(node, before)
    installer.kill()
    installer.wait()
    # What it has started goes on without its parent, and keeps the lock while it may write.
    node.answer()
    second = node.start_install("--wheels", str(wheels))
    output = ""
    while "waiting for another install.sh" not in output:
        output += told(second)
    assert is_alive(pid)
    held.release()
    output = second.communicate()[0]
    assert second.returncode == 0, output
    installer.communicate()
    assert node.versions() == {before, node.version_in_service()}


def building(node: Node, but_version: str, stage: str = "") -> list[int]:
    """The processes that build a version of `node`, other than the one in service."""
    return [
        pid
        for pid, line in node.processes().items()
        if line.startswith(f"{PREFIX}/versions/") and but_version not in line and stage in line
    ]


def told(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it has ended"
    return line


@pytest.mark.parametrize(
    ("directory", "found"),
    [("/opt/cni-repair/photos", "photos"), ("/opt/cni-repair/versions/photos", "photos")],
)
def test_prefix_with_other_things_in_it_is_refused(
    node: Node, directory: str, found: str, tmp_path: Path
) -> None:
    node.path(directory).mkdir(parents=True)
    done = node.install("--wheels", str(tmp_path))
    assert done.returncode == 1
    assert found in done.stderr
    assert os.listdir(node.path("/opt")) == ["cni-repair"]


def test_launcher_of_someone_else_is_not_overwritten(node: Node, tmp_path: Path) -> None:
    node.write(LAUNCHER, "#!/bin/sh\n", 0o755)
    done = node.install("--wheels", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"install.sh: {LAUNCHER} is not a launcher of ours: move it away\n"
    assert node.path(LAUNCHER).read_text() == "#!/bin/sh\n"
    assert not node.path(PREFIX).exists()


class TestPython:
    @pytest.fixture
    def node(self, node: Node) -> Node:
        pythons = [*Path("/usr/bin").glob("python3*"), *Path("/usr/local/bin").glob("python3*")]
        for python in {path.resolve() for path in pythons if os.access(path, os.X_OK)}:
            node.hide(str(python), behind="/bin/false")
        return node

    def test_none_and_no_apt(self, node: Node, tmp_path: Path) -> None:
        node.hide("/usr/bin/apt-get")
        done = node.install("--wheels", str(tmp_path))
        assert done.returncode == 1
        assert "no Python 3.10 or newer with venv" in done.stderr
        assert "Debian: python3 python3-venv; RHEL: python3.11" in done.stderr
        assert os.listdir(node.path("/opt")) == []

    def test_none_but_apt(self, node: Node, tmp_path: Path) -> None:
        fake_apt(node)
        done = node.install("--wheels", str(tmp_path))
        assert done.returncode == 1
        assert "this distribution's python3 is older" in done.stderr
        update, install = node.path("/run/apt.log").read_text().splitlines()
        assert update == "-q update"
        assert install.endswith("install python3 python3-venv")


def test_python_without_pips_wheel_is_none(node: Node, tmp_path: Path) -> None:
    """As where Debian's python3-venv is there, and the package of that wheel is not."""
    places = Path("/usr").glob("local/lib/python3*/ensurepip/_bundled")
    for place in (Path("/usr/share/python-wheels"), *places):
        if place.exists():
            node.shell(f"mount -t tmpfs tmpfs {place}")
    node.hide("/usr/bin/apt-get")
    done = node.install("--wheels", str(tmp_path))
    assert done.returncode == 1
    assert "no Python 3.10 or newer with venv" in done.stderr
    assert os.listdir(node.path("/opt")) == []


def fake_apt(node: Node) -> None:
    node.write("/run/apt-get", '#!/bin/sh\necho "$*" >>/run/apt.log\n', 0o755)
    node.hide("/usr/bin/apt-get", behind="/run/apt-get")


class TestDemo:
    MAIN = """
import os, sys, time

def main() -> int:
    if "CNI_COMMAND" in os.environ:
        print('{"supportedVersions": ["1.0.0"]}')
        return 0
    try:
        print("demo of", sys.argv[0], flush=True)  # from here on it may be interrupted
        time.sleep(float(os.environ["NAP"]))
    except KeyboardInterrupt:
        print("demo cleaned up", flush=True)
    return 7
"""

    def command(self, node: Node, wheels: Path, tmp_path: Path, nap: str) -> list[str]:
        stand_in = wheels_with_main(wheels, tmp_path / "demo", self.MAIN)
        return node.install_command("--demo", "--wheels", stand_in, env={"NAP": nap})

    @pytest.mark.slow
    def test_passes_its_status_on(self, node: Node, wheels: Path, tmp_path: Path) -> None:
        command = self.command(node, wheels, tmp_path, nap="0")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (7, "")
        assert "demo of /run/tmp/" in done.stdout
        assert len(done.stdout.splitlines()) == 2
        self.assert_nothing_left(node)

    @pytest.mark.slow
    def test_interrupted(self, node: Node, wheels: Path, tmp_path: Path) -> None:
        command = self.command(node, wheels, tmp_path, nap="600")
        demo = node.started(command)
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("demo of"):
                break
        demo.send_signal(signal.SIGINT)
        assert demo.communicate()[0] == "demo cleaned up\n"
        assert demo.returncode == 130
        self.assert_nothing_left(node)

    def test_installs_what_it_needs(self, node: Node, tmp_path: Path) -> None:
        self.hide_plugins(node)
        fake_apt(node)
        node.write("/run/apt-get", '#!/bin/sh\necho "$*" >>/run/apt.log\nexit 100\n', 0o755)
        done = node.install("--demo", "--wheels", str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.startswith("install.sh: apt-get cannot install containernetworking-")
        assert "install containernetworking-plugins" in node.path("/run/apt.log").read_text()

    def test_says_what_it_needs(self, node: Node, tmp_path: Path) -> None:
        self.hide_plugins(node)
        node.hide("/usr/bin/apt-get")
        done = node.install("--demo", "--wheels", str(tmp_path))
        assert done.returncode == 1
        assert "the demo lacks containernetworking-plugins" in done.stderr

    def hide_plugins(self, node: Node) -> None:
        node.shell("mount -t tmpfs tmpfs /usr/lib/cni")

    def assert_nothing_left(self, node: Node) -> None:
        assert os.listdir(node.path("/run/tmp")) == []
        assert os.listdir(node.path("/opt")) == []
        assert os.listdir(node.path("/usr/local/sbin")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frobnicate"], "unknown argument '--frobnicate'"),
        (["somewhere"], "unknown argument 'somewhere'"),
        (["--prefix"], "--prefix needs a directory"),
        (["--prefix", "opt"], "--prefix 'opt': give an absolute path"),
        (["--bin-dir", ""], "--bin-dir '': give an absolute path"),
        (["--prefix", "/opt/with space"], "--prefix '/opt/with space': use only"),
        (["--bin-dir", "/opt/b;reboot"], "--bin-dir '/opt/b;reboot': use only"),
        (["--prefix", '/opt/"'], "use only"),
        (["--prefix", "/opt/ü"], "use only"),
        (["--prefix", "/opt/" + 100 * "x"], "is too long: choose a prefix"),
        (["--prefix", "/opt/x", "--bin-dir", "/opt/y/../x/bin"], "outside the prefix /opt/x"),
        (["--wheels", "/nonexistent"], "--wheels '/nonexistent': no such directory"),
        (["--purge"], "--purge: goes with --uninstall only"),
        (["--force"], "--force: goes with --uninstall only"),
        (["--conf-dir", "/etc"], "--conf-dir: goes with --uninstall only"),
        (["--uninstall", "--conf-dir", "net.d"], "--conf-dir 'net.d': give an absolute path"),
        (["--uninstall", "--conf-dir", "/nonexistent"], "'/nonexistent': no such directory"),
        (["--demo", "--uninstall"], "--demo with --uninstall"),
        (["--uninstall", "--demo"], "--demo with --uninstall"),
        (["--demo", "--prefix", "/opt/x"], "leave out --prefix and --bin-dir"),
        (["--uninstall", "--wheels", "/opt"], "--uninstall: leave out --wheels"),
    ],
)
def test_bad_arguments(node: Node, arguments: list[str], message: str) -> None:
    done = node.install(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("install.sh: ")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert os.listdir(node.path("/opt")) == []


def test_without_root(node: Node) -> None:
    shutil.copy(REPOSITORY / "install.sh", node.path("/run/install.sh"))
    nobody = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = node.run(*nobody, "/run/install.sh")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "install.sh: not root: run it with sudo\n"
    assert node.run(*nobody, "/run/install.sh", "--help").stdout.startswith("Usage: sudo ./install")
