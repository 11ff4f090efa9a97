"""Which namespace a record means: real ones, that processes of ours have made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cni_repair.base import lightsocket as socket
from cni_repair.base.errors import STALE
from cni_repair.base.frozen import replace
from cni_repair.base.procfs import boot_id, start_of
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint import identity
from cni_repair.checkpoint.identity import (
    Identity,
    Stale,
    belongs_to_sandbox,
    check_cookie,
    identify,
    open_identified,
    open_identified_to_enter,
    process_of,
    recorded_identity,
    still_stands,
)
from cni_repair.checkpoint.store import COMMITTED, Key, Store
from cni_repair.netlink.netns import NoNetns, entered, netns_id, open_netns, open_own
from tests.patience import eventually
from tests.unit.descriptors import none_left_open

pytestmark = pytest.mark.needs_root

KEY = Key("0123456789ab", "eth0")


@pytest.fixture
def start_pod() -> Iterator[Callable[[], int]]:
    """A function that starts a process in a namespace of its own; its PID."""
    with ExitStack() as cleanup:

        def start() -> int:
            process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            cleanup.callback(process.wait)
            cleanup.callback(process.kill)
            eventually(lambda: has_own(process.pid), "a namespace of its own")
            return process.pid

        yield start


@pytest.fixture
def own() -> Iterator[int]:
    fd = open_own()
    yield fd
    os.close(fd)


def has_own(pid: int) -> bool:
    return netns_id(path_of(pid)) != netns_id("/proc/self/ns/net")


def path_of(pid: int) -> str:
    return f"/proc/{pid}/ns/net"


def identity_of(path: str, own: int) -> Identity:
    """As ADD records it."""
    netns = open_netns(path)
    with entered(netns, own):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        return identify(path, netns, sock)
    finally:
        sock.close()
        os.close(netns)


def test_what_is_recorded(start_pod: Callable[[], int], own: int) -> None:
    pid = start_pod()
    found = identity_of(path_of(pid), own)
    assert (found.path, found.boot_id) == (path_of(pid), boot_id())
    assert found.netns_id == (found.dev, found.ino) == netns_id(path_of(pid))
    assert (found.pid, found.pid_start) == (pid, start_of(pid))
    assert found.cookie
    assert found.cookie != identity_of(path_of(start_pod()), own).cookie


def test_a_thread_counts_as_a_process(start_pod: Callable[[], int], own: int) -> None:
    pid = start_pod()
    found = identity_of(f"/proc/{pid}/task/{pid}/ns/net", own)
    assert (found.pid, found.pid_start) == (pid, start_of(pid))


@pytest.mark.parametrize(
    "path",
    [
        "/proc/./{0}/ns/net",
        "//proc/{0}/ns/net",
        "/proc/{0}/task/../ns/net",
        "/proc/{0}/../{0}/ns/net",
    ],
)
def test_no_pid_of_another_path(start_pod: Callable[[], int], own: int, path: str) -> None:
    found = identity_of(path.format(start_pod()), own)
    assert (found.pid, found.pid_start) == (None, None)


def test_opened_where_it_is_the_one(start_pod: Callable[[], int], own: int) -> None:
    pid = start_pod()
    recorded = identity_of(path_of(pid), own)
    for path in ("", f"/proc/{pid}/task/{pid}/ns/net"):
        netns = open_identified(recorded, own, path)
        assert netns_id(netns) == recorded.netns_id
        os.close(netns)
    assert still_stands(recorded, own)


def test_of_another_boot(start_pod: Callable[[], int], own: int) -> None:
    recorded = replace(identity_of(path_of(start_pod()), own), boot_id="another")
    expect_stale(recorded, own, "the node was rebooted since the pod was attached")


def test_path_leads_to_another_namespace(start_pod: Callable[[], int], own: int) -> None:
    recorded = identity_of(path_of(start_pod()), own)
    other = path_of(start_pod())
    ino = netns_id(other)[1]
    words = f"{other} is net:[{ino}], the pod was attached in net:[{recorded.ino}]"
    expect_stale(replace(recorded, path=other), own, words)
    expect_stale(recorded, own, words, given=other)


def test_path_leads_to_the_nodes(own: int) -> None:
    recorded = identity_of("/proc/self/ns/net", own)
    expect_stale(recorded, own, "/proc/self/ns/net is the node's own network namespace")


def test_pid_is_another_process(start_pod: Callable[[], int], own: int) -> None:
    pid = start_pod()
    recorded = replace(identity_of(path_of(pid), own), pid_start=1)
    expect_stale(recorded, own, f"PID {pid} is another process now")
    # By another path it is not the PID that tells.
    os.close(open_identified(recorded, own, f"/proc/{pid}/task/{pid}/ns/net"))
    os.close(open_identified(replace(recorded, pid=None), own))


def test_path_leads_nowhere(own: int) -> None:
    recorded = replace(identity_of("/proc/self/ns/net", own), path="/run/netns/nosuch")
    with pytest.raises(NoNetns):
        open_identified(recorded, own)
    with pytest.raises(NoNetns):
        open_identified_to_enter(recorded, netns_id(own))
    assert not still_stands(recorded, own)


def test_namespace_of_another_type_is_not_entered(own: int) -> None:
    """Types share their inodes: one of another may have that of a pod's that is gone."""
    path = "/proc/self/ns/uts"
    dev, ino = netns_id(path)
    recorded = replace(identity_of("/proc/self/ns/net", own), path=path, dev=dev, ino=ino)
    with pytest.raises(NoNetns, match="of another type"):
        open_identified(recorded, own)
    netns = open_identified_to_enter(recorded, netns_id(own))
    try:
        with pytest.raises(OSError, match="Invalid argument"), entered(netns, own):
            pytest.fail("it was entered")
    finally:
        os.close(netns)


