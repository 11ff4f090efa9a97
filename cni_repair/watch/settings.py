"""The watcher's settings: what the engineer decides, read strictly.

Their published form is schema/watch.json; `conf/watch.yaml` explains every key. All that is wrong
with a file is said at once.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat

from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.files import why_untrusted
from cni_repair.base.frozen import frozen
from cni_repair.base.keyed import (
    DocumentError,
    Key,
    Wrong,
    duration,
    each_once,
    fields_of,
    read_document,
    read_yaml,
    section,
    service,
    shown,
    version,
)
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import CHECKPOINT_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.base.keyed import Reader

VERSION = 1
CONFIG_FILE = "/etc/cni-repair/watch.yaml"

# heal: what is healed without anybody asking.
UPLINK = "uplink"  # what an uplink took with it, once that is back
DRIFT = "drift"  # that, and whatever else a pod has lost
OFF = "off"  # nothing: pods are looked at, remembered and told of
# holdKubelet; and kubernetes.kubeconfig
NEVER = "never"
ON_LOSS = "onLoss"
# kubernetes.kubeconfig, where it is no path
AUTO = "auto"  # the kubelet's, where there is one
# ipv6Detection, as in repair/session (which `status` does not import)
BESIDE = "beside"  # addresses are used at once, and probed for by us meanwhile
KERNEL = "kernel"  # the kernel probes, and the address waits for it

_MOST_PATH = 4095  # PATH_MAX less its NUL, include/uapi/linux/limits.h
# Absolute, without . and .., and without what would break a line or a terminal.
_PATH = re.compile(r"(/+(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f]+)+/*")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+):([1-9][0-9]{0,4})")
_TRUST = "chown root:root {path}; chmod 0644 {path}"
_EXAMPLE_LISTEN = "127.0.0.1:9732"
# node_exporter's textfile collector reads no other names.
_PROM = ".prom"


@frozen
class Settings:
    path: str  # the file that they were read from; empty: these are the defaults
    checkpoint_dirs: tuple[str, ...]
    run_dir: str
    heal: str  # UPLINK, DRIFT or OFF
    hold_kubelet: str  # NEVER or ON_LOSS
    kubelet_unit: str
    kubelet_deadline: float  # seconds after which it is released, whatever became of the pods
    metrics_textfile: str  # empty: none
    metrics_listen: str  # ADDRESS:PORT of the loopback; empty: none
    kubeconfig: str  # AUTO, NEVER, or a path
    ipv6_detection: str  # BESIDE or KERNEL
    look_every: float  # seconds in which each pod is looked at once
    remember_after: float  # seconds from ADD, or a change, to the record brought up to date
    back_off_first: float  # seconds from one heal of an uplink to the next; doubled by each …
    back_off_most: float  # … up to so many
    master_timeout: float  # seconds for which a heal waits for what it needs of the node


class SettingsError(DocumentError):
    """Settings that are not followed."""

    kind = "configuration of cni-repair watch"


def default_settings() -> Settings:
    """Those where there is no file."""
    return settings_of({"version": VERSION}, "")


def settings_in_force(path: str | None) -> Settings:
    """The settings in the file that is named, else in the usual one; where that is not there, the
    defaults. Raises SettingsError."""
    if path is None and not os.path.lexists(CONFIG_FILE):
        return default_settings()
    return read_settings(path or CONFIG_FILE)


def read_settings(path: str) -> Settings:
    """The settings in a file, as a process that runs as root may follow them: nobody else may write
    to it. Raises SettingsError."""
    return settings_of(read_yaml(path, SettingsError, _bytes_of_trusted), path)


def settings_in(data: bytes, path: str) -> Settings:
    """The settings in the bytes of a file with that name. Raises SettingsError."""
    return settings_of(read_yaml(path, SettingsError, lambda *_: data), path)


def check_settings(path: str) -> Settings:
    """The settings in a file, whoever's it is: to be judged on a laptop. Raises SettingsError."""
    return settings_of(read_yaml(path, SettingsError, _bytes_of), path)


def read_run_dir(path: str) -> str:
    """The run directory that a file names, whatever else is wrong with it: a watcher that goes by
    what it said before can still be paused. Raises SettingsError."""
    document = read_yaml(path, SettingsError, _bytes_of_trusted)
    given = document.get("runDir", RUN_DIR) if isinstance(document, dict) else RUN_DIR
    return str(read_document({"runDir": given}, _RUN_DIR, path, SettingsError)["runDir"])


def run_dir_of(path: str | None) -> str:
    """Where the watcher that goes by that file, or by the usual one, has its files. Raises
    SettingsError."""
    if path is None and not os.path.lexists(CONFIG_FILE):
        return RUN_DIR
    return read_run_dir(path or CONFIG_FILE)


def settings_of(document: object, path: str = "") -> Settings:
    """The settings that a decoded document holds. Raises SettingsError."""
    values = read_document(document, _SETTINGS, path or "this", SettingsError)
    kubelet, metrics, back_off = (values[name] for name in ("kubelet", "metrics", "backOff"))
    kubernetes = values["kubernetes"]
    return Settings(
        path=path,
        checkpoint_dirs=values["checkpointDirs"],
        run_dir=values["runDir"],
        heal=values["heal"],
        hold_kubelet=values["holdKubelet"],
        kubelet_unit=kubelet["unit"],
        kubelet_deadline=kubelet["deadline"],
        metrics_textfile=metrics["textfile"],
        metrics_listen=metrics["listen"],
        kubeconfig=kubernetes["kubeconfig"],
        ipv6_detection=values["ipv6Detection"],
        look_every=values["lookEvery"],
        remember_after=values["rememberAfter"],
        back_off_first=back_off["first"],
        back_off_most=back_off["most"],
        master_timeout=values["masterTimeout"],
    )


