"""Stated error bounds of the vector unit's functions against float64, over their whole domains."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract import tables as lut


def test_tables_are_what_their_formulas_say():
    assert len(lut.SILU_DEFICIT) == 513 and len(lut.EXP2_NEGATIVE) == 257 and len(lut.RECIPROCAL_SQUARE_ROOT) == 769
    assert (lut.EXP2_NEGATIVE[0], lut.EXP2_NEGATIVE[-1]) == (2**20, 2**19)
    assert (lut.RECIPROCAL_SQUARE_ROOT[0], lut.RECIPROCAL_SQUARE_ROOT[-1]) == (2**23, 2**22)


@pytest.mark.parametrize("name", lut.DEFICITS)
def test_a_deficit_fits_the_memory_that_all_share(name):
    """The kernels leave out the last knot, which is 0, and hold 15 bits."""
    table = lut.DEFICITS[name]
    assert table is getattr(lut, name) and table.shape == (lut.DEFICIT_KNOTS + 1,)
    assert table[-1] == 0 and table.min() >= 0 and table.max() < 1 << 15
