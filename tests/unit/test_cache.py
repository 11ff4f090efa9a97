"""What runtimes, Multus and the seed's plugin left on disk, read back."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.adoption.caches import Remembered, Unreadable, read_caches, read_legacy
from cni_repair.base.frozen import replace
from cni_repair.checkpoint.store import Key, Store
from tests.unit.samples import CONTAINER, NETNS, RESULT, SEED, SEED_NAME
from tests.unit.strategies import ids, ifnames, json_objects, json_values

Json = dict[str, Any]

MACVLAN: Json = {"type": "macvlan", "master": "eth0.3", "mode": "bridge"}
CONFLIST: Json = {
    "cniVersion": "1.0.0",
    "name": "podnet",
    "plugins": [MACVLAN, {"type": "tuning", "name": "overridden"}],
}

# As containerd 1.6.20 wrote it (tests/test_adopt_containerd.py), but for the container id.
NETNS_WRITTEN = (
    "/run/own/containerd/state/io.containerd.grpc.v1.cri/netns/"
    "cni-5f1de3c4-7a05-1782-b731-f4cb322f1325"
)
WRITTEN = (
    '{"kind":"cniCacheV1","containerId":"' + CONTAINER + '","config":"'
    "eyJjbmlWZXJzaW9uIjogIjEuMC4wIiwgIm5hbWUiOiAicG9kcyIsICJwbHVnaW5zIjogW3sidHlwZSI6ICJtYWN2bGFu"
    "IiwgIm1hc3RlciI6ICJldGgwIiwgImlwYW0iOiB7InR5cGUiOiAiaG9zdC1sb2NhbCIsICJkYXRhRGlyIjogIi9ydW4v"
    "Y25pLXJlcGFpci0xNmMwL2lwYW0iLCAicmFuZ2VzIjogW1t7InN1Ym5ldCI6ICIxMC45LjAuMC8yNCIsICJnYXRld2F5"
    "IjogIjEwLjkuMC4xIn1dXSwgInJvdXRlcyI6IFt7ImRzdCI6ICIwLjAuMC4wLzAifV19fV19"
    '","ifName":"eth0","networkName":"pods","cniArgs":[["K8S_POD_INFRA_CONTAINER_ID",'
    '"' + CONTAINER + '"],["K8S_POD_UID","uid-of-web-1"],["IgnoreUnknown","1"],'
    '["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","web-1"]],'
    '"capabilityArgs":{"io.kubernetes.cri.pod-annotations":null},'
    '"result":{"cniVersion":"1.0.0","dns":{},"interfaces":[{"mac":"d2:a2:58:2d:21:0f",'
    '"name":"eth0","sandbox":"' + NETNS_WRITTEN + '"}],'
    '"ips":[{"address":"10.9.0.2/24","gateway":"10.9.0.1","interface":0}],'
    '"routes":[{"dst":"0.0.0.0/0"}]}}'
)


def in_base64(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def v1(**changes: Any) -> Json:
    document: Json = {
        "kind": "cniCacheV1",
        "containerId": CONTAINER,
        "config": in_base64(CONFLIST),
        "ifName": "eth0",
        "networkName": "podnet",
        "netns": NETNS,
        "cniArgs": [["K8S_POD_NAME", "cart-0"]],
        "capabilityArgs": {},
        "result": RESULT,
    }
    return {key: value for key, value in {**document, **changes}.items() if value is not ...}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    made = tmp_path / "cni"
    (made / "results").mkdir(mode=0o700, parents=True)
    return made


def put(path: Path, content: str | bytes | Json | list[Any]) -> Path:
    raw = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    path.chmod(0o600)
    return path


def entry(cache: Path, content: str | bytes | Json, name: str = f"podnet-{CONTAINER}-eth0") -> Path:
    return put(cache / "results" / name, content)


def read(cache: Path) -> Remembered:
    """The only thing that is remembered; nothing is bad."""
    found, bad = read_caches([str(cache)])
    assert bad == []
    (one,) = found
    return one


def why(cache: Path) -> str:
    """Why the only file is of no use."""
    found, bad = read_caches([str(cache)])
    assert found == []
    (one,) = bad
    assert one.file in str(one.error)
    return str(one.error)


# --- libcni ---------------------------------------------------------------------------------------


def test_as_containerd_wrote_it(cache: Path) -> None:
    path = entry(cache, WRITTEN, f"pods-{CONTAINER}-eth0")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    one = read(cache)
    assert one.key == Key(CONTAINER, "eth0")
    assert one.file == str(path)
    assert one.network == "pods"
    assert one.netns == NETNS_WRITTEN
    (plugin,) = one.plugins
    assert {key: plugin[key] for key in plugin if key != "ipam"} == {
        "type": "macvlan", "master": "eth0", "cniVersion": "1.0.0", "name": "pods",
    }  # fmt: skip
    assert (one.args["K8S_POD_NAMESPACE"], one.args["K8S_POD_NAME"]) == ("shop", "web-1")
    assert one.result["ips"][0]["address"] == "10.9.0.2/24"
    assert one.written_at == 1_700_000_000_123


def in_capitals(value: Any) -> Any:
    """A document with every key in capitals."""
    if isinstance(value, list):
        return [in_capitals(one) for one in value]
    if isinstance(value, dict):
        return {key.upper(): in_capitals(held) for key, held in value.items()}
    return value


def test_an_entry_is_read_in_any_case_as_libcni_does(cache: Path) -> None:
    name = f"podnet-{CONTAINER}-eth0"
    entry(cache, v1(config=in_base64(MACVLAN)), name)
    as_written = read(cache)
    entry(cache, in_capitals(v1(config=in_base64(in_capitals(MACVLAN)))), name)
    assert as_written.plugins == (MACVLAN,)
    assert replace(read(cache), written_at=0) == replace(as_written, written_at=0)


def test_the_netns_beside_the_result_counts_more(cache: Path) -> None:
    """The Result's may be a plugin's own idea of it."""
    entry(cache, v1(netns="/run/netns/x"))
    assert read(cache).netns == "/run/netns/x"


def test_the_netns_in_the_result_is_the_interfaces(cache: Path) -> None:
    """A plugin tells of its links on the node, too."""
    interfaces = [
        {"name": "cni0", "mac": "02:00:00:00:00:01"},
        {"name": "eth0", "mac": "02:00:00:00:00:02"},  # on the node
        {"name": "eth1", "sandbox": "/run/netns/other"},
        {"name": "eth0", "sandbox": "/run/netns/x"},
    ]
    entry(cache, v1(netns=..., result={**RESULT, "interfaces": interfaces}))
    assert read(cache).netns == "/run/netns/x"


def test_a_list_gives_its_plugins_name_and_version(cache: Path) -> None:
    entry(cache, v1())
    shared = {"name": "podnet", "cniVersion": "1.0.0"}
    assert read(cache).plugins == ({**MACVLAN, **shared}, {"type": "tuning", **shared})


def test_a_single_plugins_configuration(cache: Path) -> None:
    """AddNetwork, which Multus uses, caches the plugin's own."""
    entry(cache, v1(config=in_base64({**MACVLAN, "name": "podnet"})))
    assert read(cache).plugins == ({**MACVLAN, "name": "podnet"},)


