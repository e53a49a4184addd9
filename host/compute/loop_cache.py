"""Whether numba must compile the vector unit's loops first, which takes minutes, or has kept what it compiled."""

from __future__ import annotations

import sys
from pathlib import Path

from .team import ACCELERATED


def is_cold() -> bool:
    """True where numba will compile for certain: it has kept nothing of the loops as they are now, for this Python. False also
    where numba is not installed."""
    if not ACCELERATED:
        return False
    from . import vector_loops

    source = Path(vector_loops.__file__)
    kept = Path(vector_loops.rescale.stats.cache_path).glob(f"{source.stem}.*.py3{sys.version_info.minor}*.nbi")
    return all(index.stat().st_mtime < source.stat().st_mtime for index in kept)
