"""Beats and rows of products, counted one by one: which rows a block reads, and which weights a pass fetches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.plan import Plan
from ditto_zynq.host.counting.product_cycles import COLUMNS, PACKED, ROWS, Product, ProductModel

HERE = np.zeros(1, np.int64)
PRODUCT = Product(  # 6 rows of 4 pixels of 16 channels, each a beat -> 32 channels, in blocks of a row
    plan=Plan(1, 16, 1, 1, True),
    samples=1,
    height=6,
    width=4,
    channels=16,
    output_height=6,
    output_width=4,
    outputs=32,
    kernel=(1, 1),
    stride=(1, 1),
    pad_top=0,
    input=HERE,
    input_pitch=16,
    kept=HERE,
    previous=HERE,
    kept_pitch=16,
    difference=False,
    keep_input=False,
    layout=PACKED,
    weights=HERE,
    weight_pitch=0,
    accumulators=HERE,
    accumulator_pixel=32,
    accumulator_channel=1,
    add_accumulators=False,
    keep_accumulators=False,
    output=HERE,
    output_pitch=32,
    output_bytes=2,
)


def counts(config: HardwareConfig, **changes) -> dict[str, int]:
    """On a dense array: as many cycles as there are taps and words."""
    model = ProductModel(config, replace(PRODUCT, **changes))
    return model.count(model.dense())


def test_every_row_is_kept_once_and_windows_see_their_rows():
    """Windows of 3 rows, 2 apart, over 5 rows with one of padding above: rows -1 to 1, 1 to 3 and 3 to 5."""
    product = replace(PRODUCT, kernel=(3, 3), stride=(2, 1), pad_top=1, height=5, output_height=3)
    kept_from, low, high = (each.tolist() for each in product.input_rows())
    assert (low, high) == ([0, 1, 3], [2, 4, 5])
    kept = [row for first, end in zip(kept_from, high, strict=True) for row in range(first, end)]
    assert kept == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("cores", "rows"), [(1, 2 + 4 * 3 + 2), (2, 3 + 4 + 3), (3, 4 + 4)])
def test_cores_of_a_round_share_the_rows_that_they_read(cores, rows):
    """Of six blocks, each of which sees the row above and the row below it."""
    found = counts(HardwareConfig(cores=cores), kernel=(3, 3), pad_top=1)
    assert found["input_beats"] == rows * 4
    assert found["elements"] == (2 + 4 * 3 + 2) * 4 * 16, "each core encodes all of its rows"


def test_weights_are_fetched_once_where_they_stay_and_in_every_round_where_not():
    """Two chunks of 8 channels, two tiles: 8 channels of 32 bytes each."""
    config = HardwareConfig(cores=2)
    for resident, rounds in ((True, 1), (False, 3)):
        found = counts(config, plan=Plan(1, 8, 1, 1, resident), outputs=64, output_pitch=64, accumulator_pixel=64)
        assert found["weight_beats"] == rounds * 2 * 2 * 8 * 2
        assert found["input_beats"] == 2 * 24 * 2, "both halves of every pixel, in two passes"


@pytest.mark.parametrize("layout", [ROWS, COLUMNS])
def test_weights_that_are_another_operand(layout):
    """19 rows of 16 channels, or 16 rows of 19, at odd addresses of two instances; beats are counted byte by byte."""
    starts, pitch = np.array([5, 1003]), 23
    length, rows = (16, 19) if layout == ROWS else (19, 16)
    runs = [int(start) + row * pitch for start in starts for row in range(rows)]
    expected = sum(len({byte // 16 for byte in range(run, run + length)}) for run in runs)
    two = {name: np.zeros(2, np.int64) for name in ("input", "kept", "previous", "accumulators", "output")}
    found = counts(HardwareConfig(), layout=layout, weights=starts, weight_pitch=pitch, outputs=19, **two)
    assert found["weight_beats"] == expected
