"""Where a node's runtime looks for plugins: the configurations are such as are found on nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni_repair.placing.runtimes import main, plugin_directory

CONTAINERD = "/etc/containerd/config.toml"
CRIO = "/etc/crio/crio.conf"
K3S = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
RKE2 = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"

# Debian 12 (containerd 1.6) and 13 (1.7) ship this file.
DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"""
# Docker's containerd.io.
DOCKER = 'disabled_plugins = ["cri"]\n'
V1 = '[plugins.cri.cni]\n  bin_dir = "/srv/v1"\n'
V1_QUALIFIED = '[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/srv/v1"\n'
V3_OLD_KEY = """\
version = 3
[plugins]
  [plugins.'io.containerd.cri.v1.runtime']
    enable_selinux = false
    [plugins.'io.containerd.cri.v1.runtime'.cni]
      bin_dir = '/srv/v3'
      conf_dir = '/etc/cni/net.d'
  [plugins.'io.containerd.grpc.v1.cri']
    disable_tcp_service = true
"""
# `containerd config default` of 2.1.
V3 = """\
version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
  # DEPRECATED, use `bin_dirs` instead (since containerd v2.1).
  bin_dir = ''
  bin_dirs = ['/srv/v3', '/srv/second']
"""
V3_NAME_OF_V2 = V3.replace("version = 3", "version = 2")
SILENT = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "pause:3.9"\n'


def cni(directory: str, version: int = 2) -> str:
    return f"""\
version = {version}
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{directory}"
"""


def imports(*paths: str) -> str:
    return f"version = 2\nimports = {list(paths)}\n"


def crio(*directories: str) -> str:
    return f"[crio]\n[crio.network]\nplugin_dirs = {list(directories)}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    file = root / path[1:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({CONTAINERD: DEBIAN}, "/usr/lib/cni"),
        ({CONTAINERD: V1}, "/srv/v1"),
        ({CONTAINERD: V1_QUALIFIED}, "/srv/v1"),
        ({CONTAINERD: V3_OLD_KEY}, "/srv/v3"),
        ({CONTAINERD: V3}, "/srv/v3"),
        ({CONTAINERD: V3_NAME_OF_V2}, "/srv/v3"),
        # In a file of version 3 that plugin is the streaming server: it has no directory.
        ({CONTAINERD: cni("/srv/streaming", 3)}, "/opt/cni/bin"),
        ({CONTAINERD: V3.replace("version = 3", "version = 4")}, "/srv/v3"),
        ({CONTAINERD: cni("/srv/x/../y/")}, "/srv/y"),
        ({CONTAINERD: SILENT}, "/opt/cni/bin"),
        ({CONTAINERD: ""}, "/opt/cni/bin"),
        # What is imported is put over the file that imports it; files of a glob by name.
        ({CONTAINERD: imports("a.toml") + DEBIAN[12:], "/etc/containerd/a.toml": cni("/srv/a")},
         "/srv/a"),
        ({CONTAINERD: imports("/etc/containerd/conf.d/*.toml"),
          "/etc/containerd/conf.d/10.toml": cni("/srv/10"),
          "/etc/containerd/conf.d/20.toml": cni("/srv/20"),
          "/etc/containerd/conf.d/30.conf": cni("/srv/30")}, "/srv/20"),
        ({CONTAINERD: imports("conf.d/*.toml"), "/etc/containerd/conf.d/1.toml": cni("/srv/1")},
         "/srv/1"),
        # Each file in the words of its own version.
        ({CONTAINERD: "version = 3\nimports = ['old.toml']\n",
          "/etc/containerd/old.toml": cni("/srv/old")}, "/srv/old"),
        # An import that says something else of the plugin leaves the directory (containerd 2).
        ({CONTAINERD: 'imports = ["registry.toml"]\n' + DEBIAN,
          "/etc/containerd/registry.toml": SILENT}, "/usr/lib/cni"),
        # Imports of imports, in a circle.
        ({CONTAINERD: imports("a.toml"), "/etc/containerd/a.toml": imports("b.toml"),
          "/etc/containerd/b.toml": 'imports = ["config.toml"]\n' + cni("/srv/b")}, "/srv/b"),
        # From 2.2 on it needs no main file.
        ({"/etc/containerd/conf.d/cni.toml": V3}, "/srv/v3"),
        ({CONTAINERD: SILENT, "/etc/containerd/conf.d/cni.toml": V3}, "/opt/cni/bin"),
        ({K3S: V3.replace("/srv/v3", "/var/lib/rancher/k3s/data/cni")},
         "/var/lib/rancher/k3s/data/cni"),
        ({RKE2: cni("/opt/cni/bin"), CONTAINERD: SILENT}, "/opt/cni/bin"),
        ({CRIO: crio("/usr/libexec/cni")}, "/usr/libexec/cni"),
        ({CRIO: '[crio.network]\nplugin_dir = "/srv/1.13"\n'}, "/srv/1.13"),
        ({CRIO: "[crio.network]\n"}, "/opt/cni/bin"),
        # The drop-ins by name, whatever their extension; the last that says anything.
        ({CRIO: crio("/srv/main"), "/etc/crio/crio.conf.d/00-default.conf": crio("/srv/00"),
          "/etc/crio/crio.conf.d/10-crun": crio("/srv/10"),
          "/etc/crio/crio.conf.d/20-log.conf": '[crio.runtime]\nlog_level = "info"\n'}, "/srv/10"),
        ({"/etc/crio/crio.conf.d/10-crio.conf": crio("/opt/cni/bin/", "/usr/libexec/cni/")},
         "/opt/cni/bin"),
        # Docker's containerd calls no plugins, whatever else its file says.
        ({CONTAINERD: DOCKER + V1}, "/opt/cni/bin"),
        ({CONTAINERD: DOCKER, CRIO: crio("/usr/libexec/cni")}, "/usr/libexec/cni"),
        ({CONTAINERD: 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n',
          "/usr/lib/cni/macvlan": ""}, "/usr/lib/cni"),
        # No runtime is configured: what exists, the more usual one first.
        ({}, "/opt/cni/bin"),
        ({"/usr/lib/cni/macvlan": ""}, "/usr/lib/cni"),
        ({"/usr/libexec/cni/macvlan": ""}, "/usr/libexec/cni"),
        ({"/usr/lib/cni/macvlan": "", "/opt/cni/bin/macvlan": ""}, "/opt/cni/bin"),
        ({"/usr/lib/cni/loopback": ""}, "/opt/cni/bin"),
    ],
)  # fmt: skip
def test_the_directory_is_the_runtimes_own(
    root: Path, files: dict[str, str], expected: str
) -> None:
    for path, text in files.items():
        write(root, path, text)
    choice = plugin_directory(root)
    assert (str(choice.path), choice.notes) == (expected, ())
    assert choice.why


