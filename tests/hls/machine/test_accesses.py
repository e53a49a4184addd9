"""Accesses name the bytes that a descriptor touches, and no two that share a byte are taken for apart."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.machine.accesses import HUGE, Access, Sizes, is_aligned, is_inside, times
from ditto_zynq.hls.machine.forms import Attention, Pair
from ditto_zynq.hls.machine.isa import Flag, Opcode, Region

LARGEST = (1 << 32) - 1


def access(rows: np.ndarray, region: Region = Region.ACTIVATIONS) -> Access:
    """``rows``: start, pitch, width and rows of each descriptor, int64 [n, 4]."""
    nothing = np.zeros(len(rows), np.int64)
    return Access("x", region, nothing == 0, *rows.T, nothing, nothing + 1)


def touched(start: int, pitch: int, width: int, rows: int) -> set[int]:
    return {start + row * pitch + byte for row in range(rows) for byte in range(width)}


def test_products_saturate():
    sizes = np.array([0, 1, 65535, LARGEST, HUGE])
    assert times(sizes, sizes, sizes).tolist() == [0, 1, 65535**3, HUGE, HUGE]
    assert times(np.array([HUGE // 2 + 1]), 1).tolist() == [HUGE // 2 + 1]


def test_accesses_that_share_a_byte_meet():
    random = np.random.default_rng(0)
    one, other = (
        np.stack(
            [random.integers(0, 24, 3000), pitch, random.integers(1, pitch + 1), random.integers(1, 4, 3000)], axis=1
        )
        for pitch in random.integers(1, 9, (2, 3000))
    )
    other[::2, 1] = one[::2, 1]  # parts of a concatenation have one pitch
    other[::2, 2] = np.minimum(other[::2, 2], other[::2, 1])
    found = access(one).meets(access(other))
    shared = np.array([bool(touched(*x) & touched(*y)) for x, y in zip(one.tolist(), other.tolist(), strict=True)])
    assert not (shared & ~found).any(), "taken for apart"
    assert (~found).sum() > 1000 and not access(one).meets(access(one, Region.STATE)).any()
    ends = np.array([1 + max(touched(*row)) for row in one.tolist()])
    assert np.array_equal(access(one).end, ends)
    assert np.array_equal(is_inside(access(one), {Region.ACTIVATIONS: 30}), ends <= 30)


def test_parts_of_a_concatenation_lie_between_each_other():
    """Of 12 bytes a pixel the first 5, the last 7, and 6 in between."""
    first, last, between = (np.array([[start, 12, width, 4]]) for start, width in ((0, 5), (5, 7), (3, 6)))
    assert not access(first).meets(access(last)).any()
    assert access(first).meets(access(between)).all() and access(last).meets(access(between)).all()


def test_operands_of_a_program_by_hand():
    """A sum of 2 samples of 3 x 4 pixels of 5 values into codes, and K of 2 windows of 6 keys in 8 channels."""
    flags = int(Flag.QUANTIZE | Flag.CODE_OUTPUT)
    size = {"height": 3, "width": 4, "channels": 5, "output_height": 3, "output_width": 4, "output_channels": 5}
    places = {"input": 100, "input_pitch": 9, "other": 2001, "other_pitch": 5, "output": 4000, "output_pitch": 20}
    pair = Pair(opcode=Opcode.ADD, flags=flags, batch=2, **size, **places)
    scores = Attention(opcode=Opcode.SCORES, batch=2, windows=2, heads=2, keys=6, depth=8, other=640, other_pitch=10)
    tensors = Sizes(np.stack([pair.encode(), scores.encode()])).tensors()
    first, second, result = tensors
    assert [int(each.end[0]) for each in tensors] == [100 + 23 * 18 + 10, 2001 + 23 * 10 + 10, 4000 + 23 * 20 + 5]
    assert [int(each.sample_bytes[0]) for each in tensors] == [12 * 18, 12 * 10, 12 * 20]
    assert int(second.end[1]) == 640 + 23 * 10 + 8 and int(second.rows[1]) == 2 * 2 * 6
    assert [bool(is_aligned(each)[0]) for each in tensors] == [True, False, True], "values at an odd byte"
    assert first.region == result.region == Region.ACTIVATIONS and result.writes and not first.writes