def expect_stale(recorded: Identity, own: int, words: str, given: str = "") -> None:
    with none_left_open(), pytest.raises(Stale) as caught:
        open_identified(recorded, own, given)
    assert caught.value.code == STALE
    assert caught.value.msg == "the pod's netns is not there any more"
    assert caught.value.details == words
    with none_left_open():
        assert not still_stands(recorded, own, given)
    if not given:
        with none_left_open(), pytest.raises(Stale) as caught:
            open_identified_to_enter(recorded, netns_id(own))
        assert caught.value.details == words


def test_cookie_of_an_inode_used_again(start_pod: Callable[[], int], own: int) -> None:
    recorded = identity_of(path_of(start_pod()), own)
    other = replace(recorded, cookie=1)
    with none_left_open():
        assert not still_stands(other, own)
        assert still_stands(replace(recorded, cookie=None), own)
    netns = open_identified(recorded, own)
    with entered(netns, own):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    check_cookie(recorded, sock)
    check_cookie(replace(recorded, cookie=None), sock)
    with pytest.raises(Stale) as caught:
        check_cookie(other, sock)
    words = f"namespace inode was reused: cookie {recorded.cookie}, recorded 1"
    assert caught.value.details == words
    sock.close()
    os.close(netns)


# --- In a record ---

WHOLE = {"path": "/a", "bootId": "b", "dev": 1, "ino": 2, "cookie": 3, "pid": 4, "pidStart": 5}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "records"), create=True) as store:
        yield store


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, Identity("/a", "b", 1, 2, 3, 4, 5)),
        ({"cookie": None}, Identity("/a", "b", 1, 2, None, 4, 5)),
        ({"cookie": "3", "pid": True, "pidStart": 5.5}, Identity("/a", "b", 1, 2)),
        ({"path": None}, None),
        ({"path": 1}, None),
        ({"bootId": None}, None),
        ({"dev": None}, None),
        ({"dev": True}, None),
        ({"ino": None}, None),
        ({"ino": "2"}, None),
    ],
)
def test_recorded(store: Store, change: dict[str, object], found: Identity | None) -> None:
    store.commit(KEY, dumps({"netns": WHOLE | change}))
    assert recorded_identity(store, KEY.name + COMMITTED) == found


@pytest.mark.parametrize("text", ["{}", '{"netns": []}', '{"netns": null}', "[]", "{"])
def test_not_recorded(store: Store, text: str) -> None:
    store.commit(KEY, text)
    assert recorded_identity(store, KEY.name + COMMITTED) is None


def test_no_record(store: Store) -> None:
    assert recorded_identity(store, KEY.name + COMMITTED) is None


def test_a_directory_is_no_record(store: Store) -> None:
    os.mkdir(f"{store.directory}/{KEY.name}{COMMITTED}")
    assert recorded_identity(store, KEY.name + COMMITTED) is None


# --- By the cgroup, where no identity was recorded ---

ID = "0123456789abfedcba9876543210"


@pytest.fixture
def in_a_container(monkeypatch: pytest.MonkeyPatch) -> int:
    """As if this process, and no other, were in a container; its PID."""
    own = os.getpid()
    monkeypatch.setattr(
        identity, "cgroups_of", lambda pid: f"0::/docker/{ID}\n" if pid == own else "0::/\n"
    )
    return own


@pytest.mark.parametrize(
    ("path", "belongs"),
    [
        ("/proc/{0}/ns/net", True),
        ("/proc/{0}/task/{0}/ns/net", True),
        ("/proc/1/ns/net", False),
        # Not paths of a process's namespace, though there is its PID in them.
        ("/run/{0}/ns/net", False),
        ("/proc/{0}/ns/mnt", False),
        ("/proc/{0}/ns/net/", False),
    ],
)
def test_the_sandbox_is_that_of_the_process_that_the_path_names(
    in_a_container: int, path: str, belongs: bool
) -> None:
    assert belongs_to_sandbox(path.format(in_a_container), ID) == belongs
    assert not belongs_to_sandbox(path.format(in_a_container), ID[::-1])


def test_process_of_a_container(in_a_container: int) -> None:
    assert process_of(ID) == in_a_container


@pytest.mark.parametrize("path", ["/proc/self/ns/net", "/run/netns/a", "/proc/1x/ns/net", ""])
def test_no_process_no_sandbox(path: str) -> None:
    assert not belongs_to_sandbox(path, "0123456789ab")


def test_process_of_nobodys_container() -> None:
    assert process_of(ID) is None
