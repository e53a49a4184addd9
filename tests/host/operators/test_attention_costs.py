"""The bytes that products of attention touch are those that windows and heads of an array are made of."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators.attention import join_heads, split_heads
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.forms import Attention
from ditto_zynq.hls.machine.isa import SCALARS, Flag, Opcode
from ditto_zynq.host.operators.attention_costs import AttentionProducts, counts_of_copying, first_pixel, token_pixels

from tests.host.operators.small import CONFIG

PLAIN = Flag(0)
BATCH, WINDOWS, HEADS, QUERIES, KEYS, DEPTH = 2, 3, 2, 4, 5, 6  # depth of a head


def form_of(opcode: Opcode, flags: Flag = PLAIN, **changes: int) -> Attention:
    plan = {"block_rows": 1, "chunk_channels": 4, "pass_tiles": 1, "segment_pixels": 1}
    other = {"other_block_rows": 1, "other_chunk_channels": 4, "other_pass_tiles": 1}
    sizes = {"windows": WINDOWS, "heads": HEADS, "queries": QUERIES, "keys": KEYS, "depth": HEADS * DEPTH}
    places = {"input": 1000, "input_pitch": 17, "other": 5000, "other_pitch": 19, "output": 9000, "output_pitch": 23}
    numbers = plan | other | sizes | places | changes
    return Attention(opcode=opcode, flags=int(flags), batch=BATCH, instances=WINDOWS * HEADS, **numbers)


def scalars_of(reference: Reference = Reference.ZERO, keep: int = 0, parity: int = 0) -> np.void:
    record = np.zeros(1, SCALARS)
    record["reference"], record["keep_state"], record["parity"] = reference, keep, parity
    return record[0]


def bytes_of(first: np.ndarray, pitch: int, rows: int, columns: int) -> np.ndarray:
    """[instances, rows, columns]."""
    return first[:, None, None] + np.arange(rows)[:, None] * pitch + np.arange(columns)


def image(start: int, pitch: int, tokens: int) -> np.ndarray:
    """The byte of every channel of every pixel of all samples, [B, pixels, 1, C]."""
    pixels = np.arange(BATCH * WINDOWS * tokens).reshape(BATCH, -1, 1, 1)
    return start + pixels * pitch + np.arange(HEADS * DEPTH)


@pytest.mark.parametrize("flags", [PLAIN, Flag.INTERLEAVED], ids=["one after the other", "interleaved"])
def test_operands_and_results_are_where_the_contract_has_them(flags):
    interleaved = bool(flags)
    split = (HEADS, WINDOWS, interleaved)
    (scores,) = AttentionProducts(form_of(Opcode.SCORES, flags), scalars_of()).all()
    q, k = (split_heads(image(*place), *split) for place in ((1000, 17, QUERIES), (5000, 19, KEYS)))
    assert np.array_equal(bytes_of(scores.input, scores.input_pitch, QUERIES, DEPTH), q.reshape(-1, QUERIES, DEPTH))
    assert np.array_equal(bytes_of(scores.weights, scores.weight_pitch, KEYS, DEPTH), k.reshape(-1, KEYS, DEPTH))
    rows = np.arange(BATCH * WINDOWS * HEADS) * QUERIES
    assert np.array_equal(scores.output, 9000 + 2 * 23 * rows), "values, a row after the other"

    (mix,) = AttentionProducts(form_of(Opcode.MIX, flags | Flag.CODE_OUTPUT), scalars_of()).all()
    assert np.array_equal(mix.input, 1000 + 17 * rows)
    assert np.array_equal(bytes_of(mix.weights, mix.weight_pitch, KEYS, DEPTH), k.reshape(-1, KEYS, DEPTH))
    found = bytes_of(mix.output, mix.output_pitch, QUERIES, DEPTH).reshape(BATCH, -1, QUERIES, DEPTH)
    assert np.array_equal(join_heads(found, *split), image(9000, 23, QUERIES)[:, :, 0])


@pytest.mark.parametrize("interleaved", [False, True])
def test_pixels_of_tokens(interleaved):
    form = form_of(Opcode.SCORES, Flag.INTERLEAVED if interleaved else PLAIN)
    pixels = np.arange(BATCH * WINDOWS * KEYS).reshape(BATCH, *((KEYS, WINDOWS) if interleaved else (WINDOWS, KEYS)))
    of_windows = (pixels.swapaxes(1, 2) if interleaved else pixels).reshape(BATCH * WINDOWS, KEYS)
    assert np.array_equal(first_pixel(form, np.arange(BATCH * WINDOWS), KEYS), of_windows[:, 0])
    assert set(np.diff(of_windows, axis=1).ravel().tolist()) == {token_pixels(form)}


def test_differences_of_both_operands_take_two_products():
    states = {"state_input": 0, "state_input_span": 1024, "state_other": 4096, "state_other_span": 2048}
    scalars = scalars_of(Reference.PREVIOUS_STEP, keep=1, parity=1)
    first, second = AttentionProducts(form_of(Opcode.MIX, **states), scalars).all()
    assert (first.kept[0], first.previous[0]) == (1024, 0) and (second.kept[0], second.previous[0]) == (
        4096 + 2048,
        4096,
    )
    assert first.weights[0] == 4096 and second.weights[0] == 1000, "V of the step before; P of this one"
    assert first.finish and not second.finish and second.gathered
    assert (second.height, second.outputs) == (DEPTH, QUERIES), "transposed"
    assert second.accumulator_channel == first.accumulator_pixel == DEPTH
    (alone,) = AttentionProducts(form_of(Opcode.MIX, Flag.CONSTANT_OTHER, **states), scalars).all()
    assert alone.difference and alone.weights[0] == 5000, "V as it is"


def test_beats_of_copying_by_hand():
    """10 tokens of a sample in 2 windows, 2 heads of 8 bytes: a beat for each, which the other head's half fills too."""
    form = form_of(Opcode.SCORES, windows=2, depth=16, other=64, other_pitch=16, state_other=0)
    found = counts_of_copying(CONFIG, form, scalars_of(keep=1))
    assert found == {"cycles": 40, "input_beats": 40, "kept_beats": 40, "merged_beats": 40}
