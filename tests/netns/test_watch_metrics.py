"""What the real daemon tells Prometheus, and what may go wrong with that: it lives on."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.netns.rig import Rig, eventually
from tests.netns.watching import Watch, configure, watching
from tests.unit.test_metrics import get, samples

pytestmark = pytest.mark.slow  # many, though each is short

HOST = "127.0.0.1"


def textfile(rig: Rig) -> Path:
    return rig.base / "textfiles" / "cni-repair.prom"


def metrics(rig: Rig, listen: str = "") -> dict[str, Any]:
    textfile(rig).parent.mkdir(exist_ok=True)
    return {"textfile": str(textfile(rig)), "listen": listen}


def written(rig: Rig, name: str, **labels: str) -> float:
    """A value of the file; -1 where there is none yet."""
    try:
        text = Path(rig.outside(str(textfile(rig)))).read_text()
    except FileNotFoundError:
        return -1
    return samples(text).get(f"cni_repair_{name}", {}).get(frozenset(labels.items()), -1)


def until_written(rig: Rig, value: float, name: str, **labels: str) -> None:
    eventually(lambda: written(rig, name, **labels) == value, f"{name} {labels} {value}")


def listening(rig: Rig) -> socket.socket:
    """A socket that has a port of the node's loopback."""

    def work() -> socket.socket:
        other = socket.socket()
        other.bind((HOST, 0))
        other.listen()
        return other

    rig.ip("link set lo up")
    return rig.inside(None, work)


def scraped(rig: Rig, port: int) -> bool:
    """Whether the port answers with metrics."""

    def work() -> bool:
        try:
            return "cni_repair_build_info" in get(port)[2]
        except OSError:
            return False

    return rig.inside(None, work)


def threads_of(watch: Watch) -> int:
    return len(os.listdir(f"/proc/{watch.process.pid}/task"))


def reload(watch: Watch, times: int) -> None:
    watch.process.send_signal(signal.SIGHUP)
    watch.until_said("reloaded: ", times)


def test_uplink_lost_and_healed(rig: Rig) -> None:
    rig.attach("one")
    rig.attach("two")
    with watching(rig, metrics=metrics(rig)):
        until_written(rig, 2, "attachments", network="pods", state="healthy")
        until_written(rig, 1, "master_up", master="eth0")
        rig.uplink_down()
        until_written(rig, 0, "master_up", master="eth0")
        until_written(rig, 2, "damaged_attachments", uplink="down")
        assert written(rig, "damaged_attachments", uplink="up") == 0
        rig.uplink_up()
        until_written(rig, 2, "repairs_total", result="healed", trigger="uplink")
        until_written(rig, 2, "outage_seconds_count")
        until_written(rig, 0, "damaged_attachments", uplink="down")


def test_pod_lost_by_itself(rig: Rig) -> None:
    one = rig.attach("one")
    with watching(rig, metrics=metrics(rig)):
        until_written(rig, 1, "attachments", network="pods", state="healthy")
        rig.ip("link del eth0", one.pod)
        until_written(rig, 1, "damaged_attachments", uplink="up")
        assert written(rig, "damaged_attachments", uplink="down") == 0


def test_file_stays_when_the_daemon_dies_and_counts_anew(rig: Rig) -> None:
    rig.attach("one")
    with watching(rig, metrics=metrics(rig)) as watch:
        until_written(rig, 1, "attachments", network="pods", state="healthy")
        rig.reload()
        until_written(rig, 1, "repairs_total", result="healed", trigger="uplink")
        watch.end(signal.SIGKILL)
    assert written(rig, "repairs_total", result="healed", trigger="uplink") == 1
    with watching(rig, metrics=metrics(rig)):
        until_written(rig, 0, "repairs_total", result="healed", trigger="uplink")
    assert os.listdir(textfile(rig).parent) == [textfile(rig).name]


def test_full_disk_is_told_once_and_pods_are_healed(rig: Rig) -> None:
    rig.attach("one")
    settings = metrics(rig)
    directory = str(textfile(rig).parent)
    # Less than the metrics of any node need.
    rig.run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory)
    with watching(rig, metrics=settings) as watch:
        watch.until_said(f"trouble: cannot write {textfile(rig)}: No space left on device")
        watch.until_healthy(1)
        rig.reload()
        watch.until_healed(1)
        half = f".{textfile(rig).name}.tmp"
        eventually(lambda: half not in os.listdir(rig.outside(directory)), "nothing half-written")
        rig.run("mount", "-o", "remount,size=1m", directory)
        until_written(rig, 1, "repairs_total", result="healed", trigger="uplink")
        assert watch.said.count("No space left on device") == 1


def test_missing_directory_may_come_later(rig: Rig) -> None:
    rig.attach("one")
    settings = metrics(rig)
    textfile(rig).parent.rmdir()
    with watching(rig, metrics=settings) as watch:
        watch.until_said("; make the directory ")
        textfile(rig).parent.mkdir()
        until_written(rig, 1, "attachments", network="pods", state="healthy")


def test_busy_port_at_the_start_and_at_a_reload(rig: Rig) -> None:
    rig.attach("one")
    with listening(rig) as other, listening(rig) as free:
        port, second = (sock.getsockname()[1] for sock in (other, free))
        free.close()
        with watching(rig, metrics=metrics(rig, f"{HOST}:{port}")) as watch:
            watch.until_said(f"trouble: cannot serve metrics on {HOST}:{port}: Address already in")
            watch.until_healthy(1)
            configure(rig, metrics=metrics(rig, f"{HOST}:{second}"))
            reload(watch, 1)
            assert scraped(rig, second)
            configure(rig, metrics=metrics(rig, f"{HOST}:{port}"))
            reload(watch, 2)
            assert not scraped(rig, second)
            other.close()
            reload(watch, 3)
            assert scraped(rig, port)


def test_metrics_that_are_no_more_wanted_go_with_a_reload(rig: Rig) -> None:
    rig.attach("one")
    with listening(rig) as other:
        port = other.getsockname()[1]
    with watching(rig, metrics=metrics(rig, f"{HOST}:{port}")) as watch:
        until_written(rig, 1, "attachments", network="pods", state="healthy")
        assert scraped(rig, port)
        configure(rig)
        reload(watch, 1)
        assert not scraped(rig, port)
        assert os.listdir(textfile(rig).parent) == []
        eventually(lambda: threads_of(watch) == 1, "its threads to end")


def test_without_metrics_there_is_no_thread(rig: Rig) -> None:
    rig.attach("one")
    with watching(rig) as watch:
        watch.until_healthy(1)
        assert threads_of(watch) == 1
