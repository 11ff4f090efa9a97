"""What Prometheus is told: the text, the file for node_exporter, the port."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cni_repair.node.report import STATES
from cni_repair.watch import scraped
from cni_repair.watch.exposition import (
    BUCKETS,
    GAUGES,
    MOST_NAMES,
    OTHERS,
    RESULTS,
    TRIGGERS,
    Exposition,
    as_label,
)
from cni_repair.watch.metrics import Metrics
from cni_repair.watch.textfile import Textfile, write
from tests.patience import eventually
from tests.unit.samples import REPOSITORY

Labels = frozenset[tuple[str, str]]

DOCUMENT: dict[str, Any] = {
    "mode": "healing",
    "lastLook": 1_800_000_000,
    "byNetwork": {"pods": {"healthy": 3, "lost": 1}},
    "damaged": {"uplinkUp": 1, "uplinkDown": 0},
    "masters": [
        {"name": "eth0.3", "up": True, "carrier": True, "attachments": 4},
        {"name": "eth1", "up": True, "carrier": False, "attachments": 0},
    ],
    "armed": 1,
    "refused": [{"pod": "shop/web-1"}, {"pod": "shop/web-2"}],
    "kubelet": {"held": True},
    "unmanaged": 2,
    "coverage": {"restorable": 4, "interfaces": 6},
}


class Wanted(NamedTuple):
    metrics_textfile: str = ""
    metrics_listen: str = ""


def samples(text: str) -> dict[str, dict[Labels, float]]:
    """Every sample by its name and labels, as Prometheus' own parser reads them."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series, f"{sample.name} {sample.labels} twice"
            series[labels] = sample.value
    return found


def exposed(document: dict[str, Any] | None = None) -> dict[str, dict[Labels, float]]:
    exposition = Exposition("0.1.0")
    if document is not None:
        exposition.observe(document)
    return samples(exposition.text().decode())


def value(found: dict[str, dict[Labels, float]], name: str, **labels: str) -> float:
    return found[f"cni_repair_{name}"][frozenset(labels.items())]


# --- Text ----------------------------------------------------------------------------------------


def test_states_of_a_network_are_told_those_without_attachments_too() -> None:
    found = exposed(DOCUMENT)["cni_repair_attachments"]
    told = {dict(labels)["state"]: count for labels, count in found.items()}
    assert told == dict.fromkeys(STATES, 0.0) | {"healthy": 3, "lost": 1}
    assert {dict(labels)["network"] for labels in found} == {"pods"}


def test_damaged_ones_are_told_by_what_they_stand_on() -> None:
    found = exposed(DOCUMENT | {"damaged": {"uplinkUp": 1, "uplinkDown": 12}})
    assert value(found, "damaged_attachments", uplink="up") == 1
    assert value(found, "damaged_attachments", uplink="down") == 12


@pytest.mark.parametrize(("up", "carrier", "expected"), [(1, 1, 1), (1, 0, 0), (0, 0, 0)])
def test_master_without_carrier_is_not_up(up: int, carrier: int, expected: int) -> None:
    master = {"name": "eth0", "up": bool(up), "carrier": bool(carrier), "attachments": 7}
    found = exposed(DOCUMENT | {"masters": [master]})
    assert value(found, "master_up", master="eth0") == expected
    assert value(found, "master_attachments", master="eth0") == 7


def test_other_gauges() -> None:
    found = exposed(DOCUMENT)
    told = {gauge.name.removeprefix("cni_repair_"): 0.0 for gauge in GAUGES}
    for name in told:
        told[name] = value(found, name)
    assert told == {
        "armed_attachments": 1,
        "refused_attachments": 2,
        "unmanaged_interfaces": 2,
        "interfaces": 6,
        "restorable_interfaces": 4,
        "last_look_timestamp_seconds": 1_800_000_000,
        "kubelet_held": 1,
    }
    assert value(found, "build_info", version="0.1.0") == 1


@pytest.mark.parametrize(("mode", "paused"), [("paused", 1), ("healing", 0), ("upgrading", 0)])
def test_paused(mode: str, paused: int) -> None:
    assert value(exposed(DOCUMENT | {"mode": mode}), "paused") == paused


def test_repairs_begin_with_zero_in_every_combination() -> None:
    found = exposed()
    for result in RESULTS:
        for trigger in TRIGGERS:
            assert value(found, "repairs_total", result=result, trigger=trigger) == 0


