"""`validate` and the files that people edit: the kinds that it knows, what it says of slips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.cli.validation.files import check_file
from cni_repair.cli.validation.findings import ERROR, NOTE, WARNING, Part
from cni_repair.cli.validation.keys import near
from cni_repair.cli.validation.machine import Machine
from tests.outputs import mistakes_in
from tests.unit.samples import configurations, run_module

NOWHERE = Machine(("/nonexistent",))
GOOD: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "type": "cni-repair",
    "master": "lo",
    "mode": "bridge",
    "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"},
}
ABSENT = object()


def plugin(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (GOOD | changes).items() if value is not ABSENT}


def parts_of(
    tmp_path: Path, document: object, name: str = "10-pods.conf", machine: Machine = NOWHERE
) -> list[Part]:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return check_file(str(path), machine)


def said(
    tmp_path: Path, document: object, name: str = "10-pods.conf", *severities: str
) -> list[str]:
    """What is said of a file, but for notes."""
    wanted = severities or (ERROR, WARNING)
    found = [one for part in parts_of(tmp_path, document, name) for one in part.findings]
    return [str(one) for one in found if one.severity in wanted]


def ran(*words: str, **environ: str) -> tuple[int, str, str]:
    done = run_module("validate", *words, environ=environ)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def definition(config: object, name: str = "macvlan-conf", **more: Any) -> dict[str, Any]:
    text = config if isinstance(config, str) else json.dumps(config)
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, **more},
        "spec": {"config": text},
    }


# --- slips in an entry of ours -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "begins", "contains"),
    [
        ({"mode": "brdige"}, "$.mode: 'brdige' is not a mode of macvlan", "did you mean 'bridge'?"),
        ({"mode": "l2"}, "$.mode: 'l2' is not a mode of macvlan", "write one of them"),
        ({"mode": "Bridge"}, "$.mode: 'Bridge'", "did you mean 'bridge'?"),
        ({"mode": 5}, "$.mode: 5 is not a mode", "write one of them"),
        ({"delegate": "ipvlan"}, "$.mode: 'bridge' is not a mode of ipvlan", "l2, l3, l3s"),
        (
            {"delegate": {"type": "ipvlan", "mode": "l4"}},
            "$.delegate.mode: 'l4' is not a mode of ipvlan",
            "write one of them",
        ),
        ({"mtu": "1500"}, "$.mtu: '1500' is not an MTU", "without quotes"),
        ({"mtu": True}, "$.mtu: True is not an MTU", "1500"),
        ({"mtu": -1}, "$.mtu: -1", "1500"),
        ({"delegate": "bridge"}, "$.delegate: bridge makes no macvlan", "name macvlan or ipvlan"),
        ({"vlanId": 5000}, "$.vlanId: 5000 is not a VLAN id", "omit the key"),
        ({"vlanId": "3"}, "$.vlanId: '3' is not a VLAN id", "1 to 4094"),
        ({"name": ABSENT}, "$.name: there is none", "give the network a name"),
        ({"name": "a b"}, "$.name: 'a b' is not a network name", "letters"),
        ({"cniVersion": "2.0.0"}, "$.cniVersion: config is '2.0.0'", "1.1.0"),
        ({"Mode": "bridge", "mode": ABSENT}, "$.Mode: key 'Mode'", "write it 'mode'"),
        ({"fallbackMaster": True}, "$.fallbackMaster: there is only one master", "list others"),
        ({"ipam": "host-local"}, "$.ipam: expected an object", "cannot read it otherwise"),
        ({"dns": {"search": "a.b"}}, "$.dns.search: expected a list", "otherwise"),
        ({"capabilities": {"ips": "yes"}}, "$.capabilities.ips: expected true or false", ""),
        (
            {"ipam": {"type": "host-local", "ranges": [{"subnet": "10.9.0.0/24"}]}},
            "$.ipam.ranges[0]: is not a list of ranges",
            "[[{…}]]",
        ),
        ({"type": "cni-repiar"}, "$.type: 'cni-repiar' is not a plugin", "'cni-repair'?"),
        ({"type": "cni_repair"}, "$.type: 'cni_repair' is not a plugin", "'cni-repair'?"),
    ],
    ids=str,
)
def test_what_would_fail_is_an_error(
    tmp_path: Path, changes: dict[str, Any], begins: str, contains: str
) -> None:
    (only,) = said(tmp_path, plugin(**changes))
    assert only.startswith(begins)
    assert contains in only


@pytest.mark.parametrize(
    ("changes", "path", "remedy"),
    [
        ({"vlan": 3}, "$.vlan", "did you mean 'vlanId'?"),
        ({"vlan_id": 3}, "$.vlan_id", "did you mean 'vlanId'?"),
        ({"masters": ["eth0"]}, "$.masters", "did you mean 'master'?"),
        ({"parent": "eth0"}, "$.parent", "did you mean 'master'?"),
        ({"repairOnChek": True}, "$.repairOnChek", "did you mean 'repairOnCheck'?"),
        ({"repair_on_check": True}, "$.repair_on_check", "did you mean 'repairOnCheck'?"),
        ({"checkPointDirs": "/x"}, "$.checkPointDirs", "did you mean 'checkpointDir'?"),
        ({"fallbackMasters": 1}, "$.fallbackMasters", "did you mean 'fallbackMaster'?"),
        ({"runtimeconf": {}}, "$.runtimeconf", "did you mean 'runtimeConfig'?"),
        ({"macvlan_mode": "vepa"}, "$.macvlan_mode", "did you mean 'mode'?"),
        ({"delegates": "ipvlan"}, "$.delegates", "did you mean 'delegate'?"),
        ({"delegate": {"mdoe": "vepa"}}, "$.delegate.mdoe", "did you mean 'mode'?"),
        ({"delegate": "macvaln"}, "$.delegate", "did you mean 'macvlan'?"),
        ({"delegate": "brigde", "mode": ABSENT}, "$.delegate", "mean 'bridge'? Only macvlan"),
        ({"master": ""}, "$.master", "name it, or remove the key"),
        ({"master": []}, "$.master", "name it, or remove the key"),
        ({"master": ["lo", "lo"]}, "$.master", "name each once"),
        ({"master": "eth0.3", "vlanId": 3}, "$.master", "write 'eth0'"),
        ({"ipam": ABSENT}, "$.ipam", "name an IPAM plugin"),
        ({"ipam": {}}, "$.ipam", "name an IPAM plugin"),
        ({"ipam": None}, "$.ipam", "name an IPAM plugin"),
        ({"ipam": {"subnet": "10.9.0.0/24"}}, "$.ipam", 'add "type": "host-local"'),
        ({"ipam": {"type": "host-locl"}}, "$.ipam.type", "did you mean 'host-local'?"),
        ({"ipam": {"type": "host-local"}}, "$.ipam", "add one of them"),
        (
            {"ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "rangeBegin": "10.9.0.9"}},
            "$.ipam.rangeBegin",
            "did you mean 'range",
        ),
        (
            {"ipam": {**GOOD["ipam"], "routes": [{"dst": "0.0.0.0/0", "via": "10.9.0.1"}]}},
            "$.ipam.routes[0].via",
            "did you mean 'gw'?",
        ),
        ({"ipam": {"type": "dhcp", "requests": []}}, "$.ipam.requests", "did you mean 'request'?"),
        ({"subnet": "10.9.0.0/24"}, "$.subnet", "move it into ipam: ipam.subnet"),
        ({"ipam": {"type": "static"}}, "$.ipam", 'add addresses, or "capabilities": {"ips": true}'),
        ({"runDir": "/x", "checkpointDir": "/x/"}, "$.runDir", "remove the key"),
        ({"runDir": "/x/../var/lib/cni-repair/checkpoints"}, "$.runDir", "remove the key"),
    ],
    ids=str,
)  # fmt: skip
def test_what_nobody_meant_is_a_warning_with_the_remedy(
    tmp_path: Path, changes: dict[str, Any], path: str, remedy: str
) -> None:
    (only,) = said(tmp_path, plugin(**changes))
    assert only.startswith(f"warning: {path}: ")
    assert remedy in only


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"_comment": ["vlan"], "//": "masters", "#x": 1},
        {"master": ABSENT},
        {"master": None, "vlanId": None, "repairOnCheck": None},
        {"mode": ABSENT, "mtu": 1400, "mac": "02:00:00:00:00:01"},
        {"mode": "", "mtu": None},
        {"master2": "eth1", "vlanID": 3, "checkDir": "/opt/checkpoints"},
        {"delegate": {"type": "ipvlan", "mode": "l3s"}},
        {"delegate": "sriov-like", "trust": "on", "spoofchk": "off"},
        {"ipam": {"type": "whereabouts", "range": "10.9.0.0/24", "range_start": "10.9.0.9"}},
        {"ipam": {"type": "dhcp", "provide": []}},
        # Addresses that the runtime sends.
        {"ipam": {"type": "static"}, "capabilities": {"ips": True}},
        {"ipam": {"type": "static"}, "runtimeConfig": {"ips": ["10.9.0.5/24"]}},
        {"ipam": {"type": "static"}, "args": {"cni": {"ips": ["10.9.0.5/24"]}}},
        {"ipam": {"type": "host-local"}, "capabilities": {"ipRanges": True}},
        {"bcqueuelen": 10, "dns": {}, "args": {"cni": {}}},
        {"isGateway": True, "logLevel": "debug"},
    ],
    ids=str,
)
def test_what_may_well_be_meant_is_not_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert said(tmp_path, plugin(**changes)) == []


def test_all_slips_of_one_entry_are_told_at_once(tmp_path: Path) -> None:
    slips = {"vlanId": 0, "mode": "brdige", "masters": [], "repairOnCheck": "yes", "ipam": ABSENT}
    paths = [
        one.removeprefix("warning: ").partition(":")[0] for one in said(tmp_path, plugin(**slips))
    ]
    assert sorted(paths) == ["$.ipam", "$.masters", "$.mode", "$.repairOnCheck", "$.vlanId"]


def test_keys_that_are_not_known_are_named_in_a_note(tmp_path: Path) -> None:
    notes = said(tmp_path, plugin(logLevel="debug", isGateway=True), "a.conf", NOTE)
    assert "note: $: passed on to macvlan unchecked: isGateway, logLevel" in notes


def test_no_version_is_a_note(tmp_path: Path) -> None:
    notes = said(tmp_path, plugin(cniVersion=""), "a.conf", NOTE)
    assert any(one.startswith("note: $.cniVersion: there is none: read as 0.1.0") for one in notes)


# --- this machine --------------------------------------------------------------------------------


def test_what_does_not_exist_on_this_machine_is_a_note(tmp_path: Path) -> None:
    notes = said(tmp_path, plugin(master=["nosuch0", "nosuch1"]), "a.conf", NOTE)
    assert [one.partition(" on this machine")[0] for one in notes] == [
        "note: $.master: no link nosuch0 or nosuch1",
        "note: $.delegate: no plugin macvlan",
        "note: $.ipam.type: no plugin host-local",
    ]


def test_alternative_name_of_more_than_15_bytes(tmp_path: Path) -> None:
    name = "an-altname-that-no-link-has"
    notes = said(tmp_path, plugin(master=name), "a.conf", NOTE)
    assert f"no link {name} on this machine" in notes[0]


def test_what_exists_is_not_told(tmp_path: Path) -> None:
    for name in ("macvlan", "host-local"):
        (tmp_path / name).touch(0o755)
    machine = Machine(("/nonexistent", str(tmp_path)))
    (part,) = parts_of(tmp_path, plugin(master=["nosuch0", "lo"]), machine=machine)
    assert part.findings == ()


def test_the_callers_cni_path_is_looked_at_first(tmp_path: Path) -> None:
    shutil.copy("/bin/true", tmp_path / "my-ipam")
    path = tmp_path / "a.conf"
    path.write_text(json.dumps(plugin(ipam={"type": "my-ipam"})))
    assert "my-ipam" in ran(str(path))[1]
    assert "my-ipam" not in ran(str(path), CNI_PATH=f"/nosuch:{tmp_path}")[1]


@pytest.mark.parametrize(
    ("ipam", "place", "key", "meant"),
    [
        (
            {"type": "host-local", "ranges": [[{"subnets": "x"}]]},
            "ranges[0][0]",
            "subnets",
            "subnet",
        ),
        ({"type": "static", "addresses": [{"adress": "x"}]}, "addresses[0]", "adress", "address"),
        ({**GOOD["ipam"], "routes": [{"destination": "x"}]}, "routes[0]", "destination", "dst"),
    ],
    ids=str,
)
def test_what_is_there_under_another_key(
    tmp_path: Path, ipam: dict[str, Any], place: str, key: str, meant: str
) -> None:
    slip, missing = said(tmp_path, plugin(ipam=ipam))
    assert slip.startswith(f"warning: $.ipam.{place}.{key}: ")
    assert slip.endswith(f"did you mean '{meant}'?")
    assert missing.startswith(f"$.ipam.{place}: ")


@pytest.mark.parametrize(
    ("ipam", "slips"),
    [
        ({"TYPE": "host-local", "Subnet": "10.9.0.0/24"}, {"TYPE": "type", "Subnet": "subnet"}),
        (
            {"type": "host-local", "ranges": [[{"SUBNET": "10.9.0.0/24"}]]},
            {"ranges[0][0].SUBNET": "subnet"},
        ),
        ({"type": "static", "Addresses": [{"address": "10.9.0.5/24"}]}, {"Addresses": "addresses"}),
        ({**GOOD["ipam"], "routes": [{"DST": "0.0.0.0/0"}]}, {"routes[0].DST": "dst"}),
    ],
    ids=str,
)
def test_key_in_another_case_is_a_slip_and_no_error(
    tmp_path: Path, ipam: dict[str, Any], slips: dict[str, str]
) -> None:
    """IPAM plugins, in Go, read it."""
    told = said(tmp_path, plugin(ipam=ipam))
    assert [one.partition(": ")[2].partition(": ")[0] for one in told] == [
        f"$.ipam.{place}" for place in slips
    ]
    assert all(f"did you mean '{right}'" in one for one, right in zip(told, slips.values()))


def test_type_in_another_case_is_ours(tmp_path: Path) -> None:
    (told,) = said(tmp_path, plugin(type=ABSENT, TYPE="cni-repair"))
    assert told.startswith("$.TYPE: key 'TYPE'")
    assert "write it 'type'" in told


# --- lists, and whoever calls us -----------------------------------------------------------------


LIST: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {key: GOOD[key] for key in ("type", "master", "ipam")},
        {"type": "tuning", "capabilities": {"mac": True}},
    ],
}


@pytest.mark.parametrize(
    ("changes", "only"),
    [
        (
            {"disableChek": True},
            "warning: $.disableChek: not a key of a list: nobody reads it: did you mean"
            " 'disableCheck'?",
        ),
        (
            {"master": "eth0"},
            "warning: $.master: not a key of a list: nobody reads it: move it into the plugin's"
            " entry",
        ),
        ({"plugins": {}}, "$.plugins: expected a list: write [ … ] around it"),
        (
            {"plugins": LIST["plugins"] * 2},
            "$.plugins[2]: one more entry of cni-repair, whose ADD will fail: keep one",
        ),
        (
            {"plugins": [{"type": "tuning"}]},
            "$: no plugin of type 'cni-repair' in it: write cni-repair for its type, if its pods"
            " are to be repaired",
        ),
    ],
    ids=str,
)
def test_list_of_plugins(tmp_path: Path, changes: dict[str, Any], only: str) -> None:
    assert said(tmp_path, LIST | changes, "10.conflist") == [only]


def test_good_list(tmp_path: Path) -> None:
    more = {"cniVersions": ["1.0.0", "1.1.0"], "disableGC": True, "_comment": "x"}
    more["args"] = {"podman_labels": {"isolate": "true"}}
    assert said(tmp_path, LIST | more, "10.conflist") == []


@pytest.mark.parametrize(
    ("document", "name"), [(LIST, "10.conf"), (LIST, "10.json"), (GOOD, "10.conflist")], ids=str
)
def test_ending_that_runtimes_read_otherwise(tmp_path: Path, document: object, name: str) -> None:
    (only,) = said(tmp_path, document, name)
    assert only.startswith("warning: $: ")
    assert "name the file .conf" in only


def test_delegates_of_multus_and_flannel(tmp_path: Path) -> None:
    wrong = {**GOOD, "mode": "brdige"}
    multus = {
        "cniVersion": "0.3.1", "name": "multus", "type": "multus", "kubeconfig": "/k",
        "delegates": [{"type": "bridge"}, wrong, {**LIST, "plugins": [wrong]}],
    }  # fmt: skip
    assert [one.partition(":")[0] for one in said(tmp_path, multus)] == [
        "$.delegates[1].mode",
        "$.delegates[2].plugins[0].mode",
    ]
    flannel = {"cniVersion": "1.0.0", "name": "f", "type": "flannel", "delegate": wrong}
    assert [one.partition(":")[0] for one in said(tmp_path, flannel)] == ["$.delegate.mode"]


# --- NetworkAttachmentDefinitions ----------------------------------------------------------------

QUOTED = """\
apiVersion: "k8s.cni.cncf.io/v1"
kind: NetworkAttachmentDefinition
metadata:
  name: macvlan-conf
  creationTimestamp: 2024-01-01T00:00:00Z
