"""README.md and the manual: what they show is what is printed, and they hold together."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from cni_repair.cli.parser import make_parser
from cni_repair.demo.lab import product
from cni_repair.node.report import STATES
from tests import manual
from tests.manual import Block, PageError, blocks_of, commands_of, matches, pages, play
from tests.manualnode import ManualNode

TOPICS = {
    "adopt",
    "back-out",
    "checkpoints",
    "configuration",
    "cost",
    "fleet",
    "kubernetes",
    "log",
    "monitoring",
    "on-call",
    "packages",
    "restored",
    "runtimes",
    "trust",
    "upgrade",
    "watch",
}
README_LINES, COLUMNS = 250, 100
# Blocks that the throwaway node cannot play: each is one more that can rot.
NOT_PLAYED_AT_MOST = 4

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)


def all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks_of(page)]


# --- What is shown is what is printed ------------------------------------------------------------


@pytest.mark.slow
@every_page
def test_a_page_shows_what_is_printed(page: Path) -> None:
    """To write the pages anew: python3 -m tests.manual --write"""
    differing = [one.diff for one in play(blocks_of(page), ManualNode) if not one.holds]
    if differing:
        pytest.fail("\n".join(differing), pytrace=False)


def test_few_blocks_are_not_played() -> None:
    reasons = [block.where for block in all_blocks() if "not played" in block.directives]
    assert len(reasons) <= NOT_PLAYED_AT_MOST, reasons


def test_no_output_is_left_out_whole() -> None:
    """One that is nothing but "…" would hold whatever was printed."""
    for block in all_blocks():
        if block.played:
            for command in commands_of(block):
                assert set(command.output) != {manual.ANYTHING}, block.where


def test_drawings_hide_no_commands() -> None:
    for block in all_blocks():
        if block.tag == "text":
            assert not [line for line in block.lines if line.startswith("$ ")], block.where


# --- Configurations, scripts, and commands in the text -------------------------------------------


@pytest.mark.parametrize(
    "block", [b for b in all_blocks() if b.tag in ("yaml", "json")], ids=lambda block: block.where
)
def test_a_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / block.directives["file"]
    file.write_text(block.text)
    done = subprocess.run(
        [*product(), "validate", str(file)], capture_output=True, text=True, check=False
    )
    kinds = {"yaml": "upgrade plan|configuration of cni-repair watch|NetworkAttachmentDefinition"}
    kind = kinds.get(block.tag, "network configuration")
    assert re.search(rf"{re.escape(str(file))}: a valid ({kind})", done.stdout), done.stderr


@pytest.mark.parametrize(
    "block", [b for b in all_blocks() if b.tag == "sh"], ids=lambda block: block.where
)
def test_a_script_is_one(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def shown_commands(page: Path) -> Iterator[str]:
    """Every command of a page: in scripts, in consoles, and in the text."""
    for block in blocks_of(page):
        if block.tag == "sh":
            yield from (re.sub(r"\s+#.*", "", line) for line in block.lines)
        elif block.tag == "console":
            yield from (command.text for command in commands_of(block))
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", text):
        yield " ".join(span.split())


def ours(command: str) -> list[str]:
    """The words of a command that is one of ours; none where it is not."""
    simple = re.split(r"[;|<]", command)[0].removeprefix("sudo ").strip()
    program, _, rest = simple.partition(" ")
    known = program in ("cni-repair", "./install.sh", "./tests/run")
    return [program, *shlex.split(rest)] if known and rest else []


@every_page
def test_the_commands_of_a_page_exist(page: Path) -> None:
    commands = [words for text in shown_commands(page) if (words := ours(text))]
    for program, *words in commands:
        if program == "cni-repair":
            assert mistake(words) == "", words
        else:
            assert set(options_in(" ".join(words))) <= options_of(program), words


def mistake(words: list[str]) -> str:
    """What cni-repair's parser finds wrong with a command."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            found = make_parser(words).parse_args(words)
    except SystemExit as ended:
        return said.getvalue() if ended.code else ""
    assert isinstance(found, argparse.Namespace)
    return ""


def options_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)


def options_of(script: str) -> set[str]:
    done = subprocess.run(
        [manual.REPOSITORY / script, "--help"], capture_output=True, text=True, check=True
    )
    return set(options_in(done.stdout))


def test_a_mistaken_command_is_noticed() -> None:
    assert ours("sudo cni-repair status --al | head") == ["cni-repair", "status", "--al"]
    assert "unrecognized arguments: --al" in mistake(["status", "--al"])
    assert mistake(["status", "--all", "shop/web-1"]) == ""
    assert "--demo" in options_of("./install.sh") and "--demos" not in options_of("./install.sh")


