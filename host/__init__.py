"""The runtime: compile a quantized model to a program, run it on a board or emulated, and say what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.model import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:  # keeps `import ditto_zynq.host` and the CLI's --help quick
    if name == "load":
        from .runtime.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