spec:
  config: '{
      "cniVersion": "0.3.1",
      "type": "cni-repair",
      "master": "lo",
      "mode": "%s",
      "ipam": { "type": "host-local", "subnet": "192.0.2.0/24" }
    }'
"""
BLOCK = """\
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: chained, namespace: shop}
spec:
  config: |-
    {
      "cniVersion": "0.3.1",
      "plugins": [
        {"type": "cni-repair", "master": "lo", "mode": "%s", "ipam": {"type": "dhcp"}},
        {"type": "tuning", "capabilities": {"mac": true}}
      ]
    }
"""


@pytest.mark.parametrize("name", ["nad.yaml", "nad.YML", "nad.txt"])
def test_definitions_of_a_yaml_file(tmp_path: Path, name: str) -> None:
    """In quotes or as a block; without a name of its own a network has the object's."""
    text = f"---\n{QUOTED % 'bridge'}---\n{BLOCK % 'vepa'}---\n"
    parts = parts_of(tmp_path, text, name)
    assert [(part.number, part.title, part.counts(ERROR)) for part in parts] == [
        (1, "NetworkAttachmentDefinition macvlan-conf", 0),
        (2, "NetworkAttachmentDefinition shop/chained", 0),
    ]
    assert said(tmp_path, text, name) == []
    both = f"{QUOTED % 'brdige'}---\n{BLOCK % 'l2'}"
    assert [one.partition(": '")[0] for one in said(tmp_path, both, name)] == [
        "$.spec.config.mode",
        "$.spec.config.plugins[0].mode",
    ]


