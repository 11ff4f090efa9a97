"""Which face: a CNI plugin where CNI_COMMAND is set, a command line where it is not."""

from __future__ import annotations

import gc
import os
import sys

# Given back where there is no memory left to say so with (see base/errors, which has its own).
_RESERVE_BYTES = 2 << 20


def main() -> int:
    """Run; the process's exit status, where it has not ended already.

    Everything is written by then, and taking the interpreter apart would cost 2 ms more: the
    process ends at once.
    """
    reserve: list[bytes] = []
    try:
        reserve.append(bytes(_RESERVE_BYTES))
        return _run()
    except KeyboardInterrupt:  # before, or while, anything was done
        if os.environ.get("CNI_COMMAND"):
            os._exit(_fail("cni-repair was interrupted before it started"))
        print("cni-repair: interrupted", file=sys.stderr)
        return 130
    except (OSError, ImportError, MemoryError, SystemError) as error:
        reserve.clear()
        os._exit(_fail(f"cni-repair cannot start: {str(error) or 'no memory left'}"))


def _run() -> int:
    from cni_repair.base import pack

    pack.use()
    # Imports leave no garbage, nor does one attachment, and pods wait for each search for it. Who
    # does more than that has it enabled again.
    gc.disable()
    if os.environ.get("CNI_COMMAND"):
        from cni_repair.cni.plugin import run as run_plugin

        os._exit(run_plugin())
    from cni_repair.cli.main import run

    os._exit(run(sys.argv[1:]))


def _fail(why: str) -> int:
    """Tell, with what any process has, what there is no frame to tell: there is no descriptor left,
    no memory, or a file of ours cannot be read. The exit status."""
    why = " ".join(why.split())
    if os.environ.get("CNI_COMMAND"):
        quoted = why.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
        said = f'{{"cniVersion":"1.0.0","code":5,"msg":"{quoted}","details":"call again"}}\n'
        _write(1, said)
    else:
        _write(2, f"{why}\n")
    return 1


def _write(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # there is nobody to tell


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    console()
