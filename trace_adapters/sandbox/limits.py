"""What code in the sandbox may use up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Bounds of one worker process and of each call in it.

    Attributes:
        memory_mb: Address space of the worker, its interpreter (about 30 MB) included.
        result_bytes: Longest reply.
        stdout_chars: How much of the end of the printed text is kept.
        callbacks: How often one call may call the host.
        start_s: How long a worker may take to start.
        grace_s: How long after its time limit code may still answer before the worker is killed.
    """

    memory_mb: int = 512
    result_bytes: int = 8 * 2**20
    stdout_chars: int = 4_000
    callbacks: int = 1_000
    start_s: float = 60.0
    grace_s: float = 0.5

    def to_message(self) -> dict[str, Any]:
        """The limits as a worker reads them."""
        return asdict(self)
