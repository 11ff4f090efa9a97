"""The manual's pages, and their Markdown as text of a given width. Pure, but for reading them."""

from __future__ import annotations

import re
import textwrap
from importlib import resources

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIRST = "on-call"  # the page that is wanted in a hurry
_CODE_INDENT = "    "

# Where the terminal's character set is small.
_SPELT = {
    "→": "->", "…": "...", "\u2013": "-", "\u00d7": "x", "≤": "<=", "≥": ">=", "µ": "u", "±": "+/-",
}  # fmt: skip

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_FENCE = re.compile(r"^\s*```")
_HEADING = re.compile(r"^(#+) +(.*?) *#*$")
_ITEM = re.compile(r"^( *)([-*+]|\d+[.)]) +(.*)")
_RULE = re.compile(r"^\|?[ :|-]*-[ :|-]*$")
_LINK = re.compile(r"!?\[([^]]*)\]\(([^)]*)\)")
_STRONG = re.compile(r"(?<![\w*])(\*\*|\*)(?=\S)(.+?)(?<=\S)\1(?![\w*])")
_CELLS = re.compile(r"(?<!\\)\|")


@frozen
class Styled:
    """A line to show, and what it is."""

    text: str
    style: str = ""  # "heading", "code" or nothing


@frozen
class Page:
    """One page of the manual."""

    topic: str
    text: str

    @property
    def summary(self) -> str:
        """What it is about: the first paragraph below its title."""
        below = _COMMENT.sub("", self.text).partition("\n")[2].strip()
        return _inline(" ".join(below.partition("\n\n")[0].split()))


def pages() -> dict[str, Page]:
    """All pages by their topics, the most urgent one first."""
    files = (resources.files("cni_repair") / "manual").iterdir()
    texts = {
        file.name.removesuffix(".md"): file.read_text(encoding="utf-8")
        for file in files
        if file.name.endswith(".md")
    }
    topics = sorted(texts, key=lambda topic: (topic != _FIRST, topic))
    return {topic: Page(topic, texts[topic]) for topic in topics}


def spelt_for(text: str, encoding: str) -> str:
    """The text in characters that `encoding` has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for character, spelling in _SPELT.items():
            text = text.replace(character, spelling)
        text = text.encode(encoding, "replace").decode(encoding)
    return text


def listed(known: dict[str, Page], width: int) -> list[Styled]:
    """The topics, with what each is about."""
    left = max(map(len, known)) + 2
    lines = []
    for page in known.values():
        indent = " " * min(left, width // 2)
        topic = page.topic.ljust(left)[: len(indent)]
        text = textwrap.wrap(page.summary, width, initial_indent=topic, subsequent_indent=indent)
        lines += [Styled(line) for line in text]
    return lines


def rendered(markdown: str, width: int) -> list[Styled]:
    """Markdown, as far as the manual uses it, in lines of at most `width` characters."""
    lines = _COMMENT.sub("", markdown).splitlines()
    shown: list[Styled] = []
    while lines:
        if not lines[0].strip():
            lines.pop(0)
            continue
        if shown:
            shown.append(Styled(""))
        shown += _block(lines, width)
    return shown


def _block(lines: list[str], width: int) -> Iterator[Styled]:
    """Take one block from the lines, and lay it out."""
    heading = _HEADING.match(lines[0])
    if heading:
        lines.pop(0)
        text = heading[2].upper() if heading[1] == "#" else heading[2]
        yield from (Styled(line, "heading") for line in _wrapped(_inline(text), width))
    elif _FENCE.match(lines[0]):
        yield from _code(lines, width)
    elif lines[0].lstrip().startswith("|"):
        yield from (Styled(line) for line in _table(_taken(lines, _is_row), width))
    else:
        yield from _paragraphs(_taken(lines, _is_text), width)


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _is_text(line: str) -> bool:
    special = _is_row(line) or _FENCE.match(line) or _HEADING.match(line)
    return bool(line.strip()) and not special


def _taken(lines: list[str], wanted: Callable[[str], bool]) -> list[str]:
    taken = [lines.pop(0)]
    while lines and wanted(lines[0]):
        taken.append(lines.pop(0))
    return taken


def _paragraphs(lines: list[str], width: int) -> Iterator[Styled]:
    """A paragraph, or the items of a list."""
    items: list[tuple[str, str]] = []  # what stands before the first line, and the text
    for line in lines:
        item = _ITEM.match(line)
        if item:
            items.append((f"{item[1]}{item[2]} ", item[3]))
        elif items:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
        else:
            items.append(("", line.strip()))
    for before, text in items:
        for line in _wrapped(_inline(text), width, before):
            yield Styled(line)


def _code(lines: list[str], width: int) -> Iterator[Styled]:
    lines.pop(0)
    while lines and not _FENCE.match(lines[0]):
        line = lines.pop(0).rstrip()
        yield from (Styled(part, "code") for part in _folded(_CODE_INDENT + line, width))
    del lines[:1]


def _folded(line: str, width: int) -> list[str]:
    """A line that must not be laid out anew: only one that is too long is, its rest further in."""
    if len(line) <= width:
        return [line]
    margin = min(len(line) - len(line.lstrip()) + 4, width // 2)
    rest = " " * margin
    start = line[: len(line) - len(line.lstrip())][:margin]
    on = " \\" if line.lstrip().startswith("$ ") else ""  # a command: it is pasted as it stands
    *parts, last = textwrap.wrap(
        line.strip(),
        width - len(on),
        initial_indent=start,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )
    return [*(part + on for part in parts), last]


def _wrapped(text: str, width: int, before: str = "") -> list[str]:
    before = before[: width // 2]
    indent = " " * len(before)
    return textwrap.wrap(
        text, width, initial_indent=before, subsequent_indent=indent, break_on_hyphens=False
    ) or [before.rstrip()]


def _inline(text: str) -> str:
    """Without the signs for emphasis and links; code keeps its quotes."""
    parts = re.split(r"(`[^`]*`)", _LINK.sub(_linked, text))
    return "".join(part if part[:1] == "`" else _STRONG.sub(r"\2", part) for part in parts)


def _linked(link: re.Match[str]) -> str:
    return f"{link[1]} ({link[2]})" if "://" in link[2] else link[1]


def _table(lines: list[str], width: int) -> list[str]:
    rows = [_cells(line) for line in lines if not _RULE.match(line.strip())]
    count = max(map(len, rows))
    rows = [row + [""] * (count - len(row)) for row in rows]
    widths = _narrowed([max(map(len, column)) for column in zip(*rows)], width)
    laid_out = []
    for number, row in enumerate(rows):
        cells = [textwrap.wrap(cell, size) or [""] for cell, size in zip(row, widths)]
        height = max(map(len, cells))
        padded = [cell + [""] * (height - len(cell)) for cell in cells]
        laid_out += [_row(parts, widths) for parts in zip(*padded)]
        if number == 0:
            laid_out.append(_row(["-" * size for size in widths], widths))
    return laid_out


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [_inline(cell.strip().replace("\\|", "|")) for cell in _CELLS.split(inner)]


def _narrowed(widths: list[int], width: int) -> list[int]:
    """Column widths that fit, taken from the widest first."""
    widths = [max(size, 1) for size in widths]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _row(cells: tuple[str, ...] | list[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(size) for cell, size in zip(cells, widths)).rstrip()