def test_definitions_that_share_their_parts(tmp_path: Path) -> None:
    """As kubectl reads them: anchors, aliases, merge keys."""
    text = f"""\
kind: List
apiVersion: v1
common: &common {{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition}}
items:
- <<: *common
  metadata: {{name: a}}
  spec: &spec
    config: '{json.dumps(plugin(mode="x"))}'
- {{<<: *common, metadata: {{name: b}}, spec: *spec}}
"""
    assert [one.partition(".mode")[0] for one in said(tmp_path, text, "nads.yaml")] == [
        "$.items[0].spec.config",
        "$.items[1].spec.config",
    ]


def test_definition_in_json_and_lists_of_them(tmp_path: Path) -> None:
    wrong = definition(plugin(mode="brdige"), name="b")
    assert said(tmp_path, definition(GOOD), "nad.json") == []
    of_kubectl = {"apiVersion": "v1", "kind": "List", "items": [definition(GOOD, name="a"), wrong]}
    (only,) = said(tmp_path, of_kubectl, "nads.json")
    assert only.startswith("$.items[1].spec.config.mode: ")
    template = {"kind": "Template", "apiVersion": "template.openshift.io/v1", "objects": [wrong]}
    (only,) = said(tmp_path, template, "template.json")
    assert only.startswith("$.objects[0].spec.config.mode: ")