def test_repairs_and_outages_are_counted() -> None:
    exposition = Exposition("0.1.0")
    exposition.heal("healed", "uplink", 0.004)
    exposition.heal("healed", "uplink", 0.005)  # a bucket has its own bound
    exposition.heal("healed", "drift", 4000.0)
    exposition.heal("refused", "drift", None)
    found = samples(exposition.text().decode())
    assert value(found, "repairs_total", result="healed", trigger="uplink") == 2
    assert value(found, "repairs_total", result="refused", trigger="drift") == 1
    assert value(found, "outage_seconds_count") == 3
    assert value(found, "outage_seconds_sum") == pytest.approx(4000.009)
    assert value(found, "outage_seconds_bucket", le="0.005") == 2
    assert value(found, "outage_seconds_bucket", le="600.0") == 2
    assert value(found, "outage_seconds_bucket", le="+Inf") == 3
    assert len(found["cni_repair_outage_seconds_bucket"]) == len(BUCKETS) + 1


def test_before_the_first_look_nothing_is_told_of_the_node() -> None:
    assert "cni_repair_attachments" not in exposed()
    assert "cni_repair_last_look_timestamp_seconds" not in exposed()


@pytest.mark.parametrize("torn", [{}, {"byNetwork": 3, "masters": {"a": 1}, "kubelet": None}])
def test_a_document_of_another_version_tells_what_it_can(torn: dict[str, Any]) -> None:
    assert value(exposed(torn), "paused") == 0


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("pods", "pods"),
        ('a"b\\c', 'a"b\\c'),
        ("grün", "grün"),
        ("a\nb\0c\x1b", "a\\nb\\x00c\\x1b"),
        ("\ud800", "\\ud800"),  # what JSON can carry and UTF-8 cannot
        ("x" * 500, "x" * 128),
    ],
)
def test_hostile_name_spoils_no_text(name: str, label: str) -> None:
    assert as_label(name) == label
    masters = [{"name": name, "up": True, "carrier": True, "attachments": 1}]
    document = DOCUMENT | {"byNetwork": {name: {"healthy": 1}}, "masters": masters}
    found = exposed(document)
    assert value(found, "attachments", network=label, state="healthy") == 1
    assert value(found, "master_up", master=label) == 1


def test_names_that_look_alike_as_labels_are_one_series() -> None:
    networks = {"x" * 128 + end: {"healthy": 1} for end in "ab"}
    found = exposed(DOCUMENT | {"byNetwork": networks})
    assert value(found, "attachments", network="x" * 128, state="healthy") == 2


def many(count: int, first: int = 0) -> dict[str, Any]:
    names = [f"n{number}" for number in range(first, first + count)]
    masters = [
        {"name": name, "up": name != "n4999", "carrier": True, "attachments": 1} for name in names
    ]
    networks = {name: {"lost": 1} for name in names}
    return DOCUMENT | {"byNetwork": networks, "masters": masters}


def test_thousands_of_networks_and_masters_are_bounded_and_none_is_left_out() -> None:
    found = exposed(many(5000))
    assert len(found["cni_repair_attachments"]) == (MOST_NAMES + 1) * len(STATES)
    assert value(found, "attachments", network=OTHERS, state="lost") == 5000 - MOST_NAMES
    assert len(found["cni_repair_master_up"]) == MOST_NAMES + 1
    assert value(found, "master_up", master=OTHERS) == 0  # one of them is down
    assert value(found, "master_attachments", master=OTHERS) == 5000 - MOST_NAMES


def test_series_that_is_shown_stays_shown() -> None:
    exposition = Exposition("0.1.0")
    exposition.observe(many(1, first=50))
    exposition.observe(many(5000))
    found = samples(exposition.text().decode())
    assert value(found, "attachments", network="n50", state="lost") == 1
    exposition.observe(many(1, first=3000))  # those that are gone make room
    found = samples(exposition.text().decode())
    assert {dict(labels)["network"] for labels in found["cni_repair_attachments"]} == {"n3000"}


# --- File ----------------------------------------------------------------------------------------


def test_file_is_readable_for_all_whatever_the_umask_is(tmp_path: Path) -> None:
    path = tmp_path / "cni-repair.prom"
    old = os.umask(0o077)
    try:
        write(str(path), b"new")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_until_it_is_whole_it_has_no_name_of_a_metric_file(tmp_path: Path) -> None:
    seen: list[str] = []

    def see(fd: int) -> None:
        seen.extend(os.listdir(tmp_path))

    from cni_repair.base.files import replace_whole

    directory = os.open(tmp_path, os.O_RDONLY)
    replace_whole(directory, "cni-repair.prom", b"x", 0o644, see)
    os.close(directory)
    assert len(seen) == 1
    assert not seen[0].endswith(".prom")
    assert os.listdir(tmp_path) == ["cni-repair.prom"]


