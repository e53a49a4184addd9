"""A plan passes where it fills a buffer to its last entry, and is refused with one row, word or tile more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ditto_zynq.hls.machine.accesses import Sizes
from ditto_zynq.hls.machine.forms import Attention, Convolution, Linear
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.hls.machine.plan_rules import check_plans
from ditto_zynq.hls.machine.refusal import Rules

from tests.hls.configs import TINY  # 3 lanes, tiles of 8, 40 positions, 64 digits, 12 sums, 20 words, 6 and 120 bytes

FITS, WHOLE = "blocks, chunks and passes that fit the buffers", "blocks, chunks and passes of the operator"
POINT = Convolution(  # 8 rows of 4 pixels, 27 channels (9 words) -> 24 (3 tiles)
    opcode=Opcode.CONVOLUTION,
    height=8,
    width=4,
    channels=27,
    output_height=8,
    output_width=4,
    output_channels=24,
    kernel_height=1,
    kernel_width=1,
    stride_height=1,
    block_rows=1,
    chunk_channels=27,
    pass_tiles=1,
)
WINDOW = replace(POINT, kernel_height=3, kernel_width=3, channels=6, chunk_channels=6)  # 9 taps of 2 words


def refused(form: Linear) -> str | None:
    rules = Rules()
    check_plans(rules, Sizes(np.stack([form.encode()])), TINY)
    return None if rules.refusal is None else rules.refusal.reason


@pytest.mark.parametrize(
    ("form", "change", "reason"),
    [
        (POINT, {}, None),
        (POINT, {"block_rows": 2}, FITS),  # 8 positions of 9 words are more than 64 digits
        (POINT, {"block_rows": 2, "chunk_channels": 24}, None),
        (POINT, {"block_rows": 3, "chunk_channels": 15}, None),  # 12 sums
        (POINT, {"block_rows": 4, "chunk_channels": 12}, FITS),  # 16 sums
        (POINT, {"block_rows": 1, "pass_tiles": 3, "chunk_channels": 18}, None),  # 12 sums, 18 words
        (POINT, {"block_rows": 1, "pass_tiles": 3, "chunk_channels": 21}, FITS),  # 21 words
        (POINT, {"pass_tiles": 2, "flags": int(Flag.RESIDENT)}, None),  # 18 words of all chunks
        (POINT, {"pass_tiles": 3, "chunk_channels": 18, "flags": int(Flag.RESIDENT)}, FITS),  # 27
        (POINT, {"block_rows": 9}, WHOLE),
        (POINT, {"pass_tiles": 4}, WHOLE),
        (POINT, {"chunk_channels": 26}, WHOLE),
        (POINT, {"chunk_channels": 30}, WHOLE),
        (WINDOW, {}, None),  # 12 positions of 2 words, 18 words of weights
        (WINDOW, {"width": 10}, None),  # 3 rows of 10 positions
        (WINDOW, {"width": 10, "extra_columns": 1}, FITS),  # 33 positions of 2 words
        (WINDOW, {"pass_tiles": 2}, FITS),
    ],
)
def test_plans_of_convolutions(form, change, reason):
    assert refused(replace(form, **change)) == reason


ATTENTION = {"windows": 1, "heads": 2, "instances": 2, "queries": 9, "keys": 10, "depth": 12}  # 6 channels a head
PLANS = {"block_rows": 1, "pass_tiles": 1, "other_block_rows": 1, "other_pass_tiles": 1}
SCORES = Attention(opcode=Opcode.SCORES, chunk_channels=6, other_chunk_channels=6, **ATTENTION, **PLANS)
MIX = Attention(opcode=Opcode.MIX, chunk_channels=10, other_chunk_channels=6, **ATTENTION, **PLANS)


@pytest.mark.parametrize(
    ("form", "change", "reason"),
    [
        (SCORES, {}, None),
        (SCORES, {"depth": 24, "chunk_channels": 9}, FITS),  # 9 channels are staged in room for 6
        (SCORES, {"depth": 24, "other_chunk_channels": 9}, f"other_{FITS}"),
        (SCORES, {"block_rows": 9, "other_block_rows": 10}, None),
        (SCORES, {"block_rows": 10}, WHOLE),
        (SCORES, {"other_block_rows": 11}, f"other_{WHOLE}"),
        (SCORES, {"pass_tiles": 2, "other_pass_tiles": 2}, None),  # 10 keys, 9 queries
        (MIX, {}, None),  # P is not staged
        (MIX, {"other_chunk_channels": 9}, f"other_{FITS}"),
        (MIX, {"other_block_rows": 6}, None),
        (MIX, {"keys": 6, "chunk_channels": 6, "depth": 32, "other_block_rows": 12}, None),  # one beat of 8 bytes each
        (MIX, {"keys": 6, "chunk_channels": 6, "depth": 32, "other_block_rows": 13}, f"other_{FITS}"),  # 13 sums
        (MIX, {"pass_tiles": 2}, WHOLE),  # 6 channels a head
    ],
)
def test_plans_of_both_products_of_attention(form, change, reason):
    assert refused(replace(form, **change)) == reason


def test_an_operand_that_is_turned_round_fits_its_buffer():
    """A block's rows of whole beats, 8 bytes wide: 15 of them."""
    wide = replace(MIX, depth=80, keys=6, chunk_channels=6)
    roomy = TINY.modelled(accumulator_depth=64, gather_bytes=120)
    for rows, reason in ((15, None), (16, f"other_{FITS}")):
        rules = Rules()
        check_plans(rules, Sizes(np.stack([replace(wide, other_block_rows=rows).encode()])), roomy)
        assert (None if rules.refusal is None else rules.refusal.reason) == reason