def test_a_configuration_with_the_same_key_twice(cache: Path) -> None:
    """libcni keeps the file as it was written, and its plugins take the key as one."""
    raw = b'{"name":"podnet","type":"macvlan","ipam":{"type":"x","range":"a","range":"a"}}'
    entry(cache, v1(config=base64.b64encode(raw).decode()))
    ((one,), bad) = read_caches([str(cache)])
    assert bad == []
    assert one.plugins == (
        {"name": "podnet", "type": "macvlan", "ipam": {"type": "x", "range": "a"}},
    )


@pytest.mark.parametrize("key", ["netns", "cniArgs", "capabilityArgs", "result", "config"])
@pytest.mark.parametrize("value", [..., None], ids=["absent", "null"])
def test_what_go_leaves_out(cache: Path, key: str, value: Any) -> None:
    entry(cache, v1(**{key: value}))
    one = read(cache)
    empty = {"netns": NETNS, "cniArgs": {}, "result": {}, "config": ()}  # the Result has it, too
    names = {"cniArgs": "args", "config": "plugins"}
    if key in empty:
        assert getattr(one, names.get(key, key)) == empty[key]


def test_names_with_hyphens(cache: Path) -> None:
    document = v1(networkName="my-net-1", ifName="net-1", containerId="a-b-c")
    entry(cache, document, "my-net-1-a-b-c-net-1")
    one = read(cache)
    assert (one.network, one.key) == ("my-net-1", Key("a-b-c", "net-1"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"containerId": "../../etc/passwd"}, "$.containerId: expected letters"),
        ({"containerId": ...}, "$.containerId: expected letters"),
        ({"containerId": CONTAINER[:12]}, f"it is the entry of podnet-{CONTAINER[:12]}-eth0"),
        ({"ifName": "eth0/../lo"}, "$.ifName: expected an interface name"),
        ({"networkName": "other"}, "it is the entry of other-"),
        ({"netns": 7}, "$.netns: expected a text"),
        ({"netns": "/run/netns/a\0b"}, "$.netns: expected a text"),
        ({"config": "%%%"}, "$.config: expected base64"),
        ({"config": 7}, "$.config: expected base64"),
        ({"config": in_base64([])}, "$.config: cannot decode the configuration: it is not"),
        ({"config": in_base64({"plugins": "x"})}, "$.config.plugins: expected a list"),
        ({"config": in_base64({"plugins": ["x"]})}, "$.config.plugins[0]: expected an object"),
        ({"config": base64.b64encode(b'{"type":"a","Type":"b"}').decode()}, "appears twice"),
        ({"cniArgs": [["K8S_POD_NAME"]]}, "$.cniArgs: expected pairs"),
        ({"cniArgs": {"K8S_POD_NAME": "x"}}, "$.cniArgs: expected a list"),
        ({"cniArgs": [["a", 1]]}, "$.cniArgs[0][1]: expected a text"),
        ({"result": []}, "$.result: expected an object"),
        ({"result": {"ip4": 7}}, "$.result.ip4: expected an object"),
        ({"kind": "cniCacheV2"}, "neither a cache entry of libcni nor a Result"),
    ],
)
def test_an_entry_that_is_none(cache: Path, changes: Json, expected: str) -> None:
    entry(cache, v1(**changes))
    assert expected in why(cache)
    assert "no process is in a cgroup of its container 06c9b8d0a800" in why(cache)


