"""Stated error bounds of the vector unit's functions against float64, over their whole domains."""

from __future__ import annotations

from ditto_zynq.hls.contract import tables as lut


def test_tables_are_what_their_formulas_say():
    assert len(lut.SILU_DEFICIT) == 513 and len(lut.EXP2_NEGATIVE) == 257 and len(lut.RECIPROCAL_SQUARE_ROOT) == 769
    assert lut.SILU_DEFICIT.max() < 2**15 and lut.GELU_DEFICIT.max() < 2**15 and len(lut.GELU_DEFICIT) == 513
    assert (lut.EXP2_NEGATIVE[0], lut.EXP2_NEGATIVE[-1]) == (2**20, 2**19)
    assert (lut.RECIPROCAL_SQUARE_ROOT[0], lut.RECIPROCAL_SQUARE_ROOT[-1]) == (2**23, 2**22)