@pytest.mark.parametrize("spec", [None, {}, {"config": ""}, {"config": None}, ABSENT], ids=str)
def test_definition_whose_network_is_a_file_on_the_node(tmp_path: Path, spec: Any) -> None:
    document = {**definition("", name="pods"), "spec": spec}
    if spec is ABSENT:
        del document["spec"]
    (part,) = parts_of(tmp_path, document, "nad.json")
    (only,) = map(str, part.findings)
    assert only.startswith("note: $.spec.config: there is none: Multus reads the node's file")
    assert "'pods'" in only


@pytest.mark.parametrize(
    ("spec", "begins", "contains"),
    [
        ({"config": GOOD}, "$.spec.config: is not a text", "config: |"),
        ({"config": '{"type": "cni-repair",}'}, "$.spec.config: not JSON: ", "line 1 column"),
        ({"config": "type: cni-repair"}, "$.spec.config: not JSON: ", "Expecting value"),
        ({"config": '{"type":"cni-repair","mtu":1,"mtu":2}'}, "$.spec.config: not JSON", "twice"),
        ({"confg": "{}"}, "$.spec.confg: not a key of spec", "write config"),
        (["config"], "$.spec: is not an object", "write config below it"),
    ],
    ids=str,
)
def test_definition_that_cannot_be_read(
    tmp_path: Path, spec: object, begins: str, contains: str
) -> None:
    (only,) = said(tmp_path, {**definition(""), "spec": spec}, "nad.json")
    assert only.startswith(begins)
    assert contains in only


