"""Commands in words: what an operation equals, to be read by people and pasted into a shell."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.table import Table

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+-")
_LINE_FEED = "${IFS#??}"  # IFS: blank, tab, line feed


def quoted(word: str) -> str:
    """A name as one word of a POSIX shell (dash, too), on one line: it came from a pod or a file.

    What a terminal would not show as it is, but obey, is there as numbers.
    """
    if word and _PLAIN.issuperset(word):
        return word
    if not word.isprintable():
        return _made_by_printf(word)
    import shlex  # it needs `re`: only for names that are worth it

    return shlex.quote(word)


def _made_by_printf(word: str) -> str:
    """$'…' would be shorter, but to dash it is a $ and a word in quotes, which the pod may end."""
    most = word.rstrip("\n")
    line_feeds = _LINE_FEED * (len(word) - len(most))  # $(…) drops those at its end
    return f"\"$(printf %b '{''.join(map(_escaped, most))}'){line_feeds}\""


def _escaped(char: str) -> str:
    """As `printf %b` has it. (bash takes ! for its history, also between these quotes.)"""
    if char.isprintable() and char not in "\\'!":
        return char
    return "".join(f"\\0{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def ip(family: int) -> str:
    return "ip -6" if family == 6 else "ip"


def inside(netns: str) -> str:
    """What a command begins with that is for another namespace than the node's own (empty)."""
    return f"nsenter --net={quoted(netns)} " if netns else ""


def words(*parts: str) -> str:
    """The parts that there are, with a blank between them: a name may have more of them inside."""
    return " ".join(filter(None, parts))


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
