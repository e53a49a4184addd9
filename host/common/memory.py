"""Device memory in software."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.machine.isa import Region
from .errors import DeviceError

SLACK = 1 << 18  # bytes that follow each buffer, so that the last pixel of a slice can be viewed at full pitch


@dataclass(frozen=True)
class Memory:
    """Device memory by region: uint8 arrays of the region's bytes and SLACK more. PARAMETERS may move between two runs."""

    regions: dict[Region, np.ndarray]

    def view(self, region: Region, offset: int, dtype: Any, shape: tuple[int, ...], unused: int = 0) -> np.ndarray:
        """A typed view; DeviceError where it leaves the region. The last ``unused`` elements may lie behind it."""
        dtype = np.dtype(dtype)
        end = offset + int(np.prod(shape)) * dtype.itemsize
        size = self.regions[region].size - SLACK
        if end - unused * dtype.itemsize > size:
            raise DeviceError(f"a descriptor reaches byte {end} of {region.name}, which has {size}")
        return self.regions[region][offset:end].view(dtype).reshape(shape)
