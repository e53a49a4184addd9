"""Compiled counting equals the obvious NumPy version."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract.arithmetic import classify, count_digits
from ditto_zynq.host.compute import vector
from ditto_zynq.host.counting.digits import Encoded, count_convolution, count_rows
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
    lanes=st.integers(1, 16),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    spread=st.sampled_from([0, 3, 40, 255]),
    temporal=st.booleans(),
    chunk=st.integers(1, 20),
)
def test_both_implementations_agree(seed, size, lanes, kernel, stride, padding, spread, temporal, chunk):
    if size[0] + padding[0] + padding[1] < kernel[0] or size[1] + padding[2] + padding[3] < kernel[1]:
        return
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (2, *size)).astype(np.int8)
    previous = np.clip(codes + random.integers(-spread, spread + 1, codes.shape), -128, 127).astype(np.int8)
    arguments = (codes, previous if temporal else None, kernel, stride, padding, lanes, chunk)
    results = []
    accelerated = vector.ACCELERATED
    try:
        for vector.ACCELERATED in (True, False):
            results.append(count_convolution(*arguments))
    finally:
        vector.ACCELERATED = accelerated
    for name in ("classes", "cycles", "used"):
        assert np.array_equal(getattr(results[0], name), getattr(results[1], name)), name
    difference = codes.astype(int) - (previous.astype(int) if temporal else 0)
    for index, first in enumerate(range(0, size[2], chunk)):
        part = difference[..., first : first + chunk]
        kinds, found = classify(part), results[0].classes[:, :, index]
        assert np.array_equal(found[..., 0], (kinds == 0).sum(axis=(2, 3)))
        assert np.array_equal(found[..., 1], (kinds == 1).sum(axis=(2, 3)))
        assert np.array_equal(found[..., 2], count_digits(part).sum(axis=(2, 3)))


def totals(counted: Encoded) -> tuple[int, int, int]:
    """Cycles, digits, digits once for every window."""
    return int(counted.cycles.sum()), int(counted.classes[..., 2].sum()), int(counted.used.sum())


def test_a_pixel_costs_its_fullest_lane_and_at_least_one_cycle():
    codes = np.zeros((1, 1, 3, 4), np.int8)
    codes[0, 0, 1] = [1, 100, 0, 2]  # lane 0: channels 0 and 2, one digit; lane 1: channels 1 and 3, three digits
    counted = count_convolution(codes, None, (1, 1), (1, 1), (0, 0, 0, 0), lanes=2, chunk=4)
    assert totals(counted) == (1 + 3 + 1, 4, 4)
    wide = count_convolution(codes, None, (1, 3), (1, 1), (0, 0, 1, 1), lanes=2, chunk=4)
    assert totals(wide) == (3 + 3 + 3, 4, 12)
    halves = count_convolution(codes, None, (1, 1), (1, 1), (0, 0, 0, 0), lanes=2, chunk=2)
    assert halves.cycles.tolist() == [[[1 + 2 + 1, 1 + 1 + 1]]]


def test_rows_of_attention_operands():
    rows = np.array([[[1, 0, 0, 0], [0, 0, 0, 0], [16, 16, 17, 3]]], np.int8)
    assert totals(count_rows(rows, None, lanes=4, chunk=4))[:2] == (1 + 1 + 2, 1 + 0 + 5)
    assert totals(count_rows(rows, rows, lanes=4, chunk=4)) == (3, 0, 0)


def test_padding_wider_than_the_image():
    """Kernel taps that never meet the image add nothing, and the loops stay inside their arrays."""
    codes = np.full((2, 1, 1, 3), 100, np.int8)  # two digits each
    for padding in ((0, 0, 0, 3), (0, 0, 3, 0), (3, 3, 3, 3)):
        counted = count_convolution(codes, None, (1, 3), (1, 1), padding, lanes=3, chunk=3)
        pixels = 2 * (1 + padding[0] + padding[1]) * (1 + padding[2] + padding[3] - 2)
        windows = min(3, 1 + padding[2], 1 + padding[3])  # that hold the one image pixel of their sample
        assert totals(counted)[2] == 2 * windows * 6
        assert totals(counted)[0] == pixels + 2 * windows