def test_definitions_of_others_are_only_told_beside_ours(tmp_path: Path) -> None:
    other = definition({"cniVersion": "1.0.0", "type": "macvlan"}, name="other")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    listed = {"kind": "List", "apiVersion": "v1", "items": [other, pod, definition(GOOD)]}
    assert said(tmp_path, listed, "all.json") == []
    notes = [one for one in said(tmp_path, listed, "all.json", NOTE) if "machine" not in one]
    assert [one.split(": ")[1:3] for one in notes] == [
        ["$.items[0]", "no plugin of type 'cni-repair' in it"],
        ["$.items[1]", "nothing that cni-repair reads"],
    ]
    (only,) = said(tmp_path, other, "other.json")
    assert only.startswith("$: no plugin of type 'cni-repair' in it: write cni-repair for its type")
    (only,) = said(tmp_path, pod, "pod.json")
    assert only == "$: nothing that cni-repair reads: Pod"


def test_kind_that_is_misspelt(tmp_path: Path) -> None:
    document = {**definition(GOOD), "kind": "NetworkAttachmentDefintion"}
    (only,) = said(tmp_path, document, "nad.json")
    assert only.endswith("is not a kind: write NetworkAttachmentDefinition")


@pytest.mark.parametrize(
    ("changes", "only"),
    [
        ({"apiVersion": "v1"}, "$.apiVersion: 'v1' has no kind"),
        ({"apiVersion": "k8s.cni.cncf.io/v1beta1"}, "$.apiVersion: 'k8s.cni.cncf.io/v1beta1' has"),
        ({"apiVersion": None}, "$.apiVersion: there is none: write k8s.cni.cncf.io/v1"),
        ({"spec": {}, "config": "{}"}, "$.config: not a key of the object itself"),
    ],
    ids=str,
)
def test_object_that_kubernetes_reads_otherwise(
    tmp_path: Path, changes: dict[str, Any], only: str
) -> None:
    (found,) = said(tmp_path, {**definition(GOOD), **changes}, "nad.json", ERROR, WARNING, NOTE)[:1]
    assert found.startswith(only)


