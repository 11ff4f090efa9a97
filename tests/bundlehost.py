"""A host that has busybox and the bundle, and nothing else: no Python, no libc, no other shell.

Its root is a directory. A command enters it by chroot(2), in mounts of its own: /proc, /sys of its
network namespace, and the machine's /run, where a lab has its namespaces and its files.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cni_repair.demo.machine import plugin_directory
from integration.packages import locked_cache, unpacked

LAUNCHER = "/opt/cni/bin/cni-repair"
_PLUGINS = ("macvlan", "host-local")
_APPLETS = ("sh", "tar", "gzip", "cat", "true")
# Debian's plugins need a libc: they have one of their own, in a place that nobody looks into.
_PLUGIN = """\
#!/bin/sh
exec /plugins/{loader} --library-path /plugins /plugins/{name} "$@"
"""
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_ENTER = """\
mount -t proc proc "$0/proc"; mount -t sysfs sysfs "$0/sys"; mount --rbind /run "$0/run"
mount --bind /dev/null "$0/dev/null"; mount -t tmpfs tmpfs "$0/tmp"
exec chroot "$0" "$@"
"""


class BundleHost:
    """The host, made in an empty directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("bin", "dev", "plugins", "proc", "run", "sys", "tmp", "usr/lib/cni"):
            (root / name).mkdir(parents=True)
        (root / "dev/null").touch()
        self._put_busybox()
        self._put_plugins()

    def _put_busybox(self) -> None:
        with locked_cache():
            tree = unpacked("busybox-static", "busybox")
        shutil.copy(tree / "bin/busybox", self.root / "bin")
        for name in _APPLETS:
            (self.root / "bin" / name).symlink_to("busybox")

    def _put_plugins(self) -> None:
        loader = Path(_LOADER)
        libc = loader.resolve().with_name("libc.so.6")
        directory = Path(plugin_directory())
        for path in (loader, libc, *(directory / name for name in _PLUGINS)):
            shutil.copy(path, self.root / "plugins")
        for name in _PLUGINS:
            plugin = self.root / "usr/lib/cni" / name
            plugin.write_text(_PLUGIN.format(loader=loader.name, name=name))
            plugin.chmod(0o755)

    def entering(self, *command: str) -> list[str]:
        """The command line that runs a command on the host, in the caller's network namespace."""
        own = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", _ENTER)
        return [*own, str(self.root), *command]

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, with that environment only (and a network of its own)."""
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        return subprocess.run(
            self.entering(
                "/bin/busybox", "env", "-i", "PATH=/bin", *settings, *command,
            ),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip

    def unpack(self, bundle: Path) -> Path:
        """As its user does; the version's directory, as the host names it."""
        shutil.copy(bundle, self.root / "bundle.tar.gz")
        done = self.run("tar", "-C", "/", "-xzf", "/bundle.tar.gz")
        assert (done.returncode, done.stderr) == (0, ""), shlex.join(done.args)
        (directory,) = (self.root / "opt/cni-repair/versions").iterdir()
        return Path("/opt/cni-repair/versions", directory.name)
