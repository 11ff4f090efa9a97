"""The relocatable bundle and the image: made twice, and used on a host that has nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import PATH, Lab
from integration.errors import RigError
from integration.packaging.bundle.bundle import write_bundle
from integration.packaging.bundle.image import NAME, prepare, write_image
from integration.packaging.bundle.inputs import DEBIAN, Inputs, inputs
from integration.packaging.locked import entries
from integration.packaging.source import CHECKOUT, LOCK, Source, read_source
from tests.bundlehost import LAUNCHER, BundleHost
from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import DEAD_API_SERVER, KUBECONFIG, PREFIX, Node
from tests.packages.byansible import reached
from tests.packages.conftest import node_of
from tests.patience import HANG_SECONDS, eventually
from tests.processes import ended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it may have to be downloaded

_NOT_IN_IT = {"setuptools", "tomli"}  # it is built with the one; the other is for Python 3.10
_EXAMPLES = ("examples/systemd/cni-repair-watch.service", "examples/watch.yaml")
CURRENT = "/opt/cni-repair/current/cni-repair"
_EPOCH = 1_700_000_000  # a checkout need not have a git


@dataclass(frozen=True)
class Made:
    """What was made, in a directory."""

    source: Source
    bundle: Path
    image: Path

    @property
    def bill(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            (self.bundle.parent / self.bundle.name.replace(".tar.gz", ".cdx.json")).read_text()
        )
        return document


@pytest.fixture(scope="module")
def prepared() -> Inputs:
    """What it is made of, in the cache."""
    try:
        prepare()
        return inputs(CHECKOUT / LOCK)
    except RigError as error:
        pytest.skip(f"the bundle's inputs are not to be had here: {error}")


def make(directory: Path) -> Made:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SOURCE_DATE_EPOCH", str(_EPOCH))
        source = read_source()
    work, out = directory / "work", directory / "out"
    work.mkdir()
    out.mkdir()
    made = Made(source, write_bundle(source, work, out), write_image(source, work, out))
    shutil.rmtree(work)
    return made


@pytest.fixture(scope="module")
def made(prepared: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def host(made: Made, tmp_path_factory: pytest.TempPathFactory) -> BundleHost:
    """The bundle in service on a host, to be changed by no test."""
    host = BundleHost(tmp_path_factory.mktemp("host"))
    version = host.unpack(made.bundle)
    done = host.run(f"{version}/install", "--bin-dir", "/opt/cni/bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"installed {version.name}: {LAUNCHER} (you said so)\n"
    return host


def test_same_input_same_bytes(made: Made, tmp_path: Path) -> None:
    again = make(tmp_path)
    assert again.bundle.read_bytes() == made.bundle.read_bytes()
    assert again.bill == made.bill
    assert again.image.read_bytes() == made.image.read_bytes()


def test_man_page_is_of_the_commits_day(host: BundleHost) -> None:
    """Not of the day on which it is made."""
    (page,) = host.root.glob("opt/cni-repair/versions/*/share/man/man8/cni-repair.8")
    assert page.read_text().startswith('.TH CNI\\-REPAIR 8 "2023-11-14" ')


# --- on a host -----------------------------------------------------------------------------------


def test_version_with_the_commit(host: BundleHost, made: Made) -> None:
    done = host.run(LAUNCHER, "--version")
    commit = f" (commit {made.source.commit})" if made.source.commit else ""
    assert (done.stdout, done.stderr) == (f"cni-repair {made.source.version}{commit}\n", "")


def test_life_of_a_pod(host: BundleHost) -> None:
    with Lab(1, command=host.entering(LAUNCHER), detect_duplicates=False) as lab:
        (pod,) = lab.pods
        netconf = lab.netconf()
        assert lab.cni("ADD", pod, netconf).document["ips"]
        before = lab.interface(pod)
        places = ("--checkpoint-dir", lab.checkpoint_dir, "--run-dir", lab.run_dir, "-o", "json")
        connection = lab.connect(pod)
        connection.exchange("before")
        lab.uplink_lost()
        assert lab.cli("status", *places).document["attachments"][0]["state"] == "lost"
        lab.uplink_back()
        assert lab.cni("REPAIR", netconf=netconf).document["summary"]["healthy"] == 1
        assert lab.cli("status", *places).document["attachments"][0]["state"] == "healthy"
        assert lab.interface(pod) == before
        connection.exchange("after")
        lab.uplink_lost()
        assert lab.cni("DEL", pod, netconf).returncode == 0
        assert lab.cli("status", *places).document["attachments"] == []


def test_validate(host: BundleHost, tmp_path: Path) -> None:
    """By jsonschema, whose checks are in a library that was compiled (rpds), and PyYAML."""
    with Lab(command=host.entering(LAUNCHER)) as lab:
        good, bad = lab.directory / "good.conf", lab.directory / "bad.conf"
        good.write_text(json.dumps(lab.netconf()))
        bad.write_text(json.dumps(lab.netconf(masterTimeout="soon")))
        assert lab.cli("validate", str(good)).returncode == 0
        done = lab.cli("validate", str(bad))
        assert done.returncode == 1
        assert "masterTimeout" in done.stdout + done.stderr


@contextmanager
def watching(host: BundleHost, lab: Lab) -> Iterator[Callable[[], dict[str, Any]]]:
    """`cni-repair watch` on the host; what gives its status."""
    settings = {
        "version": 1,
        "lookEvery": "2s",
        "checkpointDirs": [lab.checkpoint_dir],
        "runDir": lab.run_dir,
        "metrics": {"textfile": str(lab.directory / "cni-repair.prom")},
    }
    config = lab.directory / "watch.yaml"
    config.write_text(json.dumps(settings))
    config.chmod(0o600)
    command = [*lab.ground.entering(lab.node), *host.entering(LAUNCHER, "watch")]
    command += ["--config", str(config)]

    def status() -> dict[str, Any]:
        assert process.poll() is None, process.communicate()
        path = Path(lab.run_dir, "watch.json")
        document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return document

    with ended(
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={"PATH": PATH})
    ) as process:
        yield status
        process.terminate()
        _, said = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, "Traceback" in said) == (0, False), said


def test_watch_heals(host: BundleHost) -> None:
    """By pyroute2 (which needs SQLite and ctypes), inotify_simple; figures by prometheus_client."""
    with Lab(1, command=host.entering(LAUNCHER), detect_duplicates=False) as lab:
        (pod,) = lab.pods
        assert lab.cni("ADD", pod, lab.netconf()).returncode == 0
        before = lab.interface(pod)
        with watching(host, lab) as status:
            figures = lab.directory / "cni-repair.prom"
            eventually(lambda: status().get("attachments") == {"healthy": 1}, "a first look")
            lab.uplink_lost()
            eventually(lambda: status()["attachments"] == {"lost": 1}, "the loss to be seen")
            lab.uplink_back()
            eventually(lambda: status()["heals"]["total"] == 1, "the pod to be healed")
            eventually(lambda: 'state="healthy"' in figures.read_text(), "figures")
        assert lab.interface(pod) == before


# A client and a server in one process, without certificates: what TLS needs of OpenSSL is there.
_TLS = """
import http.client, ssl