def test_list_of_one_kind(tmp_path: Path) -> None:
    """Its entries need not name kind and version."""
    wrong = {"metadata": {"name": "a"}, "spec": {"config": json.dumps(plugin(mode="x"))}}
    kind = "NetworkAttachmentDefinitionList"
    document = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": kind, "items": [wrong]}
    (only,) = said(tmp_path, document, "nads.json")
    assert only.startswith("$.items[0].spec.config.mode: 'x' is not a mode")


def test_networks_of_openshifts_operator(tmp_path: Path) -> None:
    document = {
        "apiVersion": "operator.openshift.io/v1",
        "kind": "Network",
        "metadata": {"name": "cluster"},
        "spec": {
            "additionalNetworks": [
                {"name": "simple", "type": "SimpleMacvlan", "simpleMacvlanConfig": {}},
                {"name": "raw", "type": "Raw", "rawCNIConfig": json.dumps(plugin(name=ABSENT))},
                {"name": "bad", "type": "Raw", "rawCNIConfig": json.dumps(plugin(mode="x"))},
            ]
        },
    }
    (only,) = said(tmp_path, document, "network.json")
    assert only.startswith("$.spec.additionalNetworks[2].rawCNIConfig.mode: 'x' is not a mode")


def test_configurations_in_a_config_map(tmp_path: Path) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "data": {"10.conf": json.dumps(plugin(mode="x")), "readme": "cni-repair", "a": "{}"},
    }
    (only,) = said(tmp_path, document, "map.json")
    assert only.startswith("$.data['10.conf'].mode: 'x' is not a mode")


