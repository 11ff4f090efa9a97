"""The network configuration: which keys are ours, and what the delegate gets."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, DECODE, INCOMPATIBLE_VERSION, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.gotypes import OF_EVERY_PLUGIN, misfit, respelled
from cni_repair.base.names import OWN_TYPE, valid_id, valid_link_name
from cni_repair.base.strictjson import fold, load_configuration
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import CHECKPOINT_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
BEFORE_CHECK = VERSIONS[:4]  # there is none before 0.4.0: plugins refuse it, whatever is damaged
# What plugins take a configuration for that names no version, as those before CNI 0.2.0 do not.
_WITHOUT_VERSION = VERSIONS[0]
DEFAULT_DELEGATE = "macvlan"
MASTER_TIMEOUT_SECONDS = 10.0
STATUS_GRACE_SECONDS = 60.0
IPV6_DETECTIONS = ("beside", "kernel")  # repair/session says what they mean

# The names that the predecessor's configuration (see checkpoint/legacy) has for our keys.
_SYNONYMS = {"vlanID": "vlanId", "checkDir": "checkpointDir"}
# GC's list of what is there: the key that libcni and SPEC's later text have; SPEC 1.1.0 as tagged.
VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
_OURS = (
    "master", "master2", "vlanId", "delegate", "checkpointDir", "runDir", "repairOnCheck",
    "masterTimeout", "followRenamedMaster", "fallbackMaster", "probeBeforeRepair", "ipv6Detection",
    "statusGrace",
)  # fmt: skip
_THEIRS = (
    "cniVersion", "name", "type", "ipam", "mode", "mtu", "prevResult", "dns", "args",
    "capabilities", "runtimeConfig", "linkInContainer", "plugins", *VALID_ATTACHMENTS,
)  # fmt: skip
# For those who read what people wrote: our keys, and those that mean another.
KEYS, SYNONYMS = _OURS, _SYNONYMS
_OF_THE_NETWORK = ("cniVersion", "name")  # which no delegate may change
_BY_FOLDED_KEY = {fold(key): key for key in (*_OURS, *_THEIRS, "checkDir")}


@frozen
class NetConf:
    """One network configuration, checked."""

    cni_version: str
    name: str
    masters: tuple[str, ...]  # in order of preference; empty: the default route's device
    vlan_id: int | None
    delegate: str
    checkpoint_dir: str
    run_dir: str
    repair_on_check: bool
    follow_renamed_master: bool
    fallback_master: bool  # REPAIR may use another of `masters` than the recorded one
    master_timeout: float  # seconds that REPAIR waits for a missing master
    status_grace: float  # seconds for which STATUS forgives a master that has gone
    ipv6_detection: str  # who looks for duplicates of what REPAIR gives back: see IPV6_DETECTIONS
    rest: dict[str, Any]  # the delegate's document without `master`
    document: dict[str, Any]  # as it came

    def for_delegate(self, master: str | None) -> dict[str, Any]:
        """The delegate's configuration; with `master` None, the delegate chooses."""
        return self.rest if master is None else {**self.rest, "master": master}

    def master_over(self, link: str) -> str:
        """The name of the delegate's master where `link` is the uplink."""
        return link if self.vlan_id is None else f"{link}.{self.vlan_id}"

    @property
    def ipam_type(self) -> str:
        ipam = self.rest.get("ipam")
        given = ipam.items() if isinstance(ipam, dict) else ()
        kind = next((value for key, value in given if fold(key) == "type"), "")
        return kind if isinstance(kind, str) else ""


def parse(raw: bytes, tolerant: bool = False) -> NetConf:
    """Read a configuration from stdin. Raises CniError with the SPEC's codes 1, 6 and 7.

    `tolerant`: for the verbs about what is there already (DEL, GC, CHECK), which may see the
    configuration after somebody has edited it: a key that they do not need counts as absent where
    it is wrong. Else pods could not be deleted, and kept their addresses.
    """
    return check(load_configuration(raw, "the network configuration"), tolerant)


