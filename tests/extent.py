"""How much the tests do: as much as shows a mistake; all of it with `tests/run --full`."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("CNI_REPAIR_FULL") == "1"
