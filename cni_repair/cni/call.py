"""One call of the plugin: what the caller asks for, checked before anything is done."""

from __future__ import annotations

from cni_repair.base.errors import ENVIRONMENT, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import valid_id, valid_ifname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_CONTAINER_ID = 200  # what a file name (255 bytes) leaves beside ifname and suffix


@frozen
class Call:
    """One invocation, its variables checked."""

    command: str
    container_id: str
    netns: str
    ifname: str
    args: dict[str, str]  # CNI_ARGS
    environ: dict[str, str]
    stdin: bytes


@frozen
class Verb:
    """What one CNI_COMMAND does."""

    run: Callable[[Call], tuple[str, int]]  # gives the document to print, and the exit status
    required: tuple[str, ...] = ()  # the variables that it cannot do without
    required_of_one: tuple[str, ...] = ()  # besides, where there is a CNI_CONTAINERID
    asks_only: bool = False  # its failure is an answer, asked for again and again
    # Takes back what was done, where nobody could be told of it.
    undo: Callable[[Call], object] | None = None


def check(environ: Mapping[str, str], stdin: bytes, verbs: Mapping[str, Verb]) -> Call:
    """The call that the environment describes. Raises CniError (code 4) where it is not valid."""
    command = environ.get("CNI_COMMAND", "")
    if command not in verbs:
        raise CniError(ENVIRONMENT, f"unknown CNI_COMMAND: {command}", f"one of {' '.join(verbs)}")
    container_id, ifname = environ.get("CNI_CONTAINERID", ""), environ.get("CNI_IFNAME", "")
    _check_required(verbs[command], environ)
    if container_id and (not valid_id(container_id) or len(container_id) > _MAX_CONTAINER_ID):
        raise CniError(
            ENVIRONMENT,
            f"CNI_CONTAINERID {container_id[:80]!r} is not a container id",
            f"letters, digits, '_', '.', '-', at most {_MAX_CONTAINER_ID}",
        )
    if ifname and not valid_ifname(ifname):
        raise CniError(ENVIRONMENT, f"CNI_IFNAME {ifname[:80]!r} is not an interface name")
    return Call(
        command=command,
        container_id=container_id,
        netns=environ.get("CNI_NETNS", ""),
        ifname=ifname,
        args=args_in(environ.get("CNI_ARGS", "")),
        environ=dict(environ),
        stdin=stdin,
    )


def _check_required(verb: Verb, environ: Mapping[str, str]) -> None:
    needed = verb.required
    if environ.get("CNI_CONTAINERID"):
        needed += verb.required_of_one
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise CniError(ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")


def pod_of(args: Mapping[str, str]) -> str:
    """The pod that CNI_ARGS name, as people write it; empty where they name none."""
    namespace, name = args.get("K8S_POD_NAMESPACE", ""), args.get("K8S_POD_NAME", "")
    return f"{namespace}/{name}" if namespace else name


def args_in(text: str) -> dict[str, str]:
    """The pairs of CNI_ARGS. Anything else in it is left to the delegate to refuse."""
    pairs = (piece.partition("=") for piece in text.split(";"))
    return {key: value for key, separator, value in pairs if separator}
