"""Programs as a hostile client may write them: each is refused with an error status before it runs, on every device alike, or
touches nothing but its own regions. One file, for all of them damage the same programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ditto_zynq.hls.common.limits import MOST_DESCRIPTORS
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.descriptor_rules import check_descriptors
from ditto_zynq.hls.machine.isa import DESCRIPTOR_COUNT, PROGRESS, Flag, Opcode, Region, base_registers
from ditto_zynq.hls.machine.scalar_rules import ScalarRules
from ditto_zynq.host.devices import simulated
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.simulated import SimulatedDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.runtime.session import FLOWS, KEEPS_NOTHING, reference_of

from tests.host.devices.hostile import CONFIG, Victim, device_of, scalars_of

ROOT = Path(__file__).parents[3]
CONVOLUTION, SCORES, MIX, SOFTMAX = Opcode.CONVOLUTION, Opcode.SCORES, Opcode.MIX, Opcode.SOFTMAX
GROUP_NORM, LAYER_NORM, ADD, MULTIPLY = Opcode.GROUP_NORM, Opcode.LAYER_NORM, Opcode.ADD, Opcode.MULTIPLY
ACTIVATE, AVERAGE_POOL, UPSAMPLE = Opcode.ACTIVATE, Opcode.AVERAGE_POOL, Opcode.UPSAMPLE
LARGEST = (1 << 32) - 1

DESCRIPTORS = [  # of the first operation with this opcode a field, what a client writes there, and why it is refused
    (CONVOLUTION, "opcode", 0, "a known opcode"),
    (CONVOLUTION, "opcode", 12, "a known opcode"),
    (CONVOLUTION, "flags", 0xFFFF & ~Flag.FOLLOWS, "the flags are the operation's"),
    (CONVOLUTION, "flags", 0, "the flags are the operation's"),
    (GROUP_NORM, "kernel_height", 255, "an activation that is known"),
    (GROUP_NORM, "flags", Flag.CODE_OUTPUT, "codes come from a quantizer"),
    (ACTIVATE, "flags", 0, "an activation or a quantizer"),
    (UPSAMPLE, "flags", Flag.CODE_INPUT, "upsampling keeps the type"),
    (GROUP_NORM, "activation_bits", 12, "at most 11 fraction bits"),
    (CONVOLUTION, "weight_bits", 2, "weights of 4 or 8 bits"),
    (SOFTMAX, "weight_bits", 8, "weights of 4 or 8 bits"),
    (CONVOLUTION, "node", LARGEST, "the node is the descriptor's index"),
    (CONVOLUTION, "scalars", LARGEST - 3, "the scalars are those of the descriptor's index"),
    (CONVOLUTION, "leader", 1 << 20, "the leader is itself, or one before it"),
    (CONVOLUTION, "batch", 0, "batch is at least 1"),
    (CONVOLUTION, "batch", 65535, "input inside ACTIVATIONS"),
    (CONVOLUTION, "output_channels", 0, "output_channels is at least 1"),
    (CONVOLUTION, "output_height", 65535, "as many output pixels as windows fit the height"),
    (CONVOLUTION, "output_width", 1, "as many output pixels as windows fit the width"),
    (CONVOLUTION, "kernel_height", 0, "kernel and stride of the height are at least 1"),
    (CONVOLUTION, "kernel_height", 255, "as many output pixels as windows fit the height"),
    (CONVOLUTION, "stride_width", 0, "kernel and stride of the width are at least 1"),
    (CONVOLUTION, "pad_left", 255, "as many output pixels as windows fit the width"),
    (CONVOLUTION, "lead_columns", 200, "the columns of its chains"),
    (CONVOLUTION, "extra_columns", 65535, "the columns of its chains"),
    (CONVOLUTION, "segment_pixels", 0, "operands are read pixel by pixel, or dense rows whole"),
    (CONVOLUTION, "segment_pixels", 3, "operands are read pixel by pixel, or dense rows whole"),
    (CONVOLUTION, "block_rows", 0, "blocks, chunks and passes of the operator"),
    (CONVOLUTION, "chunk_channels", 0, "operands are read pixel by pixel, or dense rows whole"),
    (CONVOLUTION, "pass_tiles", 0, "blocks, chunks and passes of the operator"),
    (CONVOLUTION, "pass_tiles", 65535, "blocks, chunks and passes of the operator"),
    (SCORES, "block_rows", 0, "blocks, chunks and passes of the operator"),
    (MIX, "other_chunk_channels", 0, "other_blocks, chunks and passes of the operator"),
    (MIX, "other_block_rows", 65535, "other_blocks, chunks and passes of the operator"),
    (SCORES, "groups", 0, "at least one head and one window"),
    (SCORES, "windows", 0, "at least one head and one window"),
    (SCORES, "groups", 65535, "channels that the heads share evenly"),
    (SCORES, "windows", 7, "logits of all windows, heads and queries"),
    (MIX, "windows", 7, "weights of all windows, heads and queries"),
    (MIX, "channels", 65535, "blocks, chunks and passes of the operator"),
    (SCORES, "input_pitch", 0, "input_pitch fits the channels"),
    (MIX, "input_pitch", LARGEST, "input_pitch fits the channels"),
    (ADD, "other_pitch", 1 << 31, "other_pitch fits the channels"),
    (CONVOLUTION, "input", LARGEST, "input inside ACTIVATIONS"),
    (CONVOLUTION, "output", LARGEST - 1, "output inside ACTIVATIONS"),
    (ADD, "other", 1 << 31, "other inside ACTIVATIONS"),
    (ADD, "other", 1, "other is aligned"),
    (CONVOLUTION, "weights", LARGEST - 15, "weights inside WEIGHTS"),
    (CONVOLUTION, "weights", 1, "weights that begin with a beat"),
    (CONVOLUTION, "vector0", LARGEST - 3, "vector0 inside PARAMETERS"),
    (CONVOLUTION, "vector1", 1 << 31, "vector1 inside PARAMETERS"),
    (GROUP_NORM, "vector1", 4, "vector1 is aligned"),
    (GROUP_NORM, "groups", 0, "groups that share the channels evenly"),
    (GROUP_NORM, "groups", 65535, "groups that share the channels evenly"),
    (LAYER_NORM, "groups", 2, "one group"),
    (ADD, "output_height", 1, "a result of the operand's shape"),
    (MULTIPLY, "output_channels", 1, "a result of the operand's shape"),
    (ADD, "height", 65535, "a result of the operand's shape"),
    (AVERAGE_POOL, "stride_height", 0, "one factor, at least 1"),
    (AVERAGE_POOL, "stride_height", 255, "one factor, at least 1"),
    (AVERAGE_POOL, "output_width", 65535, "whole windows of the width"),
    (UPSAMPLE, "stride_height", 0, "one factor, at least 1"),
    (UPSAMPLE, "channels", 65535, "rows that fit the row buffer"),
    (CONVOLUTION, "channel_groups", 1, "legal channel groups"),
    (CONVOLUTION, "channel_groups", 65535, "legal channel groups"),
    (ADD, "channel_groups", 2, "legal channel groups"),
]

SCALARS = [
    *(
        (opcode, name, value)
        for opcode in (CONVOLUTION, SCORES, ADD, MULTIPLY, AVERAGE_POOL, SOFTMAX)
        for name, value in (("shift", -1), ("shift", 63), ("shift", 1 << 30))
    ),
    *(
        (GROUP_NORM, name, value)
        for name, value in (
            ("gain_bits", -1),
            ("gain_bits", 29),
            ("gain_bits", 200),
            ("epsilon", 0),
            ("epsilon", -(1 << 63)),
            ("epsilon", (1 << 63) - 1),
        )
    ),
    (LAYER_NORM, "epsilon", -1),
    (SOFTMAX, "multiplier0", -1),
    (SOFTMAX, "reserved_wide", 1),
    (CONVOLUTION, "reference", 5),
    (CONVOLUTION, "reference", -1),
    (MIX, "keep_state", 2),
    (CONVOLUTION, "parity", 2),
    (CONVOLUTION, "parity", -1),
    (ADD, "skip", 7),
    (ADD, "reserved", 1),
]


@pytest.fixture(scope="module", params=["emulator", "csim"])
def device(request, csim_cache) -> SimulatedDevice:
    return device_of(request.param, csim_cache)


@pytest.fixture(scope="module")
def victims(device) -> list[Victim]:
    """With every opcode between them, a conditional norm, a follower, and parts of a batch."""
    return [Victim(device, seed) for seed in (0, 1, 5, 8, None)]


def with_opcode(victims: list[Victim], opcode: Opcode, flag: int = 0) -> tuple[Victim, int]:
    for victim in victims:
        victim.restore(np.random.default_rng(0))
        here = (victim.descriptors["opcode"] == opcode) & (victim.descriptors["flags"] & flag == flag)
        if here.any():
            return victim, int(here.argmax())
    raise LookupError(f"{opcode.name} with {flag!r}")


def assert_refused(victim: Victim, index: int, reason: str) -> None:
    """With the index in the ERROR register, and nothing has run."""
    before = {region: victim.session.buffers[region].data.copy() for region in (Region.ACTIVATIONS, Region.STATE)}
    assert victim.run() == index + 1, victim.device.refusal
    assert victim.device.refusal.reason == reason and victim.device.registers[PROGRESS] == index + 1
    for region, content in before.items():
        assert np.array_equal(victim.session.buffers[region].data, content)


@pytest.mark.parametrize(("opcode", "field", "value", "reason"), DESCRIPTORS)
def test_a_hostile_descriptor(victims, opcode, field, value, reason):
    victim, index = with_opcode(victims, opcode)
    victim.descriptors[field][index] = value
    assert_refused(victim, index, reason)


@pytest.mark.parametrize(("opcode", "field", "value"), SCALARS)
def test_hostile_scalars(victims, opcode, field, value):
    victim, index = with_opcode(victims, opcode)
    victim.scalars[field][index] = value
    assert_refused(victim, index, f"a legal {field}")


@pytest.mark.parametrize("stride", [1 << 20, LARGEST - 7, 1 << 31])
def test_a_stride_that_reads_foreign_memory(victims, stride):
    for opcode in (CONVOLUTION, LAYER_NORM):
        victim, index = with_opcode(victims, opcode, Flag.CONDITIONAL)
        if victim.descriptors["batch"][index] == 1:
            victim.descriptors["batch"][index] = 2
        victim.descriptors["sample_stride"][index] = stride
        assert victim.run() == index + 1


def test_many_inputs_and_one_output(victims):
    """What overwrote foreign memory: kernels go by the operand's shape, results went to the output's."""
    victim, index = with_opcode(victims, ADD)
    for name, value in {
        "height": 500,
        "width": 1000,
        "channels": 1,
        "input_pitch": 1,
        "other_pitch": 1,
        "input": 0,
        "other": 0,
        "output_height": 1,
        "output_width": 1,
        "output_channels": 1,
    }.items():
        victim.descriptors[name][index] = value
    assert_refused(victim, index, "a result of the operand's shape")


def test_a_result_over_an_operand(victims):
    victim, index = with_opcode(victims, ADD)
    victim.descriptors["output"][index] = victim.descriptors["input"][index]
    assert_refused(victim, index, "input and output do not overlap")


# ----------------------------------------------------------------------------------------------------- several descriptors


def test_leaders(victims):
    victim, index = with_opcode(victims, CONVOLUTION, Flag.FOLLOWS)
    victim.descriptors["leader"][index] = index + 1
    assert_refused(victim, index, "the leader is itself, or one before it")
    victim, index = with_opcode(victims, CONVOLUTION, Flag.FOLLOWS)
    victim.descriptors["leader"][index] = (victim.descriptors["opcode"] > MIX).argmax()
    assert_refused(victim, index, "the leader is linear and follows no other")
    victim, index = with_opcode(victims, CONVOLUTION, Flag.FOLLOWS)
    victim.scalars["reference"][:] = np.where(victim.descriptors["opcode"] <= MIX, Reference.DEFO, 0)
    victim.scalars["keep_state"][index] = 0
    victim.scalars["keep_state"][victim.descriptors["leader"][index]] = 1
    assert victim.run() == index + 1 and victim.device.refusal.reason == "the scalars of its leader"


@pytest.mark.parametrize("field", ["input", "input_pitch", "channels", "state_input", "state_input_span", "batch"])
def test_an_operand_that_another_one_does_not_keep(victims, field):
    """The kernels leave it to the leader to keep what a follower reads."""
    victim, index = with_opcode(victims, CONVOLUTION, Flag.SHARES_OPERAND)
    victim.descriptors[field][victim.descriptors["leader"][index]] += 16 if field != "batch" else 1
    assert victim.run() > 0


@pytest.mark.parametrize("field", ["skip", "parity", "keep_state"])
def test_a_leader_with_other_scalars(victims, field):
    victim, index = with_opcode(victims, CONVOLUTION, Flag.SHARES_OPERAND)
    victim.scalars[field][victim.descriptors["leader"][index]] ^= 1
    assert victim.run() > 0 and victim.device.refusal.reason in (
        "the scalars of its leader",
        "the scalars of the batch's first part",
    )


@pytest.mark.parametrize("opcode", [SCORES, MIX])
@pytest.mark.parametrize("segment", [0, 2, 255])
def test_attention_reads_token_by_token_whatever_a_descriptor_says(victims, opcode, segment):
    """It is a field of convolutions: a zero once ended C simulation with a division."""
    victim, index = with_opcode(victims, opcode)
    images = []
    for value in (1, segment):
        victim.restore(np.random.default_rng(0))
        victim.descriptors["segment_pixels"][index] = value
        assert victim.run() == 0
        images.append([victim.session.buffers[region].data.copy() for region in (Region.ACTIVATIONS, Region.STATE)])
    assert all(np.array_equal(one, other) for one, other in zip(*images, strict=True))


def test_pairs(victims):
    victim, index = with_opcode(victims, CONVOLUTION, Flag.PAIRED)
    first = victim.descriptors[index].copy()
    victim.descriptors["output"][index + 1] = first["output"]
    assert victim.run() == index + 1
    victim, index = with_opcode(victims, CONVOLUTION, Flag.PAIRED)
    victim.descriptors["flags"][-1] |= Flag.PAIRED
    assert_refused(victim, len(victim.descriptors) - 1, "a descriptor to run at the same time")


@pytest.mark.parametrize(("field", "change"), [("output", 64), ("layer", 1 << 30), ("height", 1), ("batch", 1)])
def test_parts_of_a_batch(victims, field, change):
    """The emulator runs all parts of an operation together: they must be parts of one."""
    victim, _ = with_opcode(victims, CONVOLUTION, Flag.PAIRED)
    layers, opcodes = victim.descriptors["layer"], victim.descriptors["opcode"]
    parts = [index for index in range(len(layers)) if layers[index] in layers[:index]]
    later = parts[-1] if field == "layer" else parts[0]
    if field == "layer":
        layers[later] = layers[np.flatnonzero(opcodes[:later] != opcodes[later])[0]]
    elif field == "batch":
        victim.descriptors["batch"][np.flatnonzero(layers == layers[later])[0]] += change
    else:
        victim.descriptors[field][later] += change
    assert victim.run() == later + 1, victim.device.refusal


def test_parts_with_other_scalars(victims):
    victim, _ = with_opcode(victims, CONVOLUTION, Flag.PAIRED)
    layers = victim.descriptors["layer"]
    later = int(next(index for index in range(len(layers)) if layers[index] in layers[:index]))
    victim.scalars["multiplier0"][later] ^= 5
    assert_refused(victim, later, "the scalars of the batch's first part")


def test_state_that_is_nowhere(victims):
    """Of one operation alone, whose sums would be kept behind the region."""
    victim, index = with_opcode(victims, CONVOLUTION)
    victim.descriptors["state_accumulators"][index] = LARGEST - 3
    victim.scalars["keep_state"][index], victim.scalars["reference"][index] = 1, Reference.ZERO
    assert_refused(victim, index, "what is kept inside STATE, aligned and apart")


# ----------------------------------------------------------------------------------------------------- registers


@pytest.mark.parametrize("region", Region)
def test_pointers(victims, region):
    """To nothing, into a buffer, over its end, to another region's, or each elsewhere."""
    victim = victims[0]
    low, *others = base_registers(region)
    address = victim.session.buffers[region].address
    another = victim.session.buffers[Region((region + 1) % len(Region))].address
    for wrong in (0, address + 64, LARGEST, another):
        victim.restore(np.random.default_rng(0))
        for register in (low, *others):
            victim.device.registers[register] = wrong
        assert victim.run() == 1
    victim.restore(np.random.default_rng(0))
    victim.device.registers[low + 4] = 1
    assert victim.run() == 1, "the high word"


