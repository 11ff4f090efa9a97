"""What planning finds."""

from __future__ import annotations

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Operation


@frozen
class Drift:
    """One thing that is missing or wrong, and the step that puts it right, if there is one."""

    finding: str
    step: Operation | None
