"""What diffusers, or a model's own code, raises: one line that says what was tried, why it failed and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

DIFFUSERS_RAISES = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, AttributeError, ImportError)


@contextlib.contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Raise whatever diffusers raises for what it cannot run as a ValueError in one line: ``what``, why, ``advice``."""
    try:
        yield
    except DIFFUSERS_RAISES as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{what}: {text}; {advice}") from error