# --- other files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "begins"),
    [
        ("a: 1\n", "x.yaml", "$: neither a network configuration, nor"),
        ("- a\n", "x.yaml", "$: neither a network configuration, nor"),
        ("{}", "x.json", "$: neither a network configuration, nor"),
        ("type: cni-repair\nname: a\n", "x.yaml", "$: a network configuration in YAML"),
        ("type: cni-repair\nname: a\n", "10.conf", "$: a network configuration in YAML"),
        ("plugins: [type: cni-repair]\n", "10.conflist", "$: a network configuration in YAML"),
        (f"\ufeff{json.dumps(GOOD)}", "10.conf", "cannot decode it: it begins with a byte order"),
        ("[]", "x.json", "cannot decode it: it is not a JSON object"),
        ("nonsense", "x.conf", "cannot decode it: "),
        ("", "x.conf", "cannot decode it: it is empty"),
        ("", "x.yaml", "it is empty"),
        ("# nothing\n---\n---\n", "x.yaml", "it is empty"),
        ("kind: List\nitems: []\n", "x.yaml", "$: nothing that cni-repair reads: List"),
        (
            "kind: ConfigMap\ndata: {a: b}\n",
            "x.yaml",
            "$: nothing that cni-repair reads: ConfigMap",
        ),
        ("version: &x 1\n", "plan.yaml", "line 1: aliases (&, *) are not read"),
        ("a: *x\n", "x.yaml", "line 1: nothing above is named &x"),
        ("\x00", "x.yaml", "line 1: the control character"),
        ("version: 2\n", "plan.yaml", "$.version: 2 is no version"),
        ("require:\n  gateways: all\n", "plan.yaml", "$.version: missing"),
        ("version: 1\n---\nkind: Pod\n", "plan.yaml", "line 2: a second document begins"),
    ],
)
def test_file_of_another_kind(tmp_path: Path, text: str, name: str, begins: str) -> None:
    assert said(tmp_path, text, name)[0].startswith(begins)