def test_a_bare_result(cache: Path) -> None:
    """libcni before 0.8."""
    entry(cache, {**RESULT, "cniVersion": "0.3.1"}, f"my-net-{CONTAINER}-net-1")
    one = read(cache)
    assert (one.network, one.key) == ("my-net", Key(CONTAINER, "net-1"))
    assert (one.plugins, one.args, one.netns) == ((), {}, "")
    assert one.result == {**RESULT, "cniVersion": "0.3.1"}


def test_a_bare_result_says_the_netns(cache: Path) -> None:
    entry(cache, RESULT)
    assert read(cache).netns == NETNS


@pytest.mark.parametrize(
    "name", ["podnet", f"podnet-{CONTAINER}", f"{CONTAINER}-eth0", f"pod net-{CONTAINER}-eth0"]
)
def test_a_bare_result_under_another_name(cache: Path, name: str) -> None:
    entry(cache, RESULT, name)
    assert "its name does not tell" in why(cache)


def test_a_result_of_cni_0_2(cache: Path) -> None:
    result = {
        "cniVersion": "0.2.0",
        "ip4": {
            "ip": "10.161.75.155/22",
            "gateway": "10.161.72.1",
            "routes": [{"dst": "0.0.0.0/0"}],
        },
        "ip6": {"ip": "fd00::155/64", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
        "dns": {"nameservers": ["10.96.0.10"]},
    }
    entry(cache, v1(result=result))
    assert read(cache).result == {
        "cniVersion": "0.3.1",
        "interfaces": [{"name": "eth0", "sandbox": NETNS}],
        "ips": [
            {
                "version": "4",
                "interface": 0,
                "address": "10.161.75.155/22",
                "gateway": "10.161.72.1",
            },
            {"version": "6", "interface": 0, "address": "fd00::155/64"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}],
        "dns": {"nameservers": ["10.96.0.10"]},
    }


def test_loopbacks_are_not_read(cache: Path) -> None:
    entry(cache, "{torn", f"cni-loopback-{CONTAINER}-lo")
    assert read_caches([str(cache)]) == ([], [])


# --- Multus ---------------------------------------------------------------------------------------


def delegate(config: Json, **more: Any) -> Json:
    """DelegateNetConf, as Go writes it (fields without a tag keep their names)."""
    return {
        "Conf": {"name": config.get("name", ""), "type": config.get("type", ""), "ipam": {}},
        "ConfList": {},
        "Name": "default/net",
        "IsFilterV4Gateway": False,
        "IsFilterV6Gateway": False,
        "Bytes": in_base64(config),
        **more,
    }


def scratch(cache: Path, delegates: Any) -> list[Remembered]:
    put(cache / CONTAINER, delegates)
    found, bad = read_caches([str(cache)])
    assert bad == []
    return found


def test_multus_names_interfaces_by_their_place(cache: Path) -> None:
    plugins = [{**MACVLAN, "name": name} for name in ("pods", "storage", "backup")]
    requests: list[Json] = [{}, {}, {"ifnameRequest": "data0"}]
    found = scratch(cache, [delegate(a, **b) for a, b in zip(plugins, requests)])
    assert [(one.key, one.network) for one in found] == [
        (Key(CONTAINER, "eth0"), "pods"),
        (Key(CONTAINER, "net1"), "storage"),
        (Key(CONTAINER, "data0"), "backup"),
    ]
    assert [one.plugins for one in found] == [(plugin,) for plugin in plugins]
    assert {(one.netns, *one.args, *one.result) for one in found} == {("",)}


def test_multus_file_is_read_in_any_case(cache: Path) -> None:
    plugin = {**MACVLAN, "name": "pods", "ipam": {"type": "host-local", "dataDir": "/d"}}
    request = delegate(in_capitals(plugin), ifnameRequest="data0")
    (one,) = scratch(cache, [in_capitals(request)])
    assert (one.key, one.network) == (Key(CONTAINER, "data0"), "pods")
    assert one.plugins == (plugin,)


def test_multus_delegates_to_a_list(cache: Path) -> None:
    (one,) = scratch(cache, [delegate(CONFLIST)])
    assert [plugin["type"] for plugin in one.plugins] == ["macvlan", "tuning"]
    assert one.network == "podnet"


def test_multus_without_a_usable_name(cache: Path) -> None:
    (one,) = scratch(cache, [delegate({**MACVLAN, "name": "a/b"})])
    assert one.network == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "expected a list"),
        ("[7]", "[0]: expected an object"),
        ('[{"Bytes": "%"}]', "$.Bytes: expected base64"),
        ('[{"ifnameRequest": "a/b"}]', "$.ifnameRequest: expected an interface name"),
        ('[{"Bytes": ', "cannot decode"),
        ("", "it is empty"),
    ],
)
def test_a_scratch_file_that_is_none(cache: Path, content: str, expected: str) -> None:
    put(cache / CONTAINER, content)
    assert expected in why(cache)


