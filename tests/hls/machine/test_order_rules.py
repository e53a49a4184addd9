"""What runs at the same time shares no result, and parts of a batch follow each other in memory with nothing between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ditto_zynq.hls.machine.accesses import Sizes
from ditto_zynq.hls.machine.forms import Activate, Convolution, Form, Norm
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.hls.machine.order_rules import check_neighbours, check_parts
from ditto_zynq.hls.machine.refusal import Rules

from tests.hls.configs import TINY

SIZE = {"height": 1, "width": 4, "channels": 32, "output_height": 1, "output_width": 4, "output_channels": 32}
PITCHES = {"input_pitch": 32, "output_pitch": 32}
CODES = Flag.CODE_INPUT
CONVOLUTION = Convolution(  # codes 0 to 127 -> values 1000 to 1255
    opcode=Opcode.CONVOLUTION, flags=CODES, batch=1, input=0, output=1000, channel_groups=0, **SIZE, **PITCHES
)
NORM = Norm(opcode=Opcode.GROUP_NORM, batch=1, input=1000, output=2000, groups=4, **SIZE, **PITCHES)
ACTIVATE = Activate(opcode=Opcode.ACTIVATE, batch=1, input=4000, output=5000, activation=1, **SIZE, **PITCHES)


def records(*forms: Form) -> np.ndarray:
    return np.stack([form.encode() for form in forms])


def refused_neighbours(*forms: Form) -> str | None:
    rules = Rules()
    check_neighbours(rules, Sizes(records(*forms)), TINY)
    return None if rules.refusal is None else rules.refusal.reason


@pytest.mark.parametrize(
    ("change", "after", "reason"),
    [
        ({}, ACTIVATE, None),
        ({}, None, "a descriptor to run at the same time"),
        ({}, CONVOLUTION, "a pair of a linear and a vector operation"),
        ({}, replace(ACTIVATE, output=1255), "pairs that share no result"),
        ({}, replace(ACTIVATE, output=1256), None),
        ({}, replace(ACTIVATE, output=126), "pairs that share no result"),
        ({}, replace(ACTIVATE, output=128), None),
        ({}, replace(ACTIVATE, input=1000), "pairs that share no result"),
        ({"channel_groups": 2}, ACTIVATE, "channel groups or a pair"),
    ],
)
def test_pairs_of_a_linear_and_a_vector_operation(change, after, reason):
    paired = replace(CONVOLUTION, flags=CODES | Flag.PAIRED, **change)
    assert refused_neighbours(paired, *([] if after is None else [after])) == reason


@pytest.mark.parametrize(
    ("groups", "after", "reason"),
    [
        (2, NORM, None),
        (4, NORM, None),
        (1, NORM, "legal channel groups"),
        (TINY.channel_groups + 1, NORM, "legal channel groups"),
        (3, NORM, "whole tiles and norm groups in a channel group"),
        (4, replace(NORM, groups=2), "whole tiles and norm groups in a channel group"),
        (2, replace(NORM, input=1064), "channel groups of the GROUP_NORM's operand"),
        (2, replace(NORM, opcode=Opcode.LAYER_NORM), "channel groups of the GROUP_NORM's operand"),
        (2, replace(NORM, output=64), "channel groups that keep the operand"),
    ],
)
def test_channel_groups_of_a_convolution_and_the_norm_after_it(groups, after, reason):
    assert refused_neighbours(replace(CONVOLUTION, channel_groups=groups), after) == reason


PART = replace(ACTIVATE, layer=0)
LATER = replace(PART, node=2, input=4000 + 256, output=5000 + 256)  # a sample has 4 pixels of 64 bytes
OTHER = replace(ACTIVATE, node=1, layer=1, input=7000, output=8000)


def refused_parts(*forms: Form) -> str | None:
    rules, table = Rules(), records(*forms)
    check_parts(rules, Sizes(table), table)
    return None if rules.refusal is None else rules.refusal.reason


@pytest.mark.parametrize(
    ("between", "later", "reason"),
    [
        (OTHER, LATER, None),
        (OTHER, replace(LATER, input=4000 + 258), "parts of a batch that follow each other"),
        (OTHER, replace(LATER, activation=2), "parts of a batch that follow each other"),
        (OTHER, replace(LATER, flags=int(Flag.PAIRED)), None),
        (replace(OTHER, output=4256), LATER, "parts of a batch that other descriptors between them leave alone"),
        (replace(OTHER, output=4256 + 256), LATER, None),
        (replace(OTHER, input=5256), LATER, "parts of a batch that other descriptors between them leave alone"),
    ],
)
def test_parts_of_a_batch(between, later, reason):
    assert refused_parts(PART, between, later) == reason


def test_parts_are_near_each_other():
    between = [replace(OTHER, layer=index) for index in range(1, 257)]
    assert refused_parts(PART, *between[:-1], LATER) is None
    assert refused_parts(PART, *between, LATER) == "parts of a batch at most 256 descriptors apart"
