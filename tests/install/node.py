"""A machine for install.sh to work on: this one, with every place that it writes to hidden."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from cni_repair.base.closeable import Closeable
from tests.patience import eventually
from tests.processes import signalled

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "/opt/cni-repair"
LAUNCHER = "/opt/cni/bin/cni-repair"
COMMAND_LINK = "/usr/local/sbin/cni-repair"
LOCK = "conf/requirements.lock"  # of the checkout
BILL = "cni-repair.cdx.json"  # of materials, in a version's share/
MAN_PAGE = "/usr/local/share/man/man8/cni-repair.8"
COMPLETION = "/usr/local/share/bash-completion/completions/cni-repair"
TMPDIR = "/run/tmp"
KUBECONFIG = "/etc/kubernetes/kubelet.conf"
# Of a cluster whose API server is not there.
DEAD_API_SERVER = json.dumps(
    {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {"token": "t"}}],
    }
)
VERSION_REQUEST = '{"cniVersion":"1.0.0"}'

# What the holder of the namespaces begins with. It ends, and they with it, when its standard input
# closes. /etc is a copy, since not every machine has the mount point /etc/cni.
HIDDEN = """
set -e
mount -t tmpfs tmpfs /mnt
cp -a /etc/. /mnt
mount --move /mnt /etc
for directory in /opt /run /var/lib /usr/local/sbin /usr/local/share; do
    mount -t tmpfs -o mode=0755 tmpfs "$directory"
done
mkdir -p /run/tmp /etc/containerd
echo '[plugins.cri.cni]' >/etc/containerd/config.toml
echo 'bin_dir = "/opt/cni/bin"' >>/etc/containerd/config.toml # this machine's is left alone
"""


class Node(Closeable):
    """Private mount and network namespaces: there is no index to reach, and nothing to clean."""

    _OWN_PROCESSES = False  # whether what runs there ends with the holder

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._holder = subprocess.Popen(
            self._holder_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._running.callback(self._end_holder)
        if self._pipe(self._holder.stdout).readline() != "ready\n":
            self.close()
            raise AssertionError("no namespaces: see above")

    def _holder_command(self) -> list[str]:
        holder = f"{HIDDEN}echo ready\nexec cat"
        return ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", holder]

    def _namespaces(self) -> list[str]:
        """nsenter's options."""
        return [f"--target={self._holder.pid}", "--mount", "--net"]

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream

    def close(self) -> None:
        self._running.close()

    def _end_holder(self) -> None:
        try:
            if not self._OWN_PROCESSES:
                eventually(lambda: not self._others(), "the node's processes to end")
        finally:
            for pid in self._others():
                signalled(pid, signal.SIGKILL)
            with self._holder:
                pass

    def _others(self) -> set[int]:
        """The node's processes, but for the holder."""
        return self.processes().keys() - {self._holder.pid}

    def path(self, name: str) -> Path:
        """A file of the node as it is seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{name}")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def command(
        self, *command: str, env: Mapping[str, str] | None = None, cwd: str = "/"
    ) -> list[str]:
        """The command line that runs `command` in the node with that environment only."""
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        enter = ["/usr/bin/nsenter", *self._namespaces(), "--"]
        return [*enter, "/usr/bin/env", "-i", "-C", cwd, *settings, *command]

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: str = "",
        umask: int = 0o022,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command, env=env, cwd=cwd),
            input=stdin,
            capture_output=True,
            text=True,
            umask=umask,
            check=False,
        )

    def shell(self, script: str) -> str:
        done = self.run("/bin/bash", "-euc", script, env={"PATH": os.defpath})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hide(self, name: str, behind: str = "/dev/null") -> None:
        self.shell(f"mount --bind {shlex.quote(behind)} {shlex.quote(name)}")

    def install_command(
        self, *arguments: str, source: str = str(REPOSITORY), env: Mapping[str, str] | None = None
    ) -> list[str]:
        settings = {"PATH": "/nonexistent", "TMPDIR": TMPDIR, **(env or {})}
        return self.command(f"{source}/install.sh", *arguments, env=settings)

    def install(
        self,
        *arguments: str,
        source: str = str(REPOSITORY),
        env: Mapping[str, str] | None = None,
        umask: int = 0o022,
    ) -> subprocess.CompletedProcess[str]:
        """Run install.sh to its end, and see that it leaves no temporary file."""
        done = subprocess.run(
            self.install_command(*arguments, source=source, env=env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=umask,
            check=False,
        )
        assert os.listdir(self.path(TMPDIR)) == []
        return done

    def start_install(self, *arguments: str) -> subprocess.Popen[str]:
        return self.started(self.install_command(*arguments))

    def started(
        self,
        command: Sequence[str],
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[str] = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Have a command run beside the test, and for no longer than there is the node."""
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.enter_context(process)
        self._running.callback(process.kill)
        return process

    def answer(
        self,
        launcher: str = LAUNCHER,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> object:
        """What an installed plugin says to VERSION."""
        done = self.run(
            launcher,
            env={"CNI_COMMAND": "VERSION", **(env or {})},
            cwd=cwd,
            stdin=VERSION_REQUEST,
        )
        assert (done.returncode, done.stderr) == (0, "")
        answer = json.loads(done.stdout)
        assert answer["supportedVersions"]
        return answer

    def processes(self) -> dict[int, str]:
        """The command lines of the node's processes: another node's look the same."""
        found: dict[int, str] = {}
        try:
            mounts = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        except OSError:  # the holder has ended
            return found
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if os.readlink(process / "ns/mnt") == mounts:
                    words = (process / "cmdline").read_bytes().decode().split("\0")
                    found[int(process.name)] = " ".join(words)
        return found

    def versions(self) -> set[str]:
        directory = self.path(f"{PREFIX}/versions")
        return set(os.listdir(directory)) if directory.exists() else set()

    def version_in_service(self, launcher: str = LAUNCHER) -> str:
        shebang = self.path(launcher).read_text().splitlines()[0]
        start, end = f"#!{PREFIX}/versions/", "/bin/python3 -IS"
        assert shebang.startswith(start), shebang
        assert shebang.endswith(end), shebang
        return shebang[len(start) : -len(end)]

    def tree(self, *names: str) -> dict[str, tuple[int, int]]:
        """Every path under `names`, with its owner and mode."""
        found = {}
        for name in names:
            root = self.path(name)
            for path in [root, *root.rglob("*")]:
                status = path.lstat()
                if not stat.S_ISLNK(status.st_mode):
                    found[str(path)] = (status.st_uid, status.st_mode)
        return found
