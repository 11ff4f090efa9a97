"""Which face: a CNI plugin where CNI_COMMAND is set, a command line where it is not."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    """Run; the process's exit status, where it has not ended already.

    Everything is written by then, and taking the interpreter apart would cost 2 ms more: the
    process ends at once.
    """
    from cni_repair.base import pack

    pack.use()
    # Imports leave no garbage, nor does one attachment, and pods wait for each search for it. Who
    # does more than that has it enabled again.
    gc.disable()
    if os.environ.get("CNI_COMMAND"):
        from cni_repair.cni.plugin import run as run_plugin

        os._exit(run_plugin())
    try:
        from cni_repair.cli.main import run

        os._exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # before, or while, anything was done
        print("cni-repair: interrupted", file=sys.stderr)
        return 130


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    console()
