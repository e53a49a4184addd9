"""What tests of several files need."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_S = 600  # of what should take seconds: whoever takes longer hangs, on any machine


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return as soon as ``holds()``; AssertionError that names ``what`` where it has not for ``LIMIT_S`` seconds."""
    for _ in range(100 * LIMIT_S):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError(f"found no end after {LIMIT_S} s, expected that {what}")
