"""The sandbox: where code that a model wrote runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_adapters.sandbox.codecs import register_codec
from trace_adapters.sandbox.limits import Limits
from trace_adapters.sandbox.pool import SandboxPool, default_pool

__all__ = ["Limits", "SandboxPool", "arun", "default_pool", "level", "register_codec", "run"]


def run(
    source_text: str,
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    imports: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    uses: Mapping[str, Callable[..., Any]] | None = None,
    timeout_s: float = 5.0,
    memory_mb: int | None = None,
    sandbox: str = "auto",
) -> Any:
    """Call the function `name` of a source text in the default pool of a sandbox; see `SandboxPool.run`."""
    return default_pool(sandbox).run(
        source_text,
        name,
        args,
        kwargs,
        imports=imports,
        constants=constants,
        uses=uses,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
    )


async def arun(source_text: str, name: str, *args: Any, sandbox: str = "auto", **options: Any) -> Any:
    """Call the function `name` of a source text without blocking the event loop; see `SandboxPool.run`."""
    return await default_pool(sandbox).arun(source_text, name, *args, **options)


def level(sandbox: str = "auto") -> str:
    """What confines code on this machine; see `SandboxPool.level`."""
    return default_pool(sandbox).level()