# --- Their form ----------------------------------------------------------------------------------


def test_the_topics() -> None:
    assert {page.stem for page in manual.MANUAL.glob("*.md")} == TOPICS


def test_the_readme_is_short() -> None:
    readme = manual.REPOSITORY / "README.md"
    assert len(readme.read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", [*manual.MANUAL.glob("*.md")], ids=lambda page: page.stem)
def test_a_page_is_for_a_serial_console(page: Path) -> None:
    title, blank, summary, second_blank, *rest = page.read_text().splitlines()
    assert title.startswith("# ") and len(summary) > 20
    assert (blank, second_blank) == ("", "")
    printed = {line for block in blocks_of(page) if block.tag == "console" for line in block.lines}
    lines = [line for line in (summary, *rest) if not line.startswith("<!--")]  # help hides those
    assert [line for line in lines if len(line) > COLUMNS and line not in printed] == []


def test_every_state_is_explained() -> None:
    readme, on_call = manual.REPOSITORY / "README.md", manual.MANUAL / "on-call.md"
    for state in STATES:
        assert f"\n| `{state}` |" in readme.read_text()
        assert f"\n- `{state}`: " in on_call.read_text()


def test_every_key_is_explained() -> None:
    schema = json.loads(
        resources.files("cni_repair.cni").joinpath("schema/netconf.json").read_text()
    )
    page = (manual.MANUAL / "configuration.md").read_text()
    own = schema["properties"].keys() - {"cniVersion", "name", "type", "ipam"}
    assert [key for key in own if f"`{key}`" not in page] == []


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page",
    [*pages(), *(manual.REPOSITORY / room / "README.md" for room in ("integration", "cni_repair"))],
    ids=lambda page: str(page.relative_to(manual.REPOSITORY)),
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{page}: {target}"


def test_rooms_that_the_architecture_names_are_there() -> None:
    package = manual.REPOSITORY / "cni_repair"
    text = (package / "README.md").read_text()
    paths = [span for span in re.findall(r"`([^`\s]+)`", text) if "/" in span]
    assert len(paths) > 30
    for path in paths:
        places = (package / path, package / f"{path}.py", manual.REPOSITORY / path)
        assert any(place.exists() for place in places), path


def test_figures_of_cost_are_the_benchmarks() -> None:
    """The page's table is an excerpt of what the benchmark printed."""
    printed = (manual.REPOSITORY / "integration/README.md").read_text()
    rows = re.findall(r"^\|(.*)\|$", (manual.MANUAL / "cost.md").read_text(), re.MULTILINE)
    figures = [cell.split() for row in rows[2:] for cell in row.split("|")[2:]]
    assert len(figures) > 30
    for (figure,) in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", printed), figure


def test_figures_of_the_readme_are_the_benchmarks() -> None:
    printed = (manual.REPOSITORY / "integration/README.md").read_text()

    def figure(row: str, column: str) -> float:
        """The figure that stands in a row's column, counted from the row's beginning."""
        (found,) = re.findall(rf"^{row} {column}", printed, re.MULTILINE)
        return float(found)

    each, median = r"(?:\s+[\d.]+){6}\s+([\d.]+)", r"\s+\d+\s+([\d.]+)"
    add = figure("ADD, cni-repair minus the bare plugin", r"\s+([\d.]+) ms")
    delete = figure("DEL, cni-repair minus the bare plugin", r"\s+([\d.]+) ms")
    by_hand = figure(r"repair, all lost +50  nine commands a pod", each)
    pods_200 = figure(r"repair, all lost +200  cni-repair, CNI verb", median)
    readme = " ".join((manual.REPOSITORY / "README.md").read_text().split())
    assert f"each ADD (+{add:.0f} ms) and DEL (+{delete:.0f} ms)" in readme
    assert f"about {by_hand:.0f} ms and nine commands a pod" in readme
    assert f"200 pods in {pods_200 / 1000:.1f} s" in readme


# --- What finds and compares the blocks ----------------------------------------------------------


class Shell:
    """A directory in which commands are run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.events: list[str] = []

    def after(self, event: str) -> None:
        self.events.append(event)

    def write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

    def run(self, command: str) -> str:
        done = subprocess.run(
            command, cwd=self._directory, shell=True, capture_output=True, text=True, check=False
        )
        return done.stdout

    def close(self) -> None:
        self.events.append("closed")


class TestPlaying:
    @pytest.fixture
    def shell(self, tmp_path: Path) -> Shell:
        return Shell(tmp_path)

    @pytest.fixture
    def page(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(manual, "REPOSITORY", tmp_path)
        return tmp_path / "page.md"

    def write(self, page: Path, *outputs: str, scene: str = "<!-- scene: here, there -->") -> Path:
        lines = ["# Page", "", scene, "```console"]
        for number, output in enumerate(outputs):
            lines += [f"$ printf 'took 0.{number}1 s\\n{number} of 3\\n'", *output.splitlines()]
        page.write_text("\n".join([*lines, "```", "the end", ""]))
        return page

    def test_what_is_right_holds(self, page: Path, shell: Shell) -> None:
        self.write(page, "took 7.25 s\n0 of 3", "…\n1 of 3")
        (played,) = play(blocks_of(page), lambda: shell)
        assert played.diff == ""
        assert shell.events == ["here", "there", "closed"]

    @pytest.mark.parametrize(
        "output",
        ["took 0.11 s\n2 of 3", "took 0.11 s", "took 0.11 s\n1 of 3\n1 of 3", "", "took\n1 of 3",
         "…\n2 of 3", "took 0.11 s\n…\n2 of 3"],
    )  # fmt: skip
    def test_what_is_wrong_is_shown_and_can_be_put_right(
        self, page: Path, shell: Shell, output: str
    ) -> None:
        self.write(page, "…\n0 of 3", output)
        played = play(blocks_of(page), lambda: shell)
        assert "page.md:5 shows" in played[0].diff
        assert manual.rewrite(page, played)
        (again,) = play(blocks_of(page), lambda: shell)
        assert again.holds
        assert "…\n0 of 3\n" in page.read_text()  # what held stays as it was written
        assert "took 0.11 s\n1 of 3\n```\nthe end\n" in page.read_text()
        assert not manual.rewrite(page, [again])

    def test_a_file_is_there_and_a_node_lives_on(self, page: Path, shell: Shell) -> None:
        page.write_text(
            "<!-- file: x.yaml -->\n```yaml\nversion: 1\n```\n"
            "<!-- scene: a -->\n```console\n$ cat x.yaml\nversion: 1\n```\n"
            "<!-- not played: no reason -->\n```console\n$ false\nnever\n```\n"
            "<!-- then: b, c -->\n```console\n$ echo more >>x.yaml\n```\n"
            "text\n```console\n$ tail -n 1 x.yaml\nmore\n```\n"
        )
        assert [one.diff for one in play(blocks_of(page), lambda: shell)] == ["", "", ""]
        assert shell.events == ["a", "b", "c", "closed"]

    @pytest.mark.parametrize(
        ("text", "mistake"),
        [
            ("```\n$ ls\n```\n", "tag a block"),
            ("```shell\n```\n", "tag a block"),
            ("```console\n$ ls\n", "without an end"),
            ("<!-- scene: a -->\n```console\nls\n```\n", "begins with"),
            ("```console\n$ ls\n```\n", "names no scene"),
            ("<!-- scene: a -->\n\n```console\n$ ls\n```\n", "names no scene"),
            ("<!-- sceen: a -->\n```console\n$ ls\n```\n", "no directive"),
        ],
    )
    def test_a_mistaken_page_is_refused(
        self, page: Path, shell: Shell, text: str, mistake: str
    ) -> None:
        page.write_text(text)
        with pytest.raises(PageError, match=mistake):
            play(blocks_of(page), lambda: shell)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("eth0 02:00:00:00:00:01 up", "eth0 aa:bb:cc:dd:ee:ff up"),
        ("10.9.0.1 3 ms", "10.9.0.1 0.4 ms"),
        ("16:43:57 driver     exit 0 after 1.8 s", "09:00:01 driver     exit 0 after 12.3 s"),
        ("ok            0.3  3 of 3", "ok           10.9  3 of 3"),
        ("link index 2 mtu 1500", "link index 14 mtu 1500"),
        ("begun 2026-11-23 13:21:23", "begun 2027-01-02 03:04:05"),
    ],
)
def test_what_changes_from_run_to_run_is_not_compared(shown: str, printed: str) -> None:
    assert matches([shown], [printed])


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("via 10.9.0.1", "via 10.9.0.2"),
        ("mtu 1500", "mtu 1400"),
        ("(5 steps)", "(4 steps)"),
        ("killed after 5 min", "killed after 6 min"),
        ("within 5 s", "within 7 s"),
        ("    indented", "indented"),
        ("cni-repair 0.1.0", "cni-repair 0.2.0"),
    ],
)
def test_what_matters_is_compared(shown: str, printed: str) -> None:
    assert not matches([shown], [printed])