@pytest.mark.parametrize(
    ("files", "expected", "note"),
    [
        ({CONTAINERD: "version = \n", "/usr/lib/cni/macvlan": ""}, "/usr/lib/cni",
         f"{CONTAINERD} is not used: Invalid value (at line 1, column 11)"),
        ({CONTAINERD: "[" * 5000, "/usr/lib/cni/macvlan": ""}, "/usr/lib/cni",
         f"{CONTAINERD} is not used: "),
        ({CONTAINERD: "a = '\udcff'", "/usr/lib/cni/macvlan": ""}, "/usr/lib/cni",
         f"{CONTAINERD} is not used: "),
        ({CRIO: "plugin_dirs\n"}, "/opt/cni/bin", f"{CRIO} is not used: "),
        ({CRIO: "x", "/etc/crio/crio.conf.d/1": crio("/srv/1")}, "/srv/1",
         f"{CRIO} is not used: "),
        ({CONTAINERD: imports("gone.toml") + DEBIAN[12:]}, "/usr/lib/cni",
         f"/etc/containerd/gone.toml is not used: {CONTAINERD} imports it, and there is no such"
         " file"),
        ({CONTAINERD: imports("bad.toml") + DEBIAN[12:], "/etc/containerd/bad.toml": "="},
         "/usr/lib/cni", "/etc/containerd/bad.toml is not used: "),
        ({CONTAINERD: DEBIAN, CRIO: crio("/usr/libexec/cni")}, "/usr/lib/cni",
         f"CRI-O looks into /usr/libexec/cni ({CRIO})"),
    ],
)  # fmt: skip
def test_what_is_not_used_is_told(
    root: Path, files: dict[str, str], expected: str, note: str
) -> None:
    for path, text in files.items():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    choice = plugin_directory(root)
    assert str(choice.path) == expected
    assert [one for one in choice.notes if one.startswith(note)]