@pytest.mark.parametrize("count", [LARGEST, 1 << 20, MOST_DESCRIPTORS + 1])
def test_more_descriptors_than_there_are(victims, count):
    victim = victims[0]
    victim.restore(np.random.default_rng(0))
    victim.device.registers[DESCRIPTOR_COUNT] = count
    assert_refused(victim, len(victim.descriptors), "PROGRAM has room for all records")


# ----------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("seed", range(6))
def test_every_compiled_program_is_legal(board, seed):
    """And every block of every flow, for one sample and for parts of a batch."""
    build, graph = random_unet(seed)
    config = default_config(board)
    for batch in (1, 2, 5):
        program = compile_program(graph, build.tables, config, batch)
        assert check_descriptors(config, program.descriptors, program.sizes) is None
        rules = ScalarRules(program.descriptors, program.sizes)
        for flow in FLOWS:
            for step in range(graph.steps):
                keeps = flow not in KEEPS_NOTHING
                labels = np.zeros(batch, np.int64)
                block = program.parameters.block(step, labels, reference_of(flow, step), keeps, step > 0)
                assert rules.check(scalars_of(block, program)) is None


@pytest.mark.parametrize("kind", ["emulator", "csim"])
def test_programs_damaged_at_random(kind, csim_cache, request):
    """In a process of their own, which the next crash would end; ``--hostile-cases`` for more than some hundred."""
    count = request.config.getoption("--hostile-cases")
    CSimDevice(CONFIG, cache=csim_cache).simulation.hash  # noqa: B018 - compiled once for all
    command = [sys.executable, "-m", "tests.host.devices.hostile", kind, str(count), "0", str(csim_cache)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600 + 10 * count)
    assert result.returncode == 0, f"{result.stdout[-500:]}\n{result.stderr[-2000:]}"