def test_directory_may_be_a_link_and_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "directory").symlink_to("there")
    (tmp_path / "there" / "m.prom").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("mine")
    write(str(tmp_path / "directory" / "m.prom"), b"x")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "there" / "m.prom").read_bytes() == b"x"
    assert not (tmp_path / "there" / "m.prom").is_symlink()


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".m.prom.tmp").symlink_to(tmp_path / "victim")
    write(str(tmp_path / "m.prom"), b"x")
    assert sorted(os.listdir(tmp_path)) == ["m.prom"]


@pytest.fixture
def trouble() -> list[str]:
    return []


@pytest.fixture
def metrics(trouble: list[str]) -> Iterator[Callable[[Wanted], Metrics]]:
    made: list[Metrics] = []

    def make(wanted: Wanted) -> Metrics:
        made.append(Metrics(wanted, trouble.append))
        return made[-1]

    yield make
    for one in made:
        one.close()


def lost_in(path: Path) -> float:
    if not path.exists():
        return -1
    found = samples(path.read_text())
    series = found.get("cni_repair_attachments", {})
    return series.get(frozenset({"network": "pods", "state": "lost"}.items()), -1)


def test_file_says_what_was_observed_and_stays(
    tmp_path: Path, metrics: Callable[[Wanted], Metrics], trouble: list[str]
) -> None:
    path = tmp_path / "cni-repair.prom"
    one = metrics(Wanted(metrics_textfile=str(path)))
    one.observe(DOCUMENT)
    eventually(lambda: lost_in(path) == 1, "the file")
    one.observe(DOCUMENT | {"byNetwork": {"pods": {"healthy": 4}}})
    one.close()  # which writes what is still to be written
    assert lost_in(path) == 0
    assert trouble == []


def test_missing_directory_is_told_once_and_tried_again(tmp_path: Path, trouble: list[str]) -> None:
    path = tmp_path / "later" / "m.prom"
    tried: list[int] = []

    def text() -> bytes:
        tried.append(1)
        return b"x 1\n"

    textfile = Textfile(str(path), text, trouble.append)
    for times in (1, 2, 3):
        textfile.changed()
        eventually(lambda: len(tried) >= times, "a try")  # noqa: B023 (called at once)
    path.parent.mkdir()
    textfile.changed()
    eventually(path.exists, "the file")
    textfile.close()
    assert trouble == [
        f"cannot write {path}: No such file or directory;"
        f" make the directory {path.parent}, or correct metrics.textfile"
    ]


