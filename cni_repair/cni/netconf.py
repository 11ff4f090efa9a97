"""The network configuration: which keys are ours, and what the delegate gets."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, DECODE, INCOMPATIBLE_VERSION, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import OWN_TYPE, valid_id, valid_link_name
from cni_repair.base.strictjson import load_object
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import CHECKPOINT_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DEFAULT_DELEGATE = "macvlan"
MASTER_TIMEOUT_SECONDS = 10.0

# The names that the predecessor's configuration (see checkpoint/legacy) has for our keys.
_SYNONYMS = {"vlanID": "vlanId", "checkDir": "checkpointDir"}
_OURS = (
    "master", "master2", "vlanId", "delegate", "checkpointDir", "runDir", "repairOnCheck",
    "masterTimeout", "followRenamedMaster", "fallbackMaster",
)  # fmt: skip
_THEIRS = (
    "cniVersion", "name", "type", "ipam", "mode", "mtu", "prevResult", "dns", "args",
    "capabilities", "runtimeConfig", "linkInContainer",
)  # fmt: skip
_OF_THE_NETWORK = ("cniVersion", "name")  # which no delegate may change
_BY_FOLDED_KEY = {key.casefold(): key for key in (*_OURS, *_THEIRS, "checkDir")}


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
        kind = ipam.get("type", "") if isinstance(ipam, dict) else ""
        return kind if isinstance(kind, str) else ""


def parse(raw: bytes, tolerant: bool = False) -> NetConf:
    """Read a configuration from stdin. Raises CniError with the SPEC's codes 1, 6 and 7.

    `tolerant`: for the verbs about what is there already (DEL, GC, CHECK), which may see the
    configuration after somebody has edited it: a key that they do not need counts as absent where
    it is wrong. Else pods could not be deleted, and kept their addresses.
    """
    return check(load_object(raw, "the network configuration"), tolerant)


def check(document: dict[str, Any], tolerant: bool = False) -> NetConf:
    """Read a configuration that is decoded already; see :func:`parse`."""
    if "plugins" in document:
        raise _wrong("plugins: this is a list; pass one plugin's entry, with the list's name")
    values = {_SYNONYMS.get(key, key): value for key, value in document.items()}
    if not tolerant:
        if len(values) != len(document):
            raise _wrong("a key and its synonym are both there: keep one of them")
        _check_spelling(values)
    version = values.get("cniVersion", "0.1.0")
    if version not in VERSIONS:
        raise CniError(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {version!r}, plugin supports {list(VERSIONS)}",
        )
    delegate, overrides = _delegate(values.get("delegate", DEFAULT_DELEGATE))
    if not tolerant:
        _check_overrides(overrides)
    values.update({k: v for k, v in overrides.items() if k not in _OF_THE_NETWORK})

    def read(reader: Callable[[dict[str, Any]], Any], default: Any) -> Any:
        try:
            return reader(values)
        except CniError:
            if tolerant:
                return default
            raise

    return NetConf(
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
        master_timeout=read(_master_timeout, MASTER_TIMEOUT_SECONDS),
        rest={**{k: v for k, v in values.items() if k not in _OURS}, "type": delegate},
        document=document,
    )


def _wrong(why: str) -> CniError:
    return CniError(CONFIG, "invalid network configuration", why)


def _check_spelling(values: dict[str, Any]) -> None:
    for key in values:
        known = _BY_FOLDED_KEY.get(key.casefold(), key)
        if known != key:
            # The delegate, written in Go, would read it as the same key; we would not.
            raise _wrong(f"key {key!r}: write it {known!r}")
    if values.get("linkInContainer"):
        raise _wrong("linkInContainer: a master inside the pod cannot be repaired from the node")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise _wrong(f"name: {value!r} is not a network name (letters, digits, '_', '.', '-')")
    return value


def _delegate(value: Any) -> tuple[str, dict[str, Any]]:
    overrides = value if isinstance(value, dict) else {"type": value}
    kind = overrides.get("type", DEFAULT_DELEGATE)
    if not isinstance(kind, str) or not valid_id(kind):
        raise _wrong(f"delegate: {kind!r} is not a plugin type (a file name, not a path)")
    if kind == OWN_TYPE:
        raise _wrong("delegate: cni-repair cannot wrap itself; name the wrapped plugin")
    return kind, overrides


def _check_overrides(overrides: dict[str, Any]) -> None:
    _check_spelling(overrides)
    for key in _OF_THE_NETWORK:
        if key in overrides:
            raise _wrong(f"delegate: {key} belongs to the network; remove it from the delegate")


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


def _fallback(values: dict[str, Any]) -> bool:
    allowed = _boolean("fallbackMaster")(values)
    if allowed and len(set(_masters(values))) < 2:
        raise _wrong(
            "fallbackMaster: there is only one master; list others in master, or remove this key"
        )
    return allowed


def _master_timeout(values: dict[str, Any]) -> float:
    value = values.get("masterTimeout", MASTER_TIMEOUT_SECONDS)
    if type(value) not in (int, float) or not 0 <= value <= 3600:
        raise _wrong(f"masterTimeout: expected seconds from 0 to 3600, not {value!r}")
    return float(value)


def keys_of_delegate(document: dict[str, Any]) -> list[str]:
    """The keys of a configuration that are neither ours nor the SPEC's: the delegate's."""
    known = {*_OURS, *_SYNONYMS, "cniVersion", "name", "type", "_comment"}
    return [key for key in document if key not in known]


def version_asked(raw: bytes) -> str:
    """The cniVersion for an error object, whatever else is wrong with the document."""
    try:
        version = load_object(raw, "it").get("cniVersion")
    except CniError as error:
        if error.code != DECODE:
            raise
        return VERSIONS[-2]
    return version if version in VERSIONS else VERSIONS[-2]
