"""bash's completion, from the parser: `python3 -m cni_repair.cli.completion` prints it.

install.sh has it made by the version that it installs; it is kept nowhere else.
"""

from __future__ import annotations

import shlex

from cni_repair.cli.manual import pages
from cni_repair.cli.parser import make_parser, parsers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# What bash offers for an argument of this name.
_OFFERED = {"DIR": "-d", "FILE": "-f", "PLAN.yaml": "-f"}

_PODS = {"POD"}  # what pods are offered for

# Pods are looked for in the journal, which has an index of them: the records are root's. Anybody
# may write there, and `compgen -W` expands what it is given: nothing but a pod's name is offered.
_SCRIPT = """\
# bash completion for cni-repair, made from its parser by install.sh
_cni_repair_pods() {{
    {{ journalctl --quiet --field=POD | LC_ALL=C grep -xE '[a-z0-9.-]+/[a-z0-9.-]+'; }} 2>/dev/null
    true
}}
_cni_repair() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    local words="" kind="" # what may stand here: words, or names of files (-f) or directories (-d)
    if ((COMP_CWORD == 1)); then
        words={first}
    else
        case "${{COMP_WORDS[1]}} $previous" in
{values}
        *)
            case ${{COMP_WORDS[1]}} in
{commands}
            esac
            if [[ $current == -* ]]; then kind=""; elif [[ $kind ]]; then words=""; fi
            ;;
        esac
    fi
    mapfile -t COMPREPLY < <(
        [[ ! $words ]] || compgen -W "$words" -- "$current"
        [[ ! $kind ]] || compgen "$kind" -- "$current"
    )
    [[ ! $kind ]] || compopt -o filenames 2>/dev/null || true
}}
complete -F _cni_repair cni-repair
"""


def script() -> str:
    """The whole script."""
    known = parsers()
    whole = [option for action in make_parser([])._actions for option in action.option_strings]
    values = [line for name, parser in known.items() for line in _values(name, parser)]
    commands = [line for name, parser in known.items() for line in _command(name, parser)]
    return _SCRIPT.format(
        first=shlex.quote(" ".join([*known, *whole])),
        values="\n".join(values),
        commands="\n".join(commands),
    )


def _values(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """What may follow those options of a command that take a value."""
    lines = []
    for action in parser._actions:
        if action.option_strings and action.nargs != 0:
            pattern = " | ".join(
                shlex.quote(f"{name} {option}") for option in action.option_strings
            )
            lines.append(f"        {pattern}) {_offer(action)} ;;")
    return lines


def _offer(action: argparse.Action) -> str:
    if action.choices is not None:
        return f"words={shlex.quote(' '.join(map(str, action.choices)))}"
    kind = _OFFERED.get(str(action.metavar))
    return f"kind={kind}" if kind else ":"


def _command(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """A command's options, and what its arguments may be."""
    words = [option for action in parser._actions for option in action.option_strings]
    kinds = [action.metavar for action in parser._actions if not action.option_strings]
    if "TOPIC" in kinds:
        words += pages()
    kind = next((_OFFERED[str(one)] for one in kinds if str(one) in _OFFERED), "")
    lines = [f"            {name})", f"                words={shlex.quote(' '.join(words))}"]
    if not _PODS.isdisjoint(kinds):
        lines += ['                words+=" $(_cni_repair_pods)"']
    return [*lines, *([f"                kind={kind}"] if kind else []), "                ;;"]


if __name__ == "__main__":
    print(script(), end="")
