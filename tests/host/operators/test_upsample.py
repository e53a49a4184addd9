"""Upsampling reads every pixel once and writes it as often as it is needed, codes and values alike."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small, value_of


def upsampled(kind: str, factor: int = 2, crop: tuple[int, int] = (1, 0)) -> Small:
    """2 x 2 pixels of 20 channels."""
    build = GraphBuilder(0)
    source = build.input((2, 2, 20)) if kind == "code" else value_of(build, (2, 2, 20))
    return Small(build, build.upsample(source, factor, crop))


@pytest.mark.parametrize("kind", ["code", "value"])
def test_numbers_of_the_descriptor(kind):
    form = (small := upsampled(kind, 3, (2, 1))).form(small.graph.output)
    assert (form.opcode, form.factor, form.factor_width) == (Opcode.UPSAMPLE, 3, 3)
    assert (form.output_height, form.output_width, form.output_channels) == (4, 5, 20)
    assert form.has(Flag.CODE_INPUT) == form.has(Flag.CODE_OUTPUT) == (kind == "code")


@pytest.mark.parametrize(
    ("kind", "read", "words", "merged"),
    [
        ("code", 4 * 2, 2, 3 * (1 + 2 + 2 + 1)),  # 20 bytes a pixel, whose ends fill a part of a beat, both or one
        ("value", 4 * 3, 3, 12),  # 40 bytes: two beats and a half
    ],
)
def test_beats_and_cycles_by_hand(kind, read, words, merged):
    small = upsampled(kind)
    cycles = {"vector_cycles": 12 * words, "cycles": 12 * words}
    expected = {"input_beats": read, "output_beats": 12 * words, "merged_beats": merged, **cycles}
    assert small.counts(small.graph.output) == expected


@pytest.mark.parametrize("kind", ["code", "value"])
def test_samples(kind):
    small = upsampled(kind, 3, (1, 2))
    small.check_samples(small.graph.output)
    with pytest.raises(Wrong):
        small.check_samples(small.graph.output, spoiled=(0, 4, 3, 19), samples=500)
