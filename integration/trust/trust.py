"""The command: carries out proofs one after the other, prints a table or a document."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from typing import cast

from cni_repair.cli.printable import one_line, printable
from integration.command import run_rig
from integration.trust.proof import Extent, Outcome, Proof
from integration.trust.proofs import PROOFS

_NAME = "integration/trust/run"
_ABOUT = """\
How far cni-repair can be trusted: each proof does to it what a bad day does,
and counts what held. Without --full a sample of each, two minutes in all.
Exit status: 0 all holds, 1 something does not, 2 cannot run here."""
_ROW = "{:<10} {:<84} {:>9} {:<8} {:>7}"


def main() -> int:
    options = _parse()
    extent = Extent(full=options.full, seed=options.seed, case=options.case)
    return run_rig(_NAME, lambda: _run(options.proof or list(PROOFS), extent, options.json))


def proof_named(name: str) -> Proof:
    """The proof of a module of this package."""
    return cast(Proof, import_module(f"integration.trust.{name}"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME, description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "proof", nargs="*", metavar="PROOF", help=f"only these of: {', '.join(PROOFS)}"
    )
    parser.add_argument("--full", action="store_true", help="everything, however long it takes")
    parser.add_argument("--seed", type=int, default=1, help="what samples are drawn by (1)")
    parser.add_argument("--case", help="only this case of the one PROOF, as a failure names it")
    parser.add_argument("--json", action="store_true", help="print a JSON document, not a table")
    options = parser.parse_args()
    unknown = [name for name in options.proof if name not in PROOFS]
    if unknown:
        parser.error(f"no proof {unknown[0]!r}: choose from {', '.join(PROOFS)}")
    if options.case and len(options.proof) != 1:
        parser.error("--case: name the one PROOF that it is a case of")
    return options


def _run(names: list[str], extent: Extent, as_json: bool) -> int:
    began = time.monotonic()
    if not as_json:
        print(_ROW.format("PROOF", "WHAT IS DONE", "CASES", "VERDICT", "SECONDS"), flush=True)
    documents = []
    for name in names:
        proof = proof_named(name)
        start = time.monotonic()
        outcome = proof.prove(extent)
        seconds = time.monotonic() - start
        documents.append({"proof": name, **outcome.document(), "seconds": round(seconds, 1)})
        if not as_json:
            _print(proof, outcome, seconds)
    failed = [document["proof"] for document in documents if not document["holds"]]
    if as_json:
        print(json.dumps(documents))
    else:
        verdict = f"FAILED: {', '.join(failed)}" if failed else "all hold"
        cases = sum(document["tried"] for document in documents)
        print(f"{len(names)} proofs, {cases:,} cases: {verdict}; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _print(proof: Proof, outcome: Outcome, seconds: float) -> None:
    verdict = "left out" if outcome.left_out else "holds" if outcome.holds else "FAILS"
    print(_ROW.format(proof.NAME, proof.WHAT, f"{outcome.tried:,}", verdict, f"{seconds:.1f}"))
    lines = [f"{name}: {value}" for name, value in outcome.figures]
    if outcome.left_out:
        lines.append(outcome.left_out)
    lines += [one_line(note) for note in outcome.notes]
    # A case may be made of a pod's words, or of what a fuzzer made.
    lines += [f"FAILS {printable(one.case)}: {one_line(one.saw)}" for one in outcome.failures]
    for line in lines:
        print(f"{'':<10} {line}")
    sys.stdout.flush()
