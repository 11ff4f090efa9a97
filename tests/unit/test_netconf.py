"""The network configuration: what is ours, what the delegate gets, what is refused and how."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.errors import CONFIG, DECODE, INCOMPATIBLE_VERSION, IO, CniError
from cni_repair.base.frozen import replace
from cni_repair.cni import netconf
from cni_repair.cni.conffile import plugins_in, read_conf
from tests.unit.samples import NETCONF
from tests.unit.schemas import schema_of, validator_of
from tests.unit.strategies import json_objects

MINIMAL: dict[str, Any] = {"cniVersion": "1.0.0", "name": "podnet", "type": "cni-repair"}


def parsed(**changes: Any) -> netconf.NetConf:
    return netconf.parse(json.dumps({**MINIMAL, **changes}).encode())


def ack(**changes: Any) -> CniError:
    with pytest.raises(CniError) as caught:
        parsed(**changes)
    return caught.value


def test_defaults() -> None:
    conf = parsed()
    assert conf.masters == ()
    assert conf.vlan_id is None
    assert conf.delegate == "macvlan"
    assert conf.checkpoint_dir == "/var/lib/cni-repair/checkpoints"
    assert conf.run_dir == "/run/cni-repair"
    assert conf.repair_on_check is False
    assert conf.master_timeout == 10.0
    assert conf.ipam_type == ""


@pytest.mark.parametrize("version", netconf.VERSIONS)
def test_versions(version: str) -> None:
    assert parsed(cniVersion=version).cni_version == version


# --- ours ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "masters"),
    [
        ({"master": "eth0"}, ("eth0",)),
        ({"master": ""}, ()),
        ({"master": []}, ()),
        ({"master": ["bond4", "eth0"]}, ("bond4", "eth0")),
        ({"master": "bond4", "master2": "eth0"}, ("bond4", "eth0")),
        ({"master": ["bond4"], "master2": "eth0"}, ("bond4", "eth0")),
        ({"master2": "eth0"}, ("eth0",)),
        ({"master": "eth0", "master2": ""}, ("eth0",)),
    ],
    ids=str,
)
def test_masters(keys: dict[str, Any], masters: tuple[str, ...]) -> None:
    conf = parsed(**keys)
    assert conf.masters == masters
    assert "master2" not in conf.rest


def test_the_predecessors_configuration() -> None:
    conf = parsed(master="bond4", master2="eth0", vlanID=3, checkDir="/opt/cni/checkpoints/")
    assert conf.masters == ("bond4", "eth0")
    assert conf.vlan_id == 3
    assert conf.checkpoint_dir == "/opt/cni/checkpoints"
    assert conf.rest == {**MINIMAL, "type": "macvlan"}


@pytest.mark.parametrize(
    ("vlan_id", "name"), [(None, "bond4"), (3, "bond4.3"), (4094, "bond4.4094")]
)
def test_master_over_an_uplink(vlan_id: int | None, name: str) -> None:
    conf = parsed(master="bond4", vlanId=vlan_id)
    assert conf.master_over("bond4") == name


# --- the delegate's -----------------------------------------------------------------------------


def test_delegate_gets_its_own_keys_unchanged_and_none_of_ours() -> None:
    theirs = {
        "mode": "bridge", "mtu": 1400, "ipam": {"type": "host-local", "ranges": [[{"a": None}]]},
        "runtimeConfig": {"mac": "00:11:22:33:44:55"}, "prevResult": {"ips": []}, "odd": [1.5, "x"],
    }  # fmt: skip
    conf = parsed(
        master=["eth0"], vlanId=3, checkpointDir="/c", runDir="/r", repairOnCheck=True,
        masterTimeout=5, statusGrace=5, **theirs,
    )  # fmt: skip
    assert conf.for_delegate("eth0.3") == {
        **MINIMAL, "type": "macvlan", "master": "eth0.3", **theirs,
    }  # fmt: skip
    assert conf.ipam_type == "host-local"


def test_master_is_left_to_the_delegate_where_nobody_names_one() -> None:
    assert "master" not in parsed().for_delegate(None)


@given(json_objects)
def test_whatever_else_stands_there_reaches_the_delegate(more: dict[str, Any]) -> None:
    ours = {key.casefold() for key in (*netconf._OURS, *netconf._THEIRS, *netconf._SYNONYMS)}
    ours.add("plugins")  # that would be a list of plugins, and is refused
    theirs = {key: value for key, value in more.items() if key.casefold() not in ours}
    conf = netconf.check({**theirs, **MINIMAL})
    assert conf.for_delegate("eth0") == {**theirs, **MINIMAL, "type": "macvlan", "master": "eth0"}
    assert conf.document == {**theirs, **MINIMAL}


@pytest.mark.parametrize(
    ("delegate", "kind", "more"),
    [
        ("ipvlan", "ipvlan", {}),
        ({"type": "ipvlan"}, "ipvlan", {}),
        ({"mode": "private"}, "macvlan", {"mode": "private"}),
        ({"type": "ipvlan", "mode": "l2", "x": 1}, "ipvlan", {"mode": "l2", "x": 1}),
        ({}, "macvlan", {}),
    ],
    ids=str,
)
def test_delegate_forms(delegate: Any, kind: str, more: dict[str, Any]) -> None:
    conf = parsed(delegate=delegate, mode="bridge")
    assert conf.delegate == kind
    assert conf.rest == {**MINIMAL, "mode": "bridge", "type": kind, **more}


def test_delegate_cannot_speak_another_version_than_we_do() -> None:
    """We check its Result by the version that we asked for."""
    try:
        conf = parsed(delegate={"type": "macvlan", "cniVersion": "0.3.1"})
    except CniError as error:
        assert error.code == CONFIG
    else:
        assert conf.rest["cniVersion"] == conf.cni_version


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("Master", "master"),
        ("MASTER", "master"),
        ("ma\u017fter", "master"),
        ("Master2", "master2"),
        ("vlanid", "vlanId"),
        ("VLANID", "vlanId"),
        ("Delegate", "delegate"),
        ("checkpointdir", "checkpointDir"),
        ("rundir", "runDir"),
        ("RepairOnCheck", "repairOnCheck"),
        ("mastertimeout", "masterTimeout"),
        ("Mode", "mode"),
        ("MTU", "mtu"),
        ("IPAM", "ipam"),
        ("lin\u212aInContainer", "linkInContainer"),
        ("checkdir", "checkDir"),
        ("CheckDir", "checkDir"),
    ],
    ids=ascii,
)
def test_wrong_spelling_is_refused_with_the_right_one(written: str, right: str) -> None:
    """Go folds case: the delegate would take what we pass over."""
    error = ack(**{written: "eth0"})
    assert error.code == CONFIG
    assert repr(written) in error.details
    assert repr(right) in error.details


@pytest.mark.parametrize("key", ["Mode", "vlanid", "Type"])
def test_wrong_spelling_in_the_delegates_object_is_refused(key: str) -> None:
    error = ack(delegate={key: "x"})
    assert error.code == CONFIG
    assert repr(key) in error.details


@pytest.mark.parametrize(
    "both", [("vlanId", "vlanID"), ("checkpointDir", "checkDir")], ids=lambda both: both[1]
)
def test_key_beside_its_synonym_is_refused(both: tuple[str, str]) -> None:
    first, second = both
    with pytest.raises(CniError, match="keep one"):
        netconf.check({**MINIMAL, first: 3, second: 4})


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"type": 3}, "type: expected a text"),
        ({"ipam": "host-local"}, "ipam: expected an object"),
        ({"ipam": {"TYPE": 3}}, "ipam.type: expected a text"),
        ({"capabilities": {"mac": 1}}, "capabilities.mac: expected true or false"),
        ({"dns": {"Search": "a.b"}}, "dns.search: expected a list"),
        ({"dns": {"options": ["a", 1]}}, "dns.options[1]: expected a text"),
        ({"prevResult": []}, "prevResult: expected an object"),
    ],
    ids=str,
)
def test_what_no_plugin_in_go_decodes_is_refused_for_new_pods(
    changes: dict[str, Any], where: str
) -> None:
    error = ack(**changes)
    assert error.code == CONFIG
    assert error.details.startswith(where)
    netconf.check({**MINIMAL, **changes}, tolerant=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"ipam": None, "dns": None, "capabilities": None, "prevResult": None, "type": None},
        {"ipam": {"type": None, "odd": 1}, "dns": {"search": [None]}, "capabilities": {"a": None}},
        {"mtu": "x", "args": 1, "runtimeConfig": []},  # the wrapped plugin's own affair
    ],
    ids=str,
)
def test_what_go_decodes_is_taken(changes: dict[str, Any]) -> None:
    parsed(**changes)


BAD: list[tuple[str, Any, str]] = [
    ("master", 5, "list of"),
    ("master", 0, "list of"),
    ("master", False, "list of"),
    ("master", {}, "list of"),
    ("master", {"name": "eth0"}, "list of"),
    ("master", ["eth0", 5], "list of"),
    ("master", ["eth0", None], "list of"),
    ("master", [["eth0"]], "list of"),
    ("master", [""], "list of"),
    ("master", "../eth0", "list of"),
    ("master", "eth0\n", "list of"),
    ("master", "x" * 128, "list of"),
    ("master2", 5, "list of"),
    ("master2", "a/b", "list of"),
    ("vlanId", 0, "1 to 4094"),
    ("vlanId", 4095, "1 to 4094"),
    ("vlanId", -1, "1 to 4094"),
    ("vlanId", "3", "1 to 4094"),
    ("vlanId", 3.0, "1 to 4094"),
    ("vlanId", True, "1 to 4094"),
    ("vlanId", [3], "1 to 4094"),
    ("delegate", "../../evil", "not a path"),
    ("delegate", "/bin/sh", "not a path"),
    ("delegate", "", "not a path"),
    ("delegate", "a\n", "not a path"),
    ("delegate", 5, "not a path"),
    ("delegate", ["macvlan"], "not a path"),
    ("delegate", {"type": "../x"}, "not a path"),
    ("delegate", {"type": None}, "not a path"),
    ("delegate", "cni-repair", "wrapped plugin"),
    ("delegate", {"type": "cni-repair"}, "wrapped plugin"),
    ("checkpointDir", "relative", "absolute path"),
    ("checkpointDir", "", "absolute path"),
    ("checkpointDir", "/a\0b", "absolute path"),
    ("checkpointDir", 5, "absolute path"),
    ("runDir", "run", "absolute path"),
    ("runDir", ["/run"], "absolute path"),
    ("repairOnCheck", "true", "true or false"),
    ("repairOnCheck", 1, "true or false"),
    ("masterTimeout", -1, "0 to 3600"),
    ("masterTimeout", 3601, "0 to 3600"),
    ("masterTimeout", "5", "0 to 3600"),
    ("masterTimeout", True, "0 to 3600"),
    ("statusGrace", -1, "0 to 3600"),
    ("statusGrace", 3601, "0 to 3600"),
    ("statusGrace", "60", "0 to 3600"),
    ("statusGrace", False, "0 to 3600"),
    ("linkInContainer", True, "cannot be repaired from the node"),
    ("name", "", "network name"),
    ("name", "../x", "network name"),
    ("name", "a b", "network name"),
    ("name", 5, "network name"),
    ("name", None, "network name"),
]


@pytest.mark.parametrize(
    ("key", "value", "remedy"), BAD, ids=[f"{key}-{ascii(value)[:20]}" for key, value, _ in BAD]
)
def test_bad_value_names_its_key_and_the_remedy(key: str, value: Any, remedy: str) -> None:
    error = ack(**{key: value})
    assert error.code == CONFIG
    assert key in error.details
    assert remedy in error.details


# --- the schema, for `validate` and for editors -------------------------------------------------

SCHEMA = schema_of("cni_repair.cni", "netconf.json")
# What the schema says otherwise, or not at all: in JSON, 3.0 is an integer; linkInContainer is the
# delegate's key.
ONLY_REFUSED_BY_THE_READER = [
    ("vlanId", 3.0), ("checkpointDir", "/a\0b"), ("linkInContainer", True),
]  # fmt: skip


def test_schema_has_all_our_keys() -> None:
    of_the_spec = {"cniVersion", "name", "type", "ipam"}
    assert SCHEMA["properties"].keys() - of_the_spec == {*netconf._OURS, *netconf._SYNONYMS}


@pytest.mark.parametrize("document", [MINIMAL, NETCONF, {**NETCONF, **MINIMAL}])
def test_good_configuration_fits_the_schema(document: dict[str, Any]) -> None:
    validator_of(SCHEMA).validate(document)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, value, _ in BAD], ids=lambda part: ascii(part)[:20]
)
def test_bad_value_is_refused_by_the_schema_too(key: str, value: Any) -> None:
    fits = validator_of(SCHEMA).is_valid({**MINIMAL, key: value})
    # (3 == 3.0, but not in JSON's text.)
    assert fits == ((key, repr(value)) in [(k, repr(v)) for k, v in ONLY_REFUSED_BY_THE_READER])


def test_name_is_needed() -> None:
    document = {key: value for key, value in MINIMAL.items() if key != "name"}
    with pytest.raises(CniError, match="name"):
        netconf.check(document)


@pytest.mark.parametrize("name", ["x" * 16, "x" * 127, "\u00e4" * 63, "enp65s0f0np0"])
def test_master_may_be_an_altname(name: str) -> None:
    """Whether the name of its VLAN fits, the link's first name decides."""
    assert parsed(master=name, vlanId=4094).masters == (name,)


