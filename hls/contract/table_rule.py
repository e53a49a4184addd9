"""What one integer table may be: type, shape, and the range in which no kernel overflows and no shift is undefined.

All implementations compute in int64 and shift by 0 to 63. The ranges follow from the operators: a sum and its bias stay in
int32, so that they times a multiplier of 31 bits stay in 63; the other bounds are derived where they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arithmetic import ACCUMULATOR_RANGE, MAX_SHIFT

INT8, INT16, INT32, INT64, FLOAT64 = (np.dtype(kind) for kind in (np.int8, np.int16, np.int32, np.int64, np.float64))


@dataclass(frozen=True)
class TableRule:
    """``dtypes`` (any of them), ``shape``, smallest and largest entry. Floats are finite."""

    dtypes: tuple[np.dtype, ...]
    shape: tuple[int, ...]
    low: float
    high: float

    def check(self, name: str, table: Any) -> None:
        """ValueError where ``table`` is missing or is another one."""
        expected = f"expected {' or '.join(map(str, self.dtypes))} {self.shape}"
        if table is None:
            raise ValueError(f"found no {name}, {expected}")
        if table.dtype not in self.dtypes or table.shape != self.shape:
            raise ValueError(f"{name}: found {table.dtype} {table.shape}, {expected}")
        limits = None if table.dtype.kind == "f" else np.iinfo(table.dtype)
        if limits is not None and self.low <= limits.min and limits.max <= self.high:
            return
        least, most = table.min(), table.max()
        if not (self.low <= least and most <= self.high):  # NaN neither
            found = least if not self.low <= least else most
            raise ValueError(f"{name}: found {found}, expected {self.low} to {self.high}")


def shift_rule(groups: int) -> TableRule:
    """The rule of the shifts [groups] of a requantizer."""
    return TableRule((INT32,), (groups,), 0, MAX_SHIFT)


def requantizer_rules(groups: int, *each: int) -> dict[str, TableRule]:
    """The rules of the multipliers [groups, *each] and shifts [groups] that bring sums to another scale."""
    return {"multiplier": TableRule((INT32,), (groups, *each), *ACCUMULATOR_RANGE), "shift": shift_rule(groups)}