def test_what_else_lies_there_is_not_multus(cache: Path) -> None:
    for name in ("networks.json", CONTAINER[:-1], f"{CONTAINER}.lock", CONTAINER.upper()):
        put(cache / name, "{torn")
    (cache / "networks").mkdir()
    assert read_caches([str(cache)]) == ([], [])


# --- files and directories ------------------------------------------------------------------------


def test_directories_that_are_not_there(tmp_path: Path) -> None:
    assert read_caches([str(tmp_path / "none"), str(tmp_path)]) == ([], [])


def test_directories_in_their_order(cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "results").mkdir(parents=True, mode=0o700)
    entry(cache, v1())
    entry(other, v1(netns="/run/netns/x"))
    found, _ = read_caches([str(other), str(cache)])
    assert [one.netns for one in found] == ["/run/netns/x", NETNS]


def test_a_directory_may_be_elsewhere(cache: Path, tmp_path: Path) -> None:
    """/var/lib/cni on another disk, by a symbolic link of root's."""
    (tmp_path / "link").symlink_to(cache)
    entry(cache, v1())
    assert read(tmp_path / "link").key.ifname == "eth0"


def spoilt_link(path: Path) -> None:
    good = path.with_name("good")
    path.rename(good)
    path.symlink_to("good")


def spoilt_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def spoilt_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoilt_fifo, "not a regular file"),
        (spoilt_directory, "not a regular file"),
        (lambda path: path.chmod(0o620), "others may write to it (mode 0620)"),
        (lambda path: path.chmod(0o602), "others may write to it (mode 0602)"),
        pytest.param(
            lambda path: os.chown(path, 1234, 0),
            "belongs to uid 1234",
            marks=pytest.mark.needs_root,
        ),
        (lambda path: path.write_bytes(b"{}" + b" " * (1 << 20)), "longer than 1048576 bytes"),
    ],
)
def test_a_file_not_to_be_trusted(
    cache: Path, spoil: Callable[[Path], None], expected: str
) -> None:
    spoil(entry(cache, v1()))
    assert expected in why(cache)


def test_no_link_is_followed(cache: Path) -> None:
    path = entry(cache, v1())
    spoilt_link(path)
    found, bad = read_caches([str(cache)])
    assert found == []
    assert sorted(Path(one.file).name for one in bad) == sorted(["good", path.name])


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o703])
def test_a_directory_not_to_be_trusted(cache: Path, mode: int) -> None:
    entry(cache, v1())
    (cache / "results").chmod(mode)
    if mode & 0o022:
        assert "is not trusted" in why(cache)
        assert "remove" not in why(cache)
    else:
        assert read(cache).network == "podnet"