OWN_CHECKS = [  # a field and what stands in it, of what would leave the kernels' buffers or end their arithmetic
    *(
        (CONVOLUTION, name, 0)
        for name in (
            "opcode",
            "batch",
            "height",
            "width",
            "channels",
            "output_height",
            "output_width",
            "output_channels",
            "kernel_height",
            "kernel_width",
            "stride_height",
            "stride_width",
            "segment_pixels",
            "block_rows",
            "chunk_channels",
            "pass_tiles",
        )
    ),
    *((CONVOLUTION, name, 65535) for name in ("opcode", "block_rows", "chunk_channels", "pass_tiles", "extra_columns")),
    *(
        (opcode, name, 0)
        for opcode in (SCORES, MIX)
        for name in (
            "groups",
            "windows",
            "block_rows",
            "chunk_channels",
            "pass_tiles",
            "other_block_rows",
            "other_chunk_channels",
            "other_pass_tiles",
        )
    ),
    *((MIX, name, 65535) for name in ("block_rows", "pass_tiles", "other_block_rows", "other_pass_tiles")),
    *((GROUP_NORM, name, value) for name, value in (("groups", 0), ("channels", 65535), ("kernel_height", 255))),
    *(
        (opcode, name, value)
        for opcode in (AVERAGE_POOL, UPSAMPLE)
        for name, value in (("stride_height", 0), ("channels", 65535))
    ),
    (SOFTMAX, "channels", 65535),
]


@pytest.mark.parametrize("device", ["csim"], indirect=True)
@pytest.mark.parametrize(("opcode", "field", "value"), OWN_CHECKS)
def test_the_kernels_refuse_what_leaves_their_buffers(victims, monkeypatch, opcode, field, value):
    """As on a board, where nobody has looked at the descriptors before."""
    victim, index = with_opcode(victims, opcode)
    victim.descriptors[field][index] = value
    monkeypatch.setattr(simulated, "check_descriptors", lambda *_: None)
    assert victim.run() == index + 1 and victim.device.refusal is None
