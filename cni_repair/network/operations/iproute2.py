"""Commands in words: what an operation equals, to be read by people and pasted into a shell."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.table import Table

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+-")


def quoted(word: str) -> str:
    """A name as one word of a shell: it came from a pod or a file."""
    if word and _PLAIN.issuperset(word):
        return word
    if not word.isprintable():
        return f"$'{''.join(map(_escaped, word))}'"
    import shlex  # it needs `re`: only for names that are worth it

    return shlex.quote(word)


def _escaped(char: str) -> str:
    """As bash has it between $' and ': no line of a script is begun by what a pod wrote."""
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def ip(family: int) -> str:
    return "ip -6" if family == 6 else "ip"


def inside(netns: str) -> str:
    """What a command begins with that is for another namespace than the node's own (empty)."""
    return f"nsenter --net={quoted(netns)} " if netns else ""


def words(*parts: str) -> str:
    return " ".join(" ".join(parts).split())


def said(table: Table, noun: object, own: dict[str, str]) -> list[str]:
    """The words of a noun's fields, in the order of its table, but for what goes without saying;
    `own`: those that are not made by the table."""
    values = vars(noun)
    parts = []
    for name, say, unsaid in table.spoken:
        if name in own:
            parts.append(own[name])
        elif say is not None and (value := values[name]) not in unsaid:
            parts.append(say(quoted(value) if isinstance(value, str) else value))
    return parts
