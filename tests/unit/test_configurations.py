"""Which files of a node's configuration name cni-repair: what libcni and Multus read of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni_repair.adoption.configurations import Found, read_configurations

OURS = {"cniVersion": "1.0.0", "name": "pods", "type": "cni-repair"}
OTHER = {"cniVersion": "1.0.0", "name": "pods", "type": "macvlan"}


@pytest.fixture
def confs(tmp_path: Path) -> Path:
    directory = tmp_path / "net.d"
    directory.mkdir()
    return directory


def write(confs: Path, name: str, content: Any) -> str:
    path = confs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def read(*directories: Path) -> Found:
    return read_configurations(map(str, directories))


def naming(found: Found) -> list[str]:
    return [one.file for one in found.naming]


def unreadable(found: Found) -> list[str]:
    return [one.file for one in found.unreadable]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("10-pods.conf", OURS),
        ("10-pods.json", OURS),
        ("10-pods.conflist", {"name": "pods", "plugins": [OURS]}),
        ("99-last-of-a-chain.conflist", {"name": "pods", "plugins": [OTHER, OURS]}),
        (".hidden.conf", OURS),
        ("keys-without-case.conf", {"Name": "pods", "TYPE": "cni-repair"}),
        ("00-multus.conf", {"type": "multus", "delegates": [OTHER, OURS]}),
        ("00-multus.conf", {"type": "multus", "delegates": [{"name": "a", "plugins": [OURS]}]}),
        ("multus.d/pods.conf", OURS),
        ("a-namespace/nerdctl-pods.conflist", {"name": "pods", "plugins": [OURS]}),
        ("wrapper.conf", {"type": "flannel", "delegate": OURS}),
        ("wrapper-by-name.conf", {"type": "wrapper", "delegate": "cni-repair"}),
        ("twice-the-same.conf", '{"type": "cni-repair", "mtu": 9000, "mtu": 9000}'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_names_it(confs: Path, name: str, content: Any) -> None:
    file = write(confs, name, content)
    found = read(confs)
    assert (naming(found), unreadable(found)) == ([file], [])


@pytest.mark.parametrize("kind", ["cni-repair", "macvlan"])
@pytest.mark.parametrize("more", ['"mtu": 1400, "mtu": 1400', '"_by": "M\udcfcller"'], ids=ascii)
def test_read_as_the_plugin_reads_it(confs: Path, kind: str, more: str) -> None:
    """Of another plugin it would be in the way of nothing, and of ours it is no riddle."""
    path = confs / "10.conf"
    path.write_bytes(f'{{"type": "{kind}", {more}}}'.encode(errors="surrogateescape"))
    found = read(confs)
    assert (len(naming(found)), unreadable(found)) == (int(kind == "cni-repair"), [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("10-pods.conf", OTHER),
        ("10-named-like-it.conf", {**OTHER, "name": "cni-repair"}),
        ("10-pods.conf.bak", OURS),
        ("10-pods.conf.rpmsave", OURS),
        ("README", "cni-repair"),
        ("another-program.d/settings.conf", "[section]\nkey = value\n"),
    ],
)
def test_does_not_name_it(confs: Path, name: str, content: Any) -> None:
    write(confs, name, content)
    found = read(confs)
    assert (naming(found), unreadable(found)) == ([], [])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("empty.conf", "", "it is empty"),
        ("torn.conflist", '{"name": "pods", "plugins": [', "Expecting value"),
        ("twice.json", '{"type": "macvlan", "type": "bridge"}', "appears twice"),
        ("multus.d/torn.conf", '{"na', "Unterminated string"),
        ("another-program.d/torn.conf", '{"type": "cni-repair"', "Expecting"),
    ],
)
def test_cannot_tell(confs: Path, name: str, content: str, why: str) -> None:
    file = write(confs, name, content)
    found = read(confs)
    assert (naming(found), unreadable(found)) == ([], [file])
    assert why in found.unreadable[0].why


def test_cannot_tell_of_a_fifo_and_does_not_wait_for_it(confs: Path) -> None:
    os.mkfifo(confs / "10-pods.conf")
    assert unreadable(read(confs)) == [str(confs / "10-pods.conf")]


def test_cannot_tell_of_a_link_that_leads_nowhere(confs: Path) -> None:
    (confs / "10-pods.conf").symlink_to(confs / "nowhere")
    assert unreadable(read(confs)) == [str(confs / "10-pods.conf")]


def test_cannot_tell_of_what_is_no_directory(confs: Path) -> None:
    file = write(confs, "net.d", "")
    assert unreadable(read(Path(file))) == [file]


def test_follows_a_link_to_a_file(confs: Path, tmp_path: Path) -> None:
    (confs / "10-pods.conf").symlink_to(write(tmp_path, "elsewhere", OURS))
    assert naming(read(confs)) == [str(confs / "10-pods.conf")]


def test_directory_that_does_not_exist_names_nothing(confs: Path) -> None:
    assert read(confs / "none") == Found((), (), (), ())


def test_several_directories_and_each_file_once(confs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    files = [write(confs, "b.conf", OURS), write(confs, "c.conf", OURS)]
    files.append(write(other, "a.conf", OURS))
    assert naming(read(confs, other, confs)) == files


@pytest.mark.parametrize("key", ["confDir", "cniConfigDir", "multusAutoconfigDir"])
def test_multus_names_a_directory(confs: Path, tmp_path: Path, key: str) -> None:
    file = write(tmp_path / "elsewhere", "pods.conf", OURS)
    write(confs, "00-multus.conf", {"type": "multus", key: str(tmp_path / "elsewhere")})
    assert naming(read(confs)) == [file]


@pytest.mark.parametrize("key", ["clusterNetwork", "defaultNetworks"])
def test_multus_names_a_file(confs: Path, tmp_path: Path, key: str) -> None:
    file = write(tmp_path / "elsewhere", "pods", OURS)
    value = [file, "a-definition"] if key == "defaultNetworks" else file
    write(confs, "00-multus.conf", {"type": "multus", key: value})
    assert naming(read(confs)) == [file]


def test_multus_names_files_that_name_each_other(confs: Path) -> None:
    for name, other in (("a.conf", "b.conf"), ("b.conf", "a.conf")):
        write(confs, name, {"type": "multus", "clusterNetwork": str(confs / other)})
    assert read(confs) == Found((), (), (), ())


@pytest.mark.parametrize(
    ("delegate", "wrapped"),
    [
        ({}, ("macvlan",)),
        ({"delegate": "ipvlan"}, ("ipvlan",)),
        ({"delegate": {"type": "ipvlan", "mode": "l2"}}, ("ipvlan",)),
        ({"delegate": {"mode": "bridge"}}, ("macvlan",)),
    ],
)
def test_says_which_plugin_it_wraps(confs: Path, delegate: Any, wrapped: tuple[str, ...]) -> None:
    write(confs, "10-pods.conf", {**OURS, **delegate})
    assert read(confs).naming[0].wrapped == wrapped


def test_says_where_records_and_caches_are(confs: Path) -> None:
    write(confs, "00-multus.conf", {"type": "multus", "cniDir": "/srv/multus"})
    write(confs, "10-pods.conf", {**OURS, "checkpointDir": "/srv/records"})
    write(confs, "20-old.conf", {**OURS, "checkDir": "/srv/old"})
    found = read(confs)
    assert found.cache_dirs == ("/srv/multus",)
    assert found.checkpoint_dirs == ("/srv/records", "/srv/old")
