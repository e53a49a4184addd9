"""Compiled counting equals the obvious NumPy version."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.arithmetic import classify, count_digits
from ditto_zynq.host import vector
from ditto_zynq.host.counting import count_convolution, count_rows
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
    lanes=st.integers(1, 16),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    spread=st.sampled_from([0, 3, 40, 255]),
    temporal=st.booleans(),
)
def test_both_implementations_agree(seed, size, lanes, kernel, stride, padding, spread, temporal):
    if size[0] + padding[0] + padding[1] < kernel[0] or size[1] + padding[2] + padding[3] < kernel[1]:
        return
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (2, *size)).astype(np.int8)
    previous = np.clip(codes + random.integers(-spread, spread + 1, codes.shape), -128, 127).astype(np.int8)
    arguments = (codes, previous if temporal else None, kernel, stride, padding, lanes)
    results = []
    accelerated = vector.ACCELERATED
    try:
        for vector.ACCELERATED in (True, False):
            results.append(count_convolution(*arguments))
    finally:
        vector.ACCELERATED = accelerated
    assert results[0] == results[1]
    difference = codes.astype(int) - (previous.astype(int) if temporal else 0)
    assert results[0].elements == difference.size
    assert results[0].zeros == (classify(difference) == 0).sum()
    assert results[0].narrow == (classify(difference) == 1).sum()
    assert results[0].digits == count_digits(difference).sum()


def test_a_pixel_costs_its_fullest_lane_and_at_least_one_cycle():
    codes = np.zeros((1, 1, 3, 4), np.int8)
    codes[0, 0, 1] = [1, 100, 0, 2]  # lane 0: channels 0 and 2, one digit; lane 1: channels 1 and 3, three digits
    counted = count_convolution(codes, None, (1, 1), (1, 1), (0, 0, 0, 0), lanes=2)
    assert (counted.pixel_cycles, counted.digits, counted.used_digits) == (1 + 3 + 1, 4, 4)
    wide = count_convolution(codes, None, (1, 3), (1, 1), (0, 0, 1, 1), lanes=2)
    assert (wide.pixel_cycles, wide.used_digits) == (3 + 3 + 3, 12)


def test_rows_of_attention_operands():
    rows = np.array([[[1, 0, 0, 0], [0, 0, 0, 0], [16, 16, 17, 3]]], np.int8)
    counted = count_rows(rows, None, lanes=4)
    assert (counted.pixel_cycles, counted.digits, counted.elements) == (1 + 1 + 2, 1 + 0 + 5, 12)
    assert count_rows(rows, rows, lanes=4).digits == 0


def test_padding_wider_than_the_image():
    """Kernel taps that never meet the image add nothing, and the loops stay inside their arrays."""
    codes = np.full((2, 1, 1, 3), 100, np.int8)  # two digits each
    for padding in ((0, 0, 0, 3), (0, 0, 3, 0), (3, 3, 3, 3)):
        counted = count_convolution(codes, None, (1, 3), (1, 1), padding, lanes=3)
        pixels = 2 * (1 + padding[0] + padding[1]) * (1 + padding[2] + padding[3] - 2)
        windows = min(3, 1 + padding[2], 1 + padding[3])  # that hold the one image pixel of their sample
        assert counted.used_digits == 2 * windows * 6
        assert counted.pixel_cycles == pixels + 2 * windows