def check(document: dict[str, Any], tolerant: bool = False) -> NetConf:
    """Read a configuration that is decoded already; see :func:`parse`."""
    known = values = _known(document, tolerant)
    if values.get("plugins") is not None:
        raise _wrong("plugins: this is a list; pass one plugin's entry, with the list's name")
    if values.get("linkInContainer") and not tolerant:
        raise _wrong("linkInContainer: a master inside the pod cannot be repaired from the node")
    version = _version(values.get("cniVersion"))
    delegate, overrides = _delegate(values.get("delegate", DEFAULT_DELEGATE), tolerant)
    values = _merged(values, overrides, tolerant)

    def read(reader: Callable[[dict[str, Any]], Any], default: Any) -> Any:
        try:
            return reader(values)
        except CniError:
            if tolerant:
                return default
            raise

    read(_boolean("probeBeforeRepair"), True)  # which REPAIR reads in the record
    conf = NetConf(
        cni_version=version,
        name=_name(values.get("name")),
        masters=read(_masters, ()),
        vlan_id=read(_vlan_id, None),
        delegate=delegate,
        checkpoint_dir=_directory(values, "checkpointDir", CHECKPOINT_DIR),
        run_dir=_directory(values, "runDir", RUN_DIR),
        repair_on_check=read(_boolean("repairOnCheck"), False),
        follow_renamed_master=read(_boolean("followRenamedMaster"), False),
        fallback_master=read(_fallback, False),
        master_timeout=read(
            _seconds("masterTimeout", MASTER_TIMEOUT_SECONDS), MASTER_TIMEOUT_SECONDS
        ),
        status_grace=read(_seconds("statusGrace", STATUS_GRACE_SECONDS), STATUS_GRACE_SECONDS),
        ipv6_detection=read(_ipv6_detection, IPV6_DETECTIONS[0]),
        rest={**{k: v for k, v in values.items() if k not in _OURS}, "type": delegate},
        document=document,
    )
    if not tolerant:
        _check_types({**values, "type": known.get("type")})
    return conf


def _wrong(why: str) -> CniError:
    return CniError(CONFIG, "invalid network configuration", why)


def _known(document: dict[str, Any], tolerant: bool = False) -> dict[str, Any]:
    """The document without its synonyms, and without what is null of ours: for a plugin in Go, null
    is what is not there.

    The delegate, written in Go, reads a known key in any case; `tolerant`: so do we.
    """
    spelled = {key: _BY_FOLDED_KEY.get(fold(key), key) for key in document}
    for key, known in spelled.items() if not tolerant else ():
        if known not in (key, _SYNONYMS.get(key)):
            raise _wrong(f"key {key!r}: write it {known!r}")
    values = {_SYNONYMS.get(spelled[key], spelled[key]): value for key, value in document.items()}
    if len(values) != len(document) and not tolerant:
        raise _wrong("a key and its synonym are both there: keep one of them")
    return {k: v for k, v in values.items() if v is not None or k not in _OURS}


def _merged(values: dict[str, Any], overrides: dict[str, Any], tolerant: bool) -> dict[str, Any]:
    merged = values | overrides
    if len(set(map(fold, merged))) != len(merged) and not tolerant:
        raise _wrong("delegate: a key differs only in case from another one: write both alike")
    return merged


def _version(value: object) -> str:
    """The CNI version that the delegate speaks for a configuration's `cniVersion`."""
    if value is None or value == "":
        return _WITHOUT_VERSION
    if not isinstance(value, str):
        raise CniError(DECODE, "cannot decode the network configuration", "cniVersion: not a text")
    if value not in VERSIONS:
        raise CniError(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {value!r}, plugin supports {list(VERSIONS)}",
        )
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise _wrong(f"name: {value!r} is not a network name (letters, digits, '_', '.', '-')")
    return value


def _delegate(value: object, tolerant: bool) -> tuple[str, dict[str, Any]]:
    overrides = _known(value, tolerant) if isinstance(value, dict) else {"type": value}
    kind = overrides.get("type", DEFAULT_DELEGATE)
    if not isinstance(kind, str) or not valid_id(kind):
        raise _wrong(f"delegate: {kind!r} is not a plugin type (a file name, not a path)")
    if kind == OWN_TYPE:
        raise _wrong("delegate: cni-repair cannot wrap itself; name the wrapped plugin")
    for key in _OF_THE_NETWORK:
        if key in overrides and not tolerant:
            raise _wrong(f"delegate: {key} belongs to the network; remove it from the delegate")
    return kind, {key: one for key, one in overrides.items() if key not in _OF_THE_NETWORK}


def _check_types(values: dict[str, Any]) -> None:
    """Refuse before anything is done what no plugin in Go can decode."""
    why = misfit(respelled(values, OF_EVERY_PLUGIN), OF_EVERY_PLUGIN)
    if why:
        raise _wrong(f"{why.removeprefix('.')}; plugins cannot read it otherwise")


def _masters(values: dict[str, Any]) -> tuple[str, ...]:
    names: list[str] = []
    for key in ("master", "master2"):
        value = values.get(key, "")
        given = [] if value == "" else value if isinstance(value, list) else [value]
        for name in given:
            if not isinstance(name, str) or not valid_link_name(name):
                raise _wrong(
                    f"{key}: {name!r} is not a name for a link; give a name, or a list of names"
                )
        names += given
    return tuple(names)


def _vlan_id(values: dict[str, Any]) -> int | None:
    value = values.get("vlanId")
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= 4094:
        raise _wrong(f"vlanId: {value!r} is not a VLAN id (1 to 4094; omit the key for no VLAN)")
    return value


def _directory(values: dict[str, Any], key: str, default: str) -> str:
    value = values.get(key, default)
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise _wrong(f"{key}: {value!r} is not an absolute path")
    return value.rstrip("/") or "/"


def _boolean(key: str) -> Callable[[dict[str, Any]], bool]:
    def read(values: dict[str, Any]) -> bool:
        value = values.get(key, False)
        if type(value) is not bool:
            raise _wrong(f"{key}: expected true or false, not {value!r}")
        return value

    return read


def _ipv6_detection(values: dict[str, Any]) -> str:
    value = values.get("ipv6Detection", IPV6_DETECTIONS[0])
    if value not in IPV6_DETECTIONS:
        expected = " or ".join(IPV6_DETECTIONS)
        raise _wrong(f"ipv6Detection: expected {expected}, not {value!r}")
    return str(value)


def _fallback(values: dict[str, Any]) -> bool:
    allowed = _boolean("fallbackMaster")(values)
    if allowed and len(set(_masters(values))) < 2:
        raise _wrong(
            "fallbackMaster: there is only one master; list others in master, or remove this key"
        )
    return allowed


def _seconds(key: str, default: float) -> Callable[[dict[str, Any]], float]:
    def read(values: dict[str, Any]) -> float:
        value = values.get(key, default)
        if type(value) not in (int, float) or not 0 <= value <= 3600:
            raise _wrong(f"{key}: expected seconds from 0 to 3600, not {value!r}")
        return float(value)

    return read


def version_asked(raw: bytes) -> str:
    """The cniVersion for an error object, whatever else is wrong with the document."""
    try:
        return _version(_known(load_configuration(raw, "it")).get("cniVersion"))
    except CniError:
        return VERSIONS[-2]


def network_named(raw: bytes) -> str:
    """The network's name, whatever is wrong with the document; empty where it says none."""
    try:
        name = load_configuration(raw, "it").get("name")
    except CniError:
        return ""
    return name if isinstance(name, str) else ""