@pytest.mark.needs_root
def test_full_disk_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, trouble: list[str]
) -> None:
    path = tmp_path / "m.prom"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        write(str(path), b"old 1\n")
        textfile = Textfile(str(path), lambda: b"x" * 100_000, trouble.append)
        textfile.changed()
        eventually(lambda: trouble, "the trouble")
        textfile.close()
        assert path.read_bytes() == b"old 1\n"
        assert os.listdir(tmp_path) == ["m.prom"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert trouble == [
        f"cannot write {path}: No space left on device;"
        " make room there: until then Prometheus sees what was written before"
    ]


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        ("file", "Not a directory; {0} is no directory: correct metrics.textfile"),
        (
            "has-directory",
            "Is a directory; a directory has that name: remove it, or correct metrics.textfile",
        ),
    ],
)
def test_wrong_path_is_told_with_its_remedy(
    tmp_path: Path, trouble: list[str], directory: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "has-directory/m.prom").mkdir(parents=True)
    path = tmp_path / directory / "m.prom"
    textfile = Textfile(str(path), lambda: b"x 1\n", trouble.append)
    textfile.changed()
    eventually(lambda: trouble, "the trouble")
    textfile.close()
    assert trouble == [f"cannot write {path}: {said.format(path.parent)}"]
    left = ["m.prom"] if directory == "has-directory" else []
    assert os.listdir(path.parent) == left if path.parent.is_dir() else not left


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            "mount -t tmpfs -o ro tmpfs {0}",
            "Read-only file system; systemctl edit cni-repair-watch: [Service] ReadWritePaths={0}",
        ),
        ("chown 1 {0}", "Permission denied; chown root {0}"),
    ],
    ids=["read-only", "another-users"],
)
def test_directory_that_the_service_may_not_write_to(tmp_path: Path, spoil: str, said: str) -> None:
    """The service has no CAP_DAC_OVERRIDE."""
    directory = tmp_path / "textfiles"
    directory.mkdir()
    subprocess.run(spoil.format(directory).split(), check=True)
    code = (
        "import sys; from cni_repair.watch.textfile import Textfile\n"
        f"one = Textfile({str(directory / 'm.prom')!r}, lambda: b'x', print)\n"
        "one.changed(); one.close()\n"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-dac_override", sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    if "mount" in spoil:
        subprocess.run(["umount", directory], check=True)
    # (It is written once more at the end.)
    assert set(done.stdout.splitlines()) == {
        f"cannot write {directory}/m.prom: {said.format(directory)}"
    }


def test_file_that_is_no_more_wanted_is_removed(
    tmp_path: Path, metrics: Callable[[Wanted], Metrics]
) -> None:
    first, second = tmp_path / "first.prom", tmp_path / "second.prom"
    one = metrics(Wanted(metrics_textfile=str(first)))
    eventually(first.exists, "the first file")
    one.heal("healed", "uplink", 0.1)
    one.reload(Wanted(metrics_textfile=str(second)))
    eventually(second.exists, "the second file")
    assert not first.exists()
    counted = samples(second.read_text())
    assert value(counted, "repairs_total", result="healed", trigger="uplink") == 1
    one.reload(Wanted())
    assert os.listdir(tmp_path) == []


# --- Port ----------------------------------------------------------------------------------------


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def get(port: int, path: str = "/metrics", host: str = "127.0.0.1") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def is_served(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_answers_what_was_observed(host: str, metrics: Callable[[Wanted], Metrics]) -> None:
    try:
        port = free_port(host)
    except OSError:
        pytest.skip(f"no {host} on this machine")
    one = metrics(Wanted(metrics_listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
    one.observe(DOCUMENT)
    status, content_type, text = get(port, host=host)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert value(samples(text), "unmanaged_interfaces") == 2
    assert get(port, "/metrics?x=1", host)[0] == 200
    assert get(port, "/", host)[0] == 404


def test_port_is_free_again_after_close(metrics: Callable[[Wanted], Metrics]) -> None:
    wanted = Wanted(metrics_listen=f"127.0.0.1:{free_port()}")
    for _ in range(3):
        one = metrics(wanted)
        assert get(int(wanted.metrics_listen.rpartition(":")[2]))[0] == 200
        one.close()


def test_busy_port_is_told_once_and_had_after_a_reload(
    tmp_path: Path, metrics: Callable[[Wanted], Metrics], trouble: list[str]
) -> None:
    path = tmp_path / "m.prom"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        wanted = Wanted(str(path), f"127.0.0.1:{port}")
        one = metrics(wanted)
        one.observe(DOCUMENT)
    eventually(lambda: lost_in(path) == 1, "the file, which is written all the same")
    assert trouble == [
        f"cannot serve metrics on 127.0.0.1:{port}: Address already in use; free the port or"
        " change metrics.listen, then systemctl reload cni-repair-watch"
    ]
    one.reload(wanted)
    assert get(port)[0] == 200
    assert len(trouble) == 1


def test_clients_that_say_nothing_do_not_add_up(
    metrics: Callable[[Wanted], Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraped._Handler, "timeout", 0.5)
    port = free_port()
    metrics(Wanted(metrics_listen=f"127.0.0.1:{port}"))
    silent = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(20)]
    # Those that are too many are sent away, the others after some seconds.
    assert [sock.recv(1) for sock in silent] == [b""] * 20
    eventually(lambda: is_served(port), "a place to be free, after its client has gone")
    for sock in silent:
        sock.close()


@pytest.mark.parametrize(
    "said", [b"\r\n\r\n", b"GET\0/\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n"]
)
def test_nonsense_is_answered_or_not_and_prints_nothing(
    said: bytes, metrics: Callable[[Wanted], Metrics], capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    metrics(Wanted(metrics_listen=f"127.0.0.1:{port}"))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(said)
        while sock.recv(4096):
            pass
    assert get(port)[0] == 200
    assert capfd.readouterr() == ("", "")


# --- Cost ----------------------------------------------------------------------------------------


def test_without_metrics_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, json; from cni_repair.watch.metrics import Metrics\n"
        "class W: metrics_textfile = metrics_listen = ''\n"
        "one = Metrics(W()); one.observe({}); one.heal('healed', 'uplink'); one.close()\n"
        "print(json.dumps([name for name in sys.modules if name.startswith(('prom', 'http'))]))"
    )
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == []
