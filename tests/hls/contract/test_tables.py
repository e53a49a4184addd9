"""Stated error bounds of the vector unit's functions against float64, over their whole domains."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import tables as lut


def test_tables_are_what_their_formulas_say():
    assert len(lut.SILU_DEFICIT) == 513 and len(lut.EXP2_NEGATIVE) == 257 and len(lut.RECIPROCAL_SQUARE_ROOT) == 769
    assert set(lut.deficits()) == {"SILU_DEFICIT", "GELU_DEFICIT", "MISH_DEFICIT", "MISH_NEGATIVE_DEFICIT"}
    assert (lut.EXP2_NEGATIVE[0], lut.EXP2_NEGATIVE[-1]) == (2**20, 2**19)
    assert (lut.RECIPROCAL_SQUARE_ROOT[0], lut.RECIPROCAL_SQUARE_ROOT[-1]) == (2**23, 2**22)


def test_a_table_that_does_not_end_with_0_is_refused(monkeypatch):
    monkeypatch.setattr(lut, "STEP_DEFICIT", np.ones(513, np.int32), raising=False)
    with pytest.raises(ValueError, match="STEP_DEFICIT: found 513 knots that end with 1, expected 513 of 15 bits"):
        lut.deficits()
