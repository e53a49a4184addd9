"""How sums become codes of a type; whole models are in test_backend.py and test_graph.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ditto_zynq.hls.contract.tensor import CODE, VALUE
from ditto_zynq.host.hls4ml.sums import OFFSET, Storage, is_exact, power_of_two, rescale, storage_of
from ditto_zynq.host.hls4ml.types import FixedPoint, Unsupported

LAYER = SimpleNamespace(name="dense")


@pytest.mark.parametrize("shift", [-29, -1, 0, 1, 62])
def test_a_multiplier_and_a_shift_are_a_power_of_two(shift):
    multiplier, bits = power_of_two(LAYER, shift)
    assert bits >= 1 and multiplier * 2.0**-bits == 2.0**-shift


def test_shifts_beyond_the_engines_are_refused():
    for shift in (-30, 63):
        with pytest.raises(Unsupported, match=f"dense: found a result of {shift} fraction bits fewer than the sums"):
            power_of_two(LAYER, shift)


def test_ranges_after_rounding():
    assert rescale(FixedPoint(8, 2, True), 4, -10, 10) == (2, -2, 3), "a half to plus infinity"
    assert rescale(FixedPoint(8, 2, True, "TRN"), 4, -10, 10) == (2, -3, 2), "down"
    assert rescale(FixedPoint(16, 4, True), 2, -10, 10) == (0, -10, 10), "what passes unchanged keeps its steps"
    assert is_exact(FixedPoint(16, 4, True), 2, -10, 10) and not is_exact(FixedPoint(16, 1, True), 2, -10, 10)


def test_where_codes_of_a_type_are_kept():
    assert storage_of(LAYER, FixedPoint(8, 0, True), -500, 500) == Storage(CODE, -128, 127)
    assert storage_of(LAYER, FixedPoint(16, 0, True), -500, 500).kind == VALUE
    assert storage_of(LAYER, FixedPoint(8, 0, False), 0, 500) == Storage(CODE, 0, 255, offset=OFFSET)
    assert storage_of(LAYER, FixedPoint(8, 0, True, saturation="SAT_SYM"), -500, 500).symmetric
    with pytest.raises(Unsupported, match="which wraps; expected SAT, or more bits"):
        storage_of(LAYER, FixedPoint(8, 0, True, saturation="WRAP"), -500, 500)