WRONG_FOR_NEW = [
    ("master", 5), ("master", ["eth0", None]), ("master2", "a/b"), ("vlanId", 5000),
    ("vlanId", "3"), ("repairOnCheck", "yes"), ("masterTimeout", -1), ("masterTimeout", True),
    ("statusGrace", "1m"),
    ("followRenamedMaster", 1), ("fallbackMaster", True),
    ("linkInContainer", True), ("delegate", {"Mode": "bridge"}), ("delegate", {"name": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG_FOR_NEW, ids=str)
def test_what_is_there_does_not_depend_on_it(key: str, value: Any) -> None:
    """Of an edited configuration DEL, GC and CHECK read what they need: who, and where."""
    document = {**MINIMAL, "checkpointDir": "/c", "ipam": {"type": "host-local"}, key: value}
    with pytest.raises(CniError):
        netconf.check(document)
    conf = netconf.check(document, tolerant=True)
    assert (conf.name, conf.delegate, conf.checkpoint_dir) == ("podnet", "macvlan", "/c")
    assert conf.ipam_type == "host-local"
    assert (conf.masters, conf.vlan_id, conf.master_timeout) == ((), None, 10.0)
    assert not (conf.repair_on_check or conf.follow_renamed_master or conf.fallback_master)


@pytest.mark.parametrize(
    "document",
    [
        {"NAME": "podnet", "CNIVersion": "1.0.0", "Type": "cni-repair", "IPAM": {"TYPE": "x"},
         "MASTER": "eth0", "VLANID": 3, "Delegate": {"TYPE": "ipvlan"}, "CheckDir": "/c"},
        {**MINIMAL, "ipam": {"t\u0079pe": "x"}, "ma\u017fter": "eth0", "vlanid": 3,
         "delegate": {"Type": "ipvlan"}, "CheckpointDir": "/c"},
    ],
    ids=["all", "some"],
)  # fmt: skip
def test_what_is_there_is_read_in_any_case(document: dict[str, Any]) -> None:
    """As the delegate reads what somebody has edited; else its address would leak at DEL."""
    conf = netconf.check(document, tolerant=True)
    assert (conf.name, conf.cni_version, conf.delegate) == ("podnet", "1.0.0", "ipvlan")
    assert (conf.masters, conf.vlan_id, conf.checkpoint_dir) == (("eth0",), 3, "/c")
    assert conf.ipam_type == "x"
    assert conf.for_delegate("eth0.3")["master"] == "eth0.3"
    assert len({key.lower() for key in conf.rest}) == len(conf.rest)


@pytest.mark.parametrize("key", ["name", "delegate", "checkpointDir", "runDir"])
def test_what_is_there_depends_on_these(key: str) -> None:
    with pytest.raises(CniError, match="invalid network configuration"):
        netconf.check({**MINIMAL, key: "../x"}, tolerant=True)


def test_tolerance_is_for_what_is_wrong_alone() -> None:
    right = {**MINIMAL, "master": ["bond4", "eth0"], "vlanId": 3, "masterTimeout": 5,
             "fallbackMaster": True}  # fmt: skip
    assert netconf.check(right, tolerant=True) == netconf.check(right)
    assert netconf.check({**right, "vlanId": 0}, tolerant=True).masters == ("bond4", "eth0")


@pytest.mark.parametrize("version", ["2.0.0", "1.0", "1.0.0 ", "0.1"], ids=repr)
def test_other_versions_are_code_1(version: str) -> None:
    error = ack(cniVersion=version)
    assert error.code == INCOMPATIBLE_VERSION
    assert repr(version) in error.details
    assert "1.1.0" in error.details


@pytest.mark.parametrize("version", [1.0, True, ["1.0.0"], {}], ids=repr)
def test_version_that_is_no_text_is_code_6_as_the_plugins_say(version: Any) -> None:
    assert ack(cniVersion=version).code == DECODE


@pytest.mark.parametrize("version", [{}, {"cniVersion": ""}, {"cniVersion": None}], ids=str)
def test_no_version_is_0_1_0_and_reaches_the_delegate_as_it_came(version: dict[str, Any]) -> None:
    document = {"name": "podnet", "type": "cni-repair", **version}
    conf = netconf.check(document)
    assert conf.cni_version == "0.1.0"
    assert conf.for_delegate(None) == {**document, "type": "macvlan"}


@pytest.mark.parametrize("key", netconf._OURS)
def test_null_is_a_key_that_is_not_there(key: str) -> None:
    assert replace(parsed(**{key: None}), document={}) == replace(parsed(), document={})


def test_null_of_theirs_reaches_the_delegate() -> None:
    assert parsed(ipam=None, mtu=None, plugins=None).rest == {
        **MINIMAL, "type": "macvlan", "ipam": None, "mtu": None, "plugins": None,
    }  # fmt: skip


def test_type_of_ipam_in_any_case_as_the_delegate_reads_it() -> None:
    assert parsed(ipam={"Type": "host-local"}).ipam_type == "host-local"


def test_key_of_the_delegate_that_differs_in_case_from_ours_is_refused() -> None:
    assert "write both alike" in ack(bcMode="x", delegate={"bcmode": "y"}).details


# --- as Go reads it ------------------------------------------------------------------------------


def with_ipam(text: str) -> netconf.NetConf:
    """Of a configuration whose ipam is this text."""
    return netconf.parse(
        b'{"cniVersion":"1.0.0","name":"podnet","type":"x","ipam":' + text.encode() + b"}"
    )


@pytest.mark.parametrize(
    ("text", "ipam"),
    [
        ('{"range":"a","range":"a"}', {"range": "a"}),
        ('{"a":{"x":1,"y":[2]},"a":{"y":[2],"x":1}}', {"a": {"x": 1, "y": [2]}}),
        ('{"a":1,"a":1,"a":1}', {"a": 1}),
        ('{"a":null,"a":null}', {"a": None}),
        ('{"a":[{"b":1,"b":1}]}', {"a": [{"b": 1}]}),
        (r'{"a":"\ud800","b":"\udc00c"}', {"a": "\ufffd", "b": "\ufffdc"}),
        (r'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        (r'{"\ud800":1}', {"\ufffd": 1}),
    ],
)
def test_what_can_be_read_in_one_way_only(text: str, ipam: dict[str, Any]) -> None:
    assert with_ipam(text).rest["ipam"] == ipam


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":1,"a":1.0}',
        '{"a":1,"a":true}',
        '{"a":0,"a":false}',
        '{"a":1,"a":"1"}',
        '{"a":1,"a":null}',
        '{"a":1,"a":2,"a":1}',
        '{"a":{"x":1},"a":{"x":1.0}}',
        '{"a":{"x":1},"a":{}}',
        '{"a":[1],"a":[1,1]}',
        '{"a":[1,2],"a":[2,1]}',
        '{"a":1,"A":1}',
        '{"a":1,"a":1,"A":1}',
        '{"\u017f":1,"s":1}',
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(CniError) as caught:
        with_ipam(text)
    assert caught.value.code == DECODE
    assert "appears twice" in caught.value.details


def test_bytes_that_are_no_utf_8_are_what_go_makes_of_them() -> None:
    conf = netconf.parse(b'{"name":"a","type":"x","_comment":"M\xfcller"}')
    assert conf.rest["_comment"] == "M\ufffdller"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"\xff", b"null", b'{"a":1,"A":1}', b"\xef\xbb\xbf{}", b"{}{}"],
    ids=ascii,
)
def test_what_is_no_document_is_code_6(raw: bytes) -> None:
    with pytest.raises(CniError) as caught:
        netconf.parse(raw)
    assert caught.value.code == DECODE


@given(
    st.sampled_from([*netconf._OURS, *netconf._THEIRS]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=4,
    ),
)
def test_any_value_is_taken_or_refused_in_our_own_words(key: str, value: Any) -> None:
    try:
        netconf.check({**MINIMAL, key: value})
    except CniError as error:
        assert error.code in (CONFIG, DECODE, INCOMPATIBLE_VERSION)


@pytest.mark.parametrize(
    ("raw", "version"),
    [
        (b'{"cniVersion":"0.3.1"}', "0.3.1"),
        (b'{"cniVersion":"0.2.0"}', "0.2.0"),
        (b'{"cniVersion":""}', "0.1.0"),
        (b'{"cniVersion":"9.0.0"}', "1.0.0"),
        (b'{"cniVersion":["0.3.1"]}', "1.0.0"),
        (b"{}", "0.1.0"),
        (b"", "1.0.0"),
        (b"[]", "1.0.0"),
        (b"\xff", "1.0.0"),
    ],
    ids=ascii,
)
def test_version_of_an_answer_to_anything(raw: bytes, version: str) -> None:
    assert netconf.version_asked(raw) == version


# --- files --------------------------------------------------------------------------------------


def test_list_gives_its_plugins_name_and_version() -> None:
    document = {"cniVersion": "1.0.0", "name": "list", "plugins": [{"type": "a"}, {"type": "b"}]}
    assert plugins_in(document) == [
        ("$.plugins[0]", {"type": "a", "name": "list", "cniVersion": "1.0.0"}),
        ("$.plugins[1]", {"type": "b", "name": "list", "cniVersion": "1.0.0"}),
    ]


@pytest.mark.parametrize(
    ("of_the_list", "version"),
    [
        ({}, ""),
        ({"cniVersion": None}, ""),
        ({"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "9.0.0"]}, "1.1.0"),
        ({"cniVersions": ["0.3.1"]}, "0.3.1"),
        ({"cniVersion": "9.0.0"}, "9.0.0"),
    ],
    ids=str,
)
def test_plugins_of_a_list_have_its_version_whatever_they_say(
    of_the_list: dict[str, Any], version: str
) -> None:
    """As libcni hands them over; the newest where it offers several (CNI 1.1.0)."""
    ((_, plugin),) = plugins_in({**of_the_list, "plugins": [{"type": "a", "cniVersion": "0.3.0"}]})
    assert plugin["cniVersion"] == version


@pytest.mark.parametrize("as_list", [False, True])
def test_configuration_from_a_file(tmp_path: Any, as_list: bool) -> None:
    path = tmp_path / "10.conflist"
    plugin = {key: value for key, value in NETCONF.items() if key not in ("name", "cniVersion")}
    several = {
        "cniVersion": "1.0.0", "name": "podnet", "plugins": [plugin, {"type": "tuning"}, "odd"],
    }  # fmt: skip
    path.write_text(json.dumps(several if as_list else NETCONF))
    assert read_conf(str(path)).masters == ("bond4", "eth0")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"plugins": [{"type": "macvlan"}]}, CONFIG),
        ({"plugins": [{"type": "cni-repair"}, {"type": "cni-repair"}]}, CONFIG),
        ({"plugins": "x"}, CONFIG),
        ([], DECODE),
    ],
    ids=["none", "two", "no-list", "no-object"],
)
def test_file_that_does_not_name_us_once(tmp_path: Any, document: object, code: int) -> None:
    path = tmp_path / "10.conflist"
    path.write_text(json.dumps(document))
    with pytest.raises(CniError) as caught:
        read_conf(str(path))
    assert caught.value.code == code


def test_absent_file_is_code_5_and_named(tmp_path: Any) -> None:
    with pytest.raises(CniError, match="none") as caught:
        read_conf(str(tmp_path / "none"))
    assert caught.value.code == IO