@pytest.mark.parametrize("path", configurations(), ids=lambda path: path.name)
def test_examples_have_neither_errors_nor_warnings(path: Path) -> None:
    parts = check_file(str(path), NOWHERE)
    assert [str(one) for part in parts for one in part.findings if one.severity != NOTE] == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just("cni-repair"),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*GOOD, "kind", "spec", "config", "items", "plugins", "delegates", "delegate",
                 "metadata", "data", "additionalNetworks", "vlanId", "ranges", "routes"]
            ),
            inner,
            max_size=4,
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_document_is_answered(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    for kind in ("NetworkAttachmentDefinition", "List", "Network", "ConfigMap", None):
        document = {**value, "kind": kind} if isinstance(value, dict) and kind else value
        for entry in (document, definition(json.dumps(document, allow_nan=False))):
            for part in parts_of(tmp_path_factory.getbasetemp(), entry, "any.json"):
                assert part.kind
                assert all(finding.message for finding in part.findings)


def test_configuration_without_a_type_is_no_plan(tmp_path: Path) -> None:
    document = {"name": "pods", "masters": ["eth0"], "ipam": GOOD["ipam"]}
    (only,) = said(tmp_path, document)
    assert only.startswith("$: no plugin of type 'cni-repair' in it: write cni-repair for its type")


def test_template_is_told_to_be_one(tmp_path: Path) -> None:
    (only,) = said(tmp_path, "{{- if .Values.on }}\nkind: Pod\n{{- end }}\n", "nad.yaml")
    assert only.endswith("(a template? Validate what is made of it: helm template …)")


# --- the command ---------------------------------------------------------------------------------


def test_warnings_are_told_and_are_no_failure_but_with_strict(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text(json.dumps(plugin(vlan=3)))
    status, out, err = ran(str(path))
    assert status == 0
    assert err.startswith(f"{path}: warning: $.vlan: ")
    assert out.startswith(f"{path}: network configuration, with 1 warning\n")
    assert "valid" not in out.replace(str(path), "")
    assert ran("--strict", str(path))[0] == 1
    path.write_text(json.dumps(GOOD))
    assert ran("--strict", str(path))[0] == 0


def test_each_line_names_file_and_document(tmp_path: Path) -> None:
    path = tmp_path / "nads.yaml"
    path.write_text(f"{QUOTED % 'brdige'}---\n{BLOCK % 'vepa'}")
    status, out, err = ran(str(path))
    assert status == 1
    assert err == (
        f"{path}: document 1: $.spec.config.mode: 'brdige' is not a mode of macvlan (private,"
        " vepa, bridge, passthru): did you mean 'bridge'?\n"
    )
    assert f"{path}: document 2: a valid NetworkAttachmentDefinition shop/chained\n" in out


def test_absent_file_is_wrong_usage_and_the_others_are_read(tmp_path: Path) -> None:
    good, bad, absent = tmp_path / "a.conf", tmp_path / "b.conf", tmp_path / "none"
    good.write_text(json.dumps(GOOD))
    bad.write_text("{")
    status, out, err = ran(str(absent), str(good), str(bad))
    assert status == 2
    assert f"{absent}: cannot be read: No such file or directory: name a file" in err
    assert f"{bad}: cannot decode it" in err
    assert f"{good}: a valid network configuration\n" in out
    assert ran(str(good / "x"))[0] == 2
    assert ran(str(tmp_path))[0] == 1  # it exists, and is no file


def test_json_is_as_published(tmp_path: Path) -> None:
    files = {"a.conf": GOOD, "b.conf": plugin(vlan=3, mode="x"), "c.json": definition(GOOD)}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    paths = [str(tmp_path / name) for name in (*files, "none")]
    status, out, err = ran("-o", "json", *paths)
    assert (status, err) == (2, "")
    document = json.loads(out)
    assert mistakes_in(document, "validate.json") == []
    assert [one["file"] for one in document["files"]] == paths
    found = [[part["valid"] for part in one["parts"]] for one in document["files"]]
    assert found == [[True], [False], [True], [False]]
    assert (document["summary"]["errors"], document["summary"]["warnings"]) == (2, 1)
    (part,) = document["files"][1]["parts"]
    assert {(one["severity"], one["path"]) for one in part["problems"]} >= {
        ("warning", "$.vlan"),
        ("error", "$.mode"),
    }


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("vlan", ("vlanId", "name"), "vlanId"),
        ("VLAN-ID", ("vlanId",), "vlanId"),
        ("logLevel", ("vlanId", "delegate", "mode"), ""),
        ("", ("mode",), ""),
        ("xyz", (), ""),
    ],
)
def test_near(word: str, known: tuple[str, ...], meant: str) -> None:
    assert near(word, known) == meant


def test_names_in_a_file_and_of_it_do_not_steer_the_terminal(tmp_path: Path) -> None:
    keys = {"mas\x1b[31mter": "lo", "a\n10-pods.conf: a valid network configuration": 1}
    files = [tmp_path / name for name in ("a\x1b]0;x\x07.conf", "b\n.conf", "c\x9b1m.yaml")]
    files[0].write_text(json.dumps(GOOD | keys | {"ipam": {"type": "host-local", "\x1b": 1}}))
    files[1].write_text('{"\\u001ba": 1, "\\u001ba": 2}')
    files[2].write_text('version: 1\n"\\e[2J": 2\nmasters: "\\e[3m"\n')
    status, out, err = ran(*map(str, files))
    assert status == 1
    lines = (out + err).splitlines()
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith(f"{tmp_path}/") for line in lines)


def test_two_networks_of_one_name_in_a_directory(tmp_path: Path) -> None:
    """Of another directory it is another node's, or an older one."""
    conf = {"cniVersion": "1.0.0", "name": "pods", "type": "cni-repair", "master": "eth0"}
    (tmp_path / "old").mkdir()
    files = [tmp_path / name for name in ("20-b.conf", "10-a.conf", "old/10-a.conf")]
    for file in files:
        file.write_text(json.dumps(conf))
    done = run_module("validate", *map(str, files))
    noted = [line for line in done.stdout.decode().splitlines() if "has that name, too" in line]
    assert noted == [
        f"{files[0]}: note: $.name: 10-a.conf has that name, too: rename or remove one of them:"
        " who looks for a network by its name takes one"
    ]
    assert done.returncode == 0
