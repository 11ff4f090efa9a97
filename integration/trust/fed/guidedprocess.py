"""One reader under atheris: TREE READER REPORT, then libFuzzer's own words. See guided.py."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from integration.trust.fed.feeding import Tally

_TOLD_EVERY = 1000  # inputs


def main() -> None:
    tree, name, report, *flags = sys.argv[1:]
    sys.path[:0] = [tree, str(Path(__file__).resolve().parents[3])]
    atheris = import_module("atheris")

    with atheris.instrument_imports(include=["cni_repair"]):
        from integration.errors import RigError
        from integration.trust.fed import golang
        from integration.trust.fed.feeding import READERS, Judge

    try:
        go = golang.Go(golang.program())
    except RigError:
        go = None
    judge = Judge(READERS[name], go)

    def feed(data: bytes) -> None:
        judge.try_(data)
        # Now and then: libFuzzer leaves by _exit(), and calls nothing before.
        if judge.tally.tried % _TOLD_EVERY == 0:
            judge.ask()
            Path(f"{report}.new").write_text(json.dumps(_document(judge.tally)))
            os.rename(f"{report}.new", report)

    atheris.Setup([sys.argv[0], *flags], feed)
    atheris.Fuzz()


def _document(tally: Tally) -> dict[str, object]:
    counts = ("tried", "accepted", "asked", "seconds", "slowest")
    faults = [[one.kind, one.saw, one.data.hex()] for one in tally.faults.values()]
    return {**{name: getattr(tally, name) for name in counts}, "faults": faults}


if __name__ == "__main__":
    main()