def context(kind):
    made = ssl.SSLContext(kind)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return made

there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(back, there)
server = context(ssl.PROTOCOL_TLS_SERVER).wrap_bio(there, back, server_side=True)
for turn in range(4):
    for end in (client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
client.write(b"hello")
print(server.read().decode(), client.version())
print(ssl.get_default_verify_paths().openssl_cafile)
"""


def python(host: BundleHost, script: str, **env: str) -> str:
    (directory,) = (host.root / "opt/cni-repair/versions").iterdir()
    program = f"/opt/cni-repair/versions/{directory.name}/bin/python3"
    done = host.run(program, "-IS", "-c", script, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_tls_without_the_hosts_openssl(host: BundleHost) -> None:
    assert python(host, _TLS) == "hello TLSv1.2\n/proc/no/ssl/cert.pem\n"


_TRAPPED = """
import ctypes, locale, socket, sys

def can(what, *arguments):
    try:
        return bool(what(*arguments))
    except (OSError, locale.Error):
        return False

paths = sys.argv[1:]
print([name for name in paths if can(ctypes.CDLL, name.rpartition("/")[2])])
print([name for name in paths if not can(ctypes.CDLL, name)])
print(can(locale.setlocale, locale.LC_ALL, ""))
print(socket.gethostbyname("api.example"))
"""
_PLACES = (
    "lib", "usr/lib", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "srv/in-the-cache",
)  # fmt: skip


def test_nothing_of_the_hosts_gets_in(host: BundleHost, prepared: Inputs, tmp_path: Path) -> None:
    """Libraries and locales of the host's are of another glibc; its names are looked up."""
    root = tmp_path / "root"
    shutil.copytree(host.root, root, symlinks=True)
    patchelf = str(prepared.root / "usr/bin/patchelf")
    libraries = []
    for number, place in enumerate(_PLACES):
        library = root / place / f"libtrap{number}.so.1"
        library.parent.mkdir(parents=True, exist_ok=True)
        found = prepared.library("libuuid.so.1")
        assert found
        shutil.copy(found, library)
        subprocess.run([patchelf, "--set-soname", library.name, library], check=True)
        libraries.append(f"/{place}/{library.name}")
    shutil.copy(root / _PLACES[0] / "libtrap0.so.1", root / _PLACES[0] / "libnss_trap.so.2")
    (root / "etc").mkdir()
    (root / "etc/nsswitch.conf").write_text("hosts: trap files\n")
    (root / "etc/hosts").write_text("192.0.2.7 api.example\n")
    subprocess.run(["ldconfig", "-X", "-r", root, "/srv/in-the-cache"], check=True)
    (root / "etc/ld.so.preload").write_text("/nowhere/preloaded.so\n")
    shutil.copytree("/usr/lib/locale/C.utf8", root / "usr/lib/locale/xx_XX.utf8")
    trapped = object.__new__(BundleHost)
    trapped.root = root
    script = f"import sys; sys.argv[1:] = {libraries!r}\n{_TRAPPED}"
    said = python(trapped, script, LC_ALL="xx_XX.UTF-8", LD_LIBRARY_PATH="/nowhere")
    assert said == "[]\n[]\nFalse\n192.0.2.7\n"


# --- in, and out ---------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as node:
        yield node


def put_on(node: Node, made: Made) -> str:
    """Unpack the bundle; its version's directory."""
    shutil.copy(made.bundle, node.path("/run/bundle.tar.gz"))
    node.shell("tar -C / -xzf /run/bundle.tar.gz")
    (version,) = node.path("/opt/cni-repair/versions").iterdir()
    return f"/opt/cni-repair/versions/{version.name}"


def test_install_sh_takes_it_away(made: Made, node: Node) -> None:
    version = put_on(node, made)
    done = node.run(f"{version}/install", "--bin-dir", "/opt/cni/bin")
    assert (done.returncode, done.stderr) == (0, "")
    node.write(KUBECONFIG, DEAD_API_SERVER, 0o600)
    done = node.install("--uninstall")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()  # (it has tried to take the watcher's condition back)
    assert line.startswith("cni-repair: the condition PodNetworkLost may stay on this node: ")
    assert sorted(node.path("/opt").iterdir()) == [node.path("/opt/cni")]
    assert list(node.path("/opt/cni/bin").iterdir()) == []


def test_uninstall_is_refused_while_it_is_needed(made: Made, node: Node) -> None:
    version = put_on(node, made)
    assert node.run(f"{version}/install", "--bin-dir", "/opt/cni/bin").returncode == 0
    node.write("/etc/cni/net.d/10-pods.conf", '{"name": "pods", "type": "cni-repair"}')
    uninstall = (f"{version}/install", "--uninstall")
    done = node.run(*uninstall, "--bin-dir", "/opt/cni/bin")
    assert (done.returncode, done.stdout) == (3, "")
    needed, remedy = done.stderr.splitlines()
    assert needed.startswith("install: /etc/cni/net.d/10-pods.conf names cni-repair")
    assert remedy.startswith("install: nothing was removed: ")
    assert node.path(LAUNCHER).exists()
    node.path("/etc/cni/net.d/10-pods.conf").unlink()
    done = node.run(*uninstall, "--bin-dir", "/opt/cni/bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"removed {LAUNCHER}, /opt/cni-repair\n"
    assert not node.path(LAUNCHER).exists()
    assert not node.path("/opt/cni-repair").exists()


def test_install_leaves_alone_what_is_not_ours(made: Made, node: Node) -> None:
    version = put_on(node, made)
    node.write(LAUNCHER, "#!/bin/sh\n", 0o755)
    done = node.run(f"{version}/install", "--bin-dir", "/opt/cni/bin")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"install: {LAUNCHER} is not a launcher of ours: move it away\n"
    assert node.path(LAUNCHER).read_text() == "#!/bin/sh\n"


WATCH_CONFIG = "/etc/cni-repair/watch.yaml"
STATE = "/var/lib/cni-repair"


def states(machine: Machine) -> list[str]:
    words = (f"is-{what}" for what in ("active", "enabled"))
    return [machine.systemctl(word, WATCH).stdout.strip() for word in words]


def test_service_and_purge(made: Made) -> None:
    """By a real systemd: as install.sh --watch, and --uninstall --purge."""
    with Machine() as machine:
        version = put_on(machine, made)
        install = (f"{version}/install", "--bin-dir", "/opt/cni/bin")
        done = machine.run(*install, "--watch", env={"PATH": os.defpath})
        assert (done.returncode, done.stderr) == (0, "")
        assert f"cni-repair watch runs, by {WATCH_CONFIG}" in done.stdout
        assert states(machine) == ["active", "enabled"]
        assert f"ExecStart={LAUNCHER} watch " in machine.path(f"{UNITS}/{WATCH}").read_text()
        before = machine.unit(WATCH, "MainPID")["MainPID"]
        assert machine.run(*install, env={"PATH": os.defpath}).returncode == 0
        assert machine.unit(WATCH, "MainPID")["MainPID"] not in ("0", before), "it goes on with it"
        machine.write(f"{STATE}/checkpoints/none.txt", "")
        done = machine.run(*install, "--uninstall", env={"PATH": os.defpath})
        assert (done.returncode, done.stderr) == (0, "")
        assert f"removed {WATCH}\n" in done.stdout
        assert f"kept {STATE} (--uninstall --purge removes it)\n" in done.stdout
        assert states(machine)[0] == "inactive"
        assert not machine.path(f"{UNITS}/{WATCH}").exists()
        assert not machine.path(f"{UNITS}/multi-user.target.wants/{WATCH}").is_symlink()
        assert machine.path(WATCH_CONFIG).exists()

        machine.shell("tar -C / -xzf /run/bundle.tar.gz")
        done = machine.run(*install, "--uninstall", "--purge", env={"PATH": os.defpath})
        assert (done.returncode, done.stderr) == (0, "")
        assert f"removed {STATE}\n" in done.stdout
        for path in (STATE, "/run/cni-repair", WATCH_CONFIG, PREFIX):
            assert not machine.path(path).exists()


def test_no_service_without_systemd(made: Made, node: Node) -> None:
    version = put_on(node, made)
    done = node.run(f"{version}/install", "--bin-dir", "/opt/cni/bin", "--watch")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("install: --watch: systemd does not run here: install without it")
    assert not node.path(LAUNCHER).exists()
    assert not node.path(WATCH_CONFIG).exists()


def test_purge_empties_no_mount(made: Made, node: Node) -> None:
    version = put_on(node, made)
    assert node.run(f"{version}/install", "--bin-dir", "/opt/cni/bin").returncode == 0
    node.shell(f"mkdir -p {STATE}/kept && mount -t tmpfs none {STATE}/kept")
    node.write(f"{STATE}/kept/file", "somebody's")
    done = node.run(f"{version}/install", "--bin-dir", "/opt/cni/bin", "--uninstall", "--purge")
    assert done.returncode == 1
    remedy = f"install: {STATE} is left: {STATE}/kept is a mount: unmount it first\n"
    assert done.stderr == remedy
    assert node.path(f"{STATE}/kept/file").exists()


def test_by_the_role_of_conf_ansible(made: Made, tmp_path: Path) -> None:
    """In, again, another version, and out."""
    (tmp_path / "work").mkdir()
    later = replace(made.source, epoch=_EPOCH + 100)
    second = write_bundle(later, tmp_path / "work", tmp_path)
    with node_of(12) as node, reached(node, tmp_path, "bundle") as host:

        def versions() -> set[str]:
            return {path.name for path in node.path("/opt/cni-repair/versions").iterdir()}

        first = str(made.bundle)
        assert host.must("install", cni_repair_file=first)
        assert not host.must("install", cni_repair_file=first)
        before = versions()
        assert node.must(CURRENT, "--version").startswith("cni-repair ")
        assert host.must("install", cni_repair_file=str(second))
        (version,) = versions() - before  # (the one before stays until an upgrade after this)
        assert f"/{version}/" in node.must("realpath", CURRENT)
        node.write("/etc/cni/net.d/10-pods.conf", '{"name": "pods", "type": "cni-repair"}')
        refused = host.play("uninstall")
        assert refused.status == 2, refused.said
        assert "10-pods.conf names cni-repair" in refused.said
        node.path("/etc/cni/net.d/10-pods.conf").unlink()
        assert host.must("uninstall")
        assert not node.path("/opt/cni-repair").exists()
        assert not host.must("uninstall")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--force",), "--force goes with --uninstall only"),
        (("--purge",), "--purge goes with --uninstall only"),
        (("--conf-dir", "/x"), "--conf-dir goes with --uninstall only"),
        (("--watch", "--uninstall"), "--watch goes with an installation only"),
        (("--bin-dir", "bin"), "--bin-dir 'bin': give an absolute path"),
    ],
    ids=("force", "purge", "conf-dir", "watch", "relative"),
)
def test_usage(host: BundleHost, made: Made, arguments: tuple[str, ...], said: str) -> None:
    (version,) = (host.root / "opt/cni-repair/versions").iterdir()
    done = host.run(f"/opt/cni-repair/versions/{version.name}/install", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"install: error: {said}"


# The image's container, whose host is a directory in its root.
_LEAVE = "busybox mount -t proc proc /host/proc; exec {version}/cni-repair-node"


def test_the_container_leaves_a_host_that_has_none(made: Made, tmp_path: Path) -> None:
    """TLS takes libraries of the image's alone, whose paths lead nowhere on the host."""
    container = BundleHost(tmp_path)
    version = container.unpack(made.bundle)
    kubeconfig = tmp_path / f"host/{KUBECONFIG}"
    kubeconfig.parent.mkdir(parents=True)
    kubeconfig.write_text(DEAD_API_SERVER)
    kubeconfig.chmod(0o600)
    (tmp_path / "host/proc").mkdir()
    environ = ("PATH=/bin", "CNI_REPAIR_UNINSTALL=true")
    start = ("/bin/busybox", "env", "-i", *environ, "sh", "-euc", _LEAVE.format(version=version))
    pipe = subprocess.PIPE
    with ended(
        subprocess.Popen(
            container.entering(*start), stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        lines += process.stdout
    assert (process.returncode, len(lines)) == (0, 2), lines
    assert "cni-repair is not on this node" in lines[0]
    assert "https://127.0.0.1:1 was not told: Connection refused" in lines[1]
    ready = (*start[:-1], f"{start[-1]} ready")
    assert container.run(*ready).returncode == 0


# --- what is told of it --------------------------------------------------------------------------


def test_bill_names_all_that_is_in_it(made: Made, prepared: Inputs) -> None:
    bill = made.bill
    found = {one["name"]: one for one in bill["components"]}
    assert found.keys() == DEBIAN.keys() | entries(CHECKOUT / LOCK).keys() - _NOT_IN_IT
    for name, one in found.items():
        assert one["version"], name
        assert one["licenses"], name
    for deb in prepared.debs():
        (file,) = (prepared.directory / "debs").glob(f"{deb.name}_*.deb")
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        assert found[deb.name]["hashes"] == [{"alg": "SHA-256", "content": content}]


def test_libraries_are_of_packages_that_the_bill_names_with_their_licences(
    made: Made, prepared: Inputs
) -> None:
    named = {name for deb in prepared.debs() for name in files_of(prepared, deb.name)}
    with tarfile.open(made.bundle) as archive:
        names = archive.getnames()
    libraries = [name for name in names if re.search(r"versions/[^/]+/lib/[^/]+\.so[.\d]*$", name)]
    assert "libc.so.6" in {Path(name).name for name in libraries}
    assert {Path(name).name for name in libraries} <= named
    for name in (*(f"licenses/{package}/copyright" for package in DEBIAN), *_EXAMPLES):
        assert any(one.endswith(f"/share/{name}") for one in names), name


def files_of(prepared: Inputs, package: str) -> set[str]:
    (file,) = (prepared.directory / "debs").glob(f"{package}_*.deb")
    command = ["dpkg-deb", "--fsys-tarfile", str(file)]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "-t"], input=data, capture_output=True, check=True).stdout
    return {Path(name).name for name in names.decode().split()}


# --- the image -----------------------------------------------------------------------------------


def test_image(made: Made, tmp_path: Path) -> None:
    with tarfile.open(made.image) as archive:
        blobs = {one.name: read(archive, one) for one in archive if one.isreg()}

    def blob(descriptor: dict[str, Any]) -> bytes:
        data = blobs[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert len(data) == descriptor["size"]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor["digest"]
        return data

    (entry,) = json.loads(blobs["index.json"])["manifests"]
    version = made.source.version
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": f"{NAME}:{version}"}
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == version
    assert labels.get("org.opencontainers.image.revision", "") == made.source.commit
    assert config["config"]["Entrypoint"] == ["/bin/cni-repair-node"]
    (layer,) = manifest["layers"]
    (tmp_path / "layer").write_bytes(gzip.decompress(blob(layer)))
    with tarfile.open(tmp_path / "layer") as archive, tarfile.open(made.bundle) as bundle:
        inside = {one.name.strip("/"): one for one in archive}
        for one in bundle:
            same = inside.pop(one.name)
            assert (same.mtime, same.size) == (_EPOCH, one.size), one.name
            assert same.mode & 0o7777 == one.mode, one.name  # (buildah writes the type there, too)
    places = {name for name, one in inside.items() if one.isdir()}
    assert places == {"bin", "dev", "etc", "host", "proc", "run", "sys", "tmp"}
    links = {name: one.linkname for name, one in inside.items() if not one.isdir()}
    assert links.keys() == {"bin/cni-repair", "bin/cni-repair-node"}


def read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file
    return file.read()
