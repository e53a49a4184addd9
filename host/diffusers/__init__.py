"""The drop-in: a quantized denoiser in a stock diffusers pipeline. Needs torch and diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .drop_in import wrap as wrap

__all__ = ["wrap"]


def __getattr__(name: str) -> Any:  # so that entering one room does not load all of them
    if name == "wrap":
        from .drop_in import wrap

        return wrap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
