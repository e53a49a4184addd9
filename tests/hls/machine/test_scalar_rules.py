"""Scalars pass at the ends of their ranges, are refused beyond them, and ask for nothing that STATE has no room for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.machine.isa import SCALARS, Flag, Opcode, Region
from ditto_zynq.hls.machine.scalar_rules import ScalarRules
from ditto_zynq.host.program.compiler import Program, compile_program
from ditto_zynq.host.runtime.session import FLOWS, KEEPS_NOTHING, reference_of

from tests.host.devices.hostile import CONFIG, scalars_of


def compiled(history: bool = True) -> Program:
    build, graph = random_unet(3)
    return compile_program(graph, build.tables, CONFIG, 2, history=history)


def block_of(program: Program, flow: str) -> np.ndarray:
    keeps = flow not in KEEPS_NOTHING
    return scalars_of(program.parameters.block(0, np.zeros(2, np.int64), reference_of(flow, 0), keeps), program)


def test_state_that_is_not_there():
    """A program without memory for history runs flows that keep nothing, and is refused for the others."""
    program = compiled(history=False)
    rules = ScalarRules(program.descriptors, program.sizes)
    for flow in FLOWS:
        refusal = rules.check(block_of(program, flow))
        assert (refusal is None) == (flow in KEEPS_NOTHING), flow
    assert refusal.reason == "what is kept inside STATE, aligned and apart"


@pytest.mark.parametrize(
    ("opcode", "field", "legal", "illegal"),
    [
        (Opcode.SOFTMAX, "shift", (0, 62), (-1, 63)),
        (Opcode.SOFTMAX, "multiplier0", (0, 2**31 - 1), (-1,)),
        (Opcode.GROUP_NORM, "gain_bits", (0, 28), (-1, 29)),
        (Opcode.GROUP_NORM, "epsilon", (1, 2**62 - 1), (0, 2**62)),
        (Opcode.CONVOLUTION, "reference", (0, 2), (-1, 5)),
        (Opcode.ADD, "multiplier1", (-(2**31), 2**31 - 1), ()),
        (Opcode.ADD, "epsilon", (-1, 0), ()),  # which no sum reads
    ],
)
def test_scalars_pass_up_to_the_ends_of_their_ranges(opcode, field, legal, illegal):
    build, graph = random_unet(1)
    program = compile_program(graph, build.tables, CONFIG, 1)
    rules, index = (
        ScalarRules(program.descriptors, program.sizes),
        int(np.argmax(program.descriptors["opcode"] == opcode)),
    )
    assert program.descriptors["opcode"][index] == opcode

    def refused(value: int):
        scalars = np.array(scalars_of(program.parameters.block(0, np.zeros(1, np.int64), 0, False), program))
        scalars[field][index] = value
        return rules.check(scalars)

    assert [refused(value) for value in legal] == [None] * len(legal)
    for value in illegal:
        assert (refused(value).index, refused(value).reason) == (index, f"a legal {field}")


def test_parts_of_a_batch_keep_nothing_where_another_layer_does():
    """A later part runs with the first one on the emulator: what layers between them keep must be elsewhere."""
    build, graph = random_unet(3)
    program = compile_program(graph, build.tables, replace(CONFIG, batch_parts=2), 3)
    descriptors = program.descriptors.copy()
    layers, linear = descriptors["layer"], descriptors["opcode"] <= Opcode.MIX
    firsts = [int(np.flatnonzero(layers == layer)[0]) for layer in layers]
    later, other = next(
        (later, other)
        for later, first in enumerate(firsts)
        for other in range(first + 1, later)
        if linear[later] and linear[other] and firsts[other] > first
    )
    scalars = np.array(scalars_of(program.parameters.block(0, np.zeros(3, np.int64), 0, True), program))
    assert ScalarRules(descriptors, program.sizes).check(scalars) is None
    descriptors["state_accumulators"][other] = descriptors["state_accumulators"][later]
    assert (
        ScalarRules(descriptors, program.sizes).check(scalars).reason == "what is kept inside STATE, aligned and apart"
    )


def test_whoever_follows_asks_for_what_its_leader_asks_for():
    program = compiled()
    rules, scalars = ScalarRules(program.descriptors, program.sizes), np.array(block_of(program, "defo"))
    scalars["reference"][program.descriptors["opcode"] <= Opcode.MIX] = 3  # left to the Defo unit
    assert rules.check(scalars) is None
    (follower, *_) = np.flatnonzero(program.descriptors["flags"] & Flag.FOLLOWS)
    scalars["rescaled"][follower] ^= 1
    assert rules.check(scalars).reason in ("the scalars of its leader", "the scalars of the batch's first part")
    assert SCALARS.itemsize * len(scalars) <= program.sizes[Region.PARAMETERS]
