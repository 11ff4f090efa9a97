"""A containerd of our own: its own state, socket and CNI directories, beside any other one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import PATH, LabError, poll_until
from integration.containerd import cri
from integration.containerd.cgroup import Cgroup
from integration.containerd.image import IMAGE, write_image
from integration.daemon import Daemon
from integration.packages import CACHE, locked_cache, unpacked

START_SECONDS = 60.0

PROGRAMS = f"{CACHE}/containerd/usr/bin"
RUNC = f"{CACHE}/runc/usr/sbin/runc"
BUSYBOX = CACHE / "busybox" / "bin" / "busybox"
# It needs nothing of the file system below, and the image is small.
NATIVE = "native"
_CONFIG = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
# Without it they are in /run/netns: not ours.
netns_mounts_under_state_dir = true
# Root without CAP_SYS_RESOURCE cannot lower it.
restrict_oom_score_adj = true
disable_tcp_service = true
# It would leave a profile in the machine's kernel.
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin_dir}"
conf_dir = "{conf_dir}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def prepare() -> None:
    """Have all that is needed, in the cache; downloads what is not there yet."""
    with locked_cache():
        unpacked("busybox-static", "busybox")
        unpacked("containerd", "containerd")
        unpacked("runc", "runc")
    cri.prepare()


def configuration(
    directory: Path, conf_dir: Path, bin_dir: Path, runc: str = RUNC, snapshotter: str = NATIVE
) -> str:
    """The configuration of a containerd that has all that is its own in a directory."""
    places = {"directory": directory, "conf_dir": conf_dir, "bin_dir": bin_dir}
    return _CONFIG.format(image=IMAGE, runc=runc, snapshotter=snapshotter, **places)


class Containerd(WithCleanup):
    """Context: a containerd that serves CRI, and whose image is busybox.

    It runs in the mount namespace of the caller, which should be nobody else's: /run and
    /var/lib/cni have to be the caller's own (libcni's cache and the shims' sockets have no other
    place), and the cgroups must be mounted. So it does in the caller's network namespace, unless
    `enter`, a command that runs another one elsewhere, is given; /sys has to show that one.

    `directory` is made; its path has to be short (sockets are in it). `plugins` are directories of
    CNI plugins, the first that has one gives it; or the one directory where plugins will be. The
    network's configuration is, or will be, in `conf_dir`. On leaving, all containers are killed,
    without their networks being taken down.
    """

    programs = PROGRAMS  # the directory of containerd, its shim and ctr
    import_options: tuple[str, ...] = ()  # of `ctr image import`, besides the snapshotter

    def __init__(
        self,
        directory: Path,
        plugins: Sequence[Path] | Path,
        conf_dir: Path,
        *,
        cgroup: Cgroup | None = None,
        enter: Sequence[str] = (),
        snapshotter: str = NATIVE,
    ) -> None:
        self.directory = directory
        self.socket = directory / "containerd.sock"
        self.config = directory / "config.toml"
        self.cgroup = cgroup or Cgroup()
        self._conf_dir, self._enter, self._snapshotter = conf_dir, enter, snapshotter
        self._bin_dir = plugins if isinstance(plugins, Path) else directory / "cni-bin"
        self._plugins = () if isinstance(plugins, Path) else plugins

    def _open(self) -> None:
        self.directory.mkdir()
        self._cleanup.callback(shutil.rmtree, self.directory)
        if self._plugins:
            self._link_plugins()
        self.config.write_text(self._configuration())
        self._cleanup.callback(self._unmount)
        self._cleanup.enter_context(self.cgroup)
        self._start()
        self.cri = self._cleanup.enter_context(cri.Cri(self.socket, self.cgroup.path))
        self._import_own_image()

    @property
    def log(self) -> str:
        """What containerd said."""
        return self._daemon.log

    def _link_plugins(self) -> None:
        """One directory of all plugins: containerd wants just one."""
        self._bin_dir.mkdir()
        for plugin in (plugin for plugins in self._plugins for plugin in plugins.iterdir()):
            if not (self._bin_dir / plugin.name).exists():
                (self._bin_dir / plugin.name).symlink_to(plugin.resolve())

    def _configuration(self) -> str:
        places = (self.directory, self._conf_dir, self._bin_dir)
        return configuration(*places, snapshotter=self._snapshotter)

    def _start(self) -> None:
        run = [f"{self.programs}/containerd", f"--config={self.config}"]
        command = self.cgroup.started([*self._enter, *run])
        path = f"{self.programs}:{PATH}"
        self._daemon = Daemon("containerd", command, self.directory / "log", path=path)
        self._cleanup.enter_context(self._daemon)
        self._daemon.until(self.socket.exists)

    def import_image(self, archive: Path) -> None:
        """Have the images of an OCI archive."""
        ctr = [f"{self.programs}/ctr", f"--address={self.socket}", "--namespace=k8s.io"]
        options = [f"--snapshotter={self._snapshotter}", *self.import_options]
        command = [*ctr, "image", "import", *options, str(archive)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=START_SECONDS
        )
        if done.returncode != 0:
            raise LabError(f"ctr image import: {done.stderr}\n{self.log[-2000:]}")

    def _import_own_image(self) -> None:
        image = self.directory / "image.tar"
        write_image(BUSYBOX, image)
        self.import_image(image)
        # CRI hears of it by an event.
        poll_until(self.cri.has_image, START_SECONDS, "the image to be known")

    def _unmount(self) -> None:
        """The containers' root directories and network namespaces; they are empty by now."""
        prefix = f"{self.directory}/"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in lines]
        for point in reversed(points):
            if point.startswith(prefix):
                subprocess.run(["umount", "--lazy", point], check=True)