def test_a_directory_of_others_with_nothing_in_it_that_counts(cache: Path) -> None:
    """A tmpfs on /var/lib/cni: Multus is not there, and results/ is libcni's own."""
    cache.chmod(0o1777)
    put(cache / "other", "")
    entry(cache, v1())
    assert read(cache).network == "podnet"
    put(cache / CONTAINER, [])
    assert [one.file for one in read_caches([str(cache)])[1]] == [str(cache)]


def test_a_directory_below_one_of_others(cache: Path) -> None:
    entry(cache, v1())
    cache.chmod(0o777)
    assert f"it is below {cache}: others may write" in why(cache)


def test_a_directory_that_was_moved_to_another_disk(cache: Path, tmp_path: Path) -> None:
    """Only root can have made the link."""
    entry(cache, v1())
    (cache / "results").rename(tmp_path / "disk")
    (cache / "results").symlink_to(tmp_path / "disk")
    assert read(cache).network == "podnet"


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    put(tmp_path / "results", "")
    assert "cannot read" in why(tmp_path)


def test_one_bad_file_stops_no_other(cache: Path) -> None:
    entry(cache, "{torn", "bad")
    entry(cache, v1())
    found, bad = read_caches([str(cache)])
    assert [one.key for one in found] == [Key(CONTAINER, "eth0")]
    assert [Path(one.file).name for one in bad] == ["bad"]


# --- the seed -------------------------------------------------------------------------------------


def seeds(directory: Path) -> tuple[list[Remembered], list[Unreadable]]:
    with Store(str(directory)) as store:
        return read_legacy(store)


def test_the_seeds_checkpoints(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    directory.mkdir(mode=0o700)
    path = put(directory / SEED_NAME, SEED)
    put(directory / f"{CONTAINER}@eth0.json", "{ours}")
    found, bad = seeds(directory)
    assert bad == []
    (one,) = found
    assert (one.file, one.key) == (str(path), Key(CONTAINER, "eth0"))
    assert (one.netns, one.args) == (SEED["netns"], {"K8S_POD_NAME": "xxxx"})
    assert (one.network, one.plugins, one.result) == ("", (), SEED["result"])


def test_a_seeds_checkpoint_that_is_torn(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    directory.mkdir(mode=0o700)
    put(directory / SEED_NAME, "{torn")
    found, bad = seeds(directory)
    assert (found, [one.file for one in bad]) == ([], [str(directory / SEED_NAME)])


# --- anything -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cni")
    (made / "results").mkdir(mode=0o700)
    return made


def one_verdict(cache: Path, name: str, raw: bytes) -> None:
    """Whatever a file holds, it is remembered or it is bad, and nothing is raised."""
    paths = [entry(cache, raw, name), put(cache / CONTAINER, raw)]
    try:
        found, bad = read_caches([str(cache)])
    finally:
        for path in paths:
            path.unlink()
    files = {one.file for one in found} | {one.file for one in bad}
    assert files <= {str(path) for path in paths}
    assert str(paths[0]) in files
    assert all(one.key.name and "/" not in one.key.name for one in found)


@given(raw=st.binary(max_size=200))
def test_any_bytes(shared_cache: Path, raw: bytes) -> None:
    one_verdict(shared_cache, f"podnet-{CONTAINER}-eth0", raw)


@given(value=json_values)
def test_any_json(shared_cache: Path, value: Any) -> None:
    one_verdict(shared_cache, f"podnet-{CONTAINER}-eth0", json.dumps(value).encode())


@given(key=st.sampled_from(sorted(v1())), value=json_values)
def test_an_entry_with_any_value_in_it(shared_cache: Path, key: str, value: Any) -> None:
    one_verdict(shared_cache, f"podnet-{CONTAINER}-eth0", json.dumps(v1(**{key: value})).encode())


@given(
    network=ids,
    container_id=ids,
    ifname=ifnames,
    config=json_objects,
    result=json_objects,
    args=st.lists(st.tuples(ids, ids), max_size=3),
)
def test_what_libcni_writes_is_read_back(
    shared_cache: Path,
    network: str,
    container_id: str,
    ifname: str,
    config: Json,
    result: Json,
    args: list[tuple[str, str]],
) -> None:
    config = {key: value for key, value in config.items() if key != "plugins"}
    document = v1(
        networkName=network,
        containerId=container_id,
        ifName=ifname,
        config=in_base64(config),
        result=result,
        cniArgs=args,
    )
    name = f"{network}-{container_id}-{ifname}"
    if name.endswith("-lo"):
        return
    path = entry(shared_cache, document, name)
    one = read(shared_cache)
    path.unlink()
    assert (one.network, one.key) == (network, Key(container_id, ifname))
    assert (one.plugins, one.result, one.args) == ((config,), result, dict(args))