@pytest.mark.parametrize(
    "document",
    [
        "plugins = 1",
        'version = "2"',
        "version = true",
        "imports = 'x'",
        "imports = [1]",
        "disabled_plugins = 'cri'",
        "[plugins.cri]\ncni = 1",
        "[plugins.cri.cni]\nbin_dir = 1",
        "[plugins.cri.cni]\nbin_dirs = ['relative', 5]",
        "[plugins.cri.cni]\nbin_dir = ''",
        '[plugins.cri.cni]\nbin_dir = "/srv/\\u0000"',
        '[plugins.cri.cni]\nbin_dir = "/srv/a\\nb"',
    ],
)
def test_what_makes_no_sense_is_the_default(root: Path, document: str) -> None:
    write(root, CONTAINERD, document)
    assert str(plugin_directory(root).path) == "/opt/cni/bin"


def test_a_fifo_is_not_waited_for(root: Path) -> None:
    write(root, CONTAINERD, "")
    (root / CONTAINERD[1:]).unlink()
    os.mkfifo(root / CONTAINERD[1:])
    (note,) = plugin_directory(root).notes
    assert note.endswith("is not a regular file")


def test_of_a_file_that_is_too_long_nothing_is_used(root: Path) -> None:
    """Its beginning says something else than all of it."""
    write(root, CONTAINERD, V1 + "#" * (4 << 20))
    choice = plugin_directory(root)
    assert choice.notes == (f"{CONTAINERD} is not used: it is longer than 4194304 bytes",)
    assert str(choice.path) == "/opt/cni/bin"


def test_the_runtime_that_runs_is_asked_first(root: Path) -> None:
    write(root, CONTAINERD, DEBIAN)
    write(root, CRIO, crio("/usr/libexec/cni"))
    write(root, "/run/crio/crio.sock", "")
    choice = plugin_directory(root)
    assert str(choice.path) == "/usr/libexec/cni"
    assert choice.notes == (f"containerd looks into /usr/lib/cni ({CONTAINERD})",)


def test_of_several_the_first_that_is_there(root: Path) -> None:
    write(root, CRIO, crio("/srv/missing", "/srv/there"))
    assert str(plugin_directory(root).path) == "/srv/missing"
    (root / "srv/there").mkdir(parents=True)
    assert str(plugin_directory(root).path) == "/srv/there"


def test_the_reason_names_the_file(root: Path) -> None:
    write(root, CONTAINERD, imports("a.toml"))
    write(root, "/etc/containerd/a.toml", cni("/srv/a"))
    assert plugin_directory(root).why == "containerd looks there (/etc/containerd/a.toml)"
    write(root, "/etc/containerd/a.toml", SILENT)
    why = plugin_directory(root).why
    assert why == f"the default of containerd ({CONTAINERD} names no other)"


def test_a_link_leads_where_it_leads_on_the_node(root: Path) -> None:
    """/etc/containerd on NixOS, config.toml on Flatcar: seen from a container, / is another."""
    write(root, "/nix/store/x/config.toml", cni("/srv/x"))
    (root / "etc/static").mkdir(parents=True)
    (root / "etc/static/containerd").symlink_to("/nix/store/x")
    (root / "etc/containerd").symlink_to("/etc/static/containerd")
    assert str(plugin_directory(root).path) == "/srv/x"


def test_links_in_a_circle_are_no_file(root: Path) -> None:
    (root / "etc/containerd").mkdir(parents=True)
    os.symlink("config.toml", root / CONTAINERD[1:])
    choice = plugin_directory(root)
    assert str(choice.path) == "/opt/cni/bin"
    assert choice.notes


def test_a_link_does_not_lead_above_the_root(root: Path) -> None:
    node = root / "node"
    write(root, "/outside.toml", cni("/srv/outside"))
    (node / "etc/containerd").mkdir(parents=True)
    os.symlink("../../../../outside.toml", node / CONTAINERD[1:])
    assert str(plugin_directory(node).path) == "/opt/cni/bin"


def test_it_prints_the_directory_first(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, CONTAINERD, DEBIAN)
    write(root, CRIO, "x")
    assert main([str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["/usr/lib/cni", f"containerd looks there ({CONTAINERD})"]
    assert lines[2].startswith(f"{CRIO} is not used: ")