def _bytes_of_trusted(path: str, most: int) -> bytes:
    fd = _open(path)
    try:
        why = why_untrusted(os.fstat(fd))
        if why:
            raise CniError(CONFIG, f"{path} is not trusted", f"{why}: {_TRUST.format(path=path)}")
        return os.read(fd, most)  # a regular file of so few bytes comes whole
    finally:
        os.close(fd)


def _bytes_of(path: str, most: int) -> bytes:
    fd = _open(path)
    try:
        return os.read(fd, most)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    """Open a regular file. (One that is reached through symbolic links, too: so are those of a
    ConfigMap of Kubernetes'.)"""
    # O_NONBLOCK: opening a FIFO would wait for its writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise CniError(CONFIG, f"cannot read {path}", "it is not a regular file: name one that is")


# --- readers: each takes a value of the document and gives ours ---------------------------------


def _one_of(*words: str) -> Reader:
    def read(value: object) -> str:
        if value not in words or not isinstance(value, str):
            raise Wrong(
                f": {shown(value)} is not known: write {', '.join(words[:-1])} or {words[-1]}"
            )
        return value

    return read


def _path(example: str) -> Reader:
    def read(value: object) -> str:
        if not isinstance(value, str) or not _is_path(value):
            raise Wrong(
                f": {shown(value)} is no absolute path: write one, without . and .., such as"
                f" {example}"
            )
        return os.path.normpath(value)

    return read


def _is_path(text: str) -> bool:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        return False
    return length <= _MOST_PATH and not text.startswith("//") and bool(_PATH.fullmatch(text))


def _checkpoint_dirs(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong(f": {shown(value or None)} is no list of directories: write [{CHECKPOINT_DIR}]")
    paths: list[str] = []
    problems: list[str] = []
    for index, one in enumerate(value):
        try:
            paths.append(_path(CHECKPOINT_DIR)(one))
        except Wrong as wrong:
            problems += [f"[{index}]{problem}" for problem in wrong.problems]
            paths.append(f"[{index}]")
    return each_once(paths, problems)


def _textfile(value: object) -> str:
    if value == "":
        return ""
    path: str = _path(_EXAMPLE_TEXTFILE)(value)
    if not str(value).endswith(_PROM):  # "/x.prom/" is a directory
        raise Wrong(f": {shown(value)} is read by no node_exporter: give it a name in {_PROM}")
    return path


def _listen(value: object) -> str:
    if value == "":
        return ""
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 65535:
        raise Wrong(f": {shown(value)} is no ADDRESS:PORT: write one, such as {_EXAMPLE_LISTEN}")
    try:
        is_loopback = ipaddress.ip_address(match[1].strip("[]")).is_loopback
    except ValueError as error:
        raise Wrong(
            f": {shown(value)} has no IP address: write one, such as {_EXAMPLE_LISTEN}"
        ) from error
    if not is_loopback:
        raise Wrong(
            f": {shown(value)} is reached from outside, and metrics are served to everybody who"
            f" asks: write {_EXAMPLE_LISTEN}, and put a proxy before it"
        )
    return str(value)


def _kubeconfig(value: object) -> str:
    if value in (AUTO, NEVER) and isinstance(value, str):
        return value
    try:
        path: str = _path(_EXAMPLE_KUBECONFIG)(value)
    except Wrong as wrong:
        raise Wrong(
            f": {shown(value)} is not known: write {AUTO}, {NEVER}, or an absolute path such as"
            f" {_EXAMPLE_KUBECONFIG}"
        ) from wrong
    return path


def _back_off(value: object) -> dict[str, float]:
    values = fields_of(value, _BACK_OFF)
    if values["most"] < values["first"]:
        raise Wrong(f".most: it is less than first ({values['first']:g}s): write more")
    return values


_EXAMPLE_TEXTFILE = f"/var/lib/prometheus/node-exporter/cni-repair{_PROM}"
_EXAMPLE_KUBECONFIG = "/etc/kubernetes/kubelet.conf"
_KUBELET = {
    "unit": Key(service, "kubelet.service"),
    "deadline": Key(duration("10m"), "10m"),
}
_METRICS = {
    "textfile": Key(_textfile, ""),
    "listen": Key(_listen, ""),
}
_KUBERNETES = {
    "kubeconfig": Key(_kubeconfig, AUTO),
}
_BACK_OFF = {
    "first": Key(duration("1s"), "1s"),
    "most": Key(duration("5m"), "5m"),
}
_RUN_DIR = {"runDir": Key(_path(RUN_DIR), RUN_DIR)}
_SETTINGS = {
    "version": Key(version(VERSION), needed=f"write version: {VERSION}"),
    "checkpointDirs": Key(_checkpoint_dirs, [CHECKPOINT_DIR]),
    **_RUN_DIR,
    "heal": Key(_one_of(UPLINK, DRIFT, OFF), UPLINK),
    "holdKubelet": Key(_one_of(NEVER, ON_LOSS), NEVER),
    "kubelet": Key(section(dict, _KUBELET), {}),
    "metrics": Key(section(dict, _METRICS), {}),
    "kubernetes": Key(section(dict, _KUBERNETES), {}),
    "ipv6Detection": Key(_one_of(BESIDE, KERNEL), BESIDE),
    "lookEvery": Key(duration("60s", least=1), "60s"),
    "rememberAfter": Key(duration("10s"), "10s"),
    "backOff": Key(_back_off, {}),
    "masterTimeout": Key(duration("10s"), "10s"),
}
KEYS = frozenset(_SETTINGS)
