from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.operators import Concat, Quantize
from ditto_zynq.hls.contract.operators.activation import Activation
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.forms import Finished, decode
from ditto_zynq.hls.machine.isa import Flag, Opcode, Region
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program import compiler
from ditto_zynq.host.program.compiler import DoesNotFit, compile_program
from ditto_zynq.host.program.memory_map import ALIGNMENT, allocate
from ditto_zynq.host.runtime.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIG = default_config("zcu104")


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5000)),
        min_size=1,
        max_size=20,
    )
)
def test_buffers_that_live_together_do_not_overlap(buffers):
    intervals = {name: (min(a, b), max(a, b)) for name, (a, b, _) in buffers.items()}
    sizes = {name: size for name, (_, _, size) in buffers.items()}
    offsets, total = allocate(intervals, sizes)
    for one in buffers:
        assert offsets[one] % 64 == 0 and offsets[one] + sizes[one] <= total
        for other in buffers:
            together = intervals[one][0] <= intervals[other][1] and intervals[other][0] <= intervals[one][1]
            apart = offsets[one] + sizes[one] <= offsets[other] or offsets[other] + sizes[other] <= offsets[one]
            assert one == other or apart or not together


def test_memory_of_short_lived_buffers_is_used_again():
    intervals = {f"t{index}": (index, index + 1) for index in range(10)}
    _, total = allocate(intervals, dict.fromkeys(intervals, 1000))
    assert total == 2 * 1024


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_programs_cover_the_graph(seed):
    build, graph = random_unet(seed)
    program = compile_program(graph, build.tables, CONFIG, 2)
    executed = [node for operation in program.operations for node in operation.nodes]
    assert sorted(node.name for node in executed) == sorted(n.name for n in graph.nodes if not isinstance(n, Concat))
    opcodes = [Opcode(int(opcode)) for opcode in program.descriptors["opcode"]]
    for operation, opcode, descriptor in zip(program.operations, opcodes, program.descriptors, strict=True):
        flags = Flag(int(descriptor["flags"]))
        fused = [node.number for node in operation.nodes if isinstance(node, Activation)]
        form = decode(descriptor)
        assert (form.activation if isinstance(form, Finished) else 0) == sum(fused)
        assert bool(flags & Flag.QUANTIZE) == isinstance(operation.nodes[-1], Quantize)
        assert opcode in Opcode


def test_concatenation_is_addressing():
    build = GraphBuilder(0)
    source = build.input((4, 4, 3))
    a, b = build.convolution(source, 5), build.convolution(source, 7)
    joined = build.concat(a, b)
    graph = build.graph(build.group_norm(joined, 1))
    program = compile_program(graph, build.tables, CONFIG, 1)
    assert [op.name for op in program.operations] == [a, b, graph.output]
    first, second, whole = (program.placements[name] for name in (a, b, joined))
    assert first.pitch == second.pitch == whole.pitch == 12
    assert first.offset == whole.offset and second.offset == whole.offset + 2 * 5


def test_parameter_blocks_follow_step_and_label():
    build, graph = random_unet(7)
    program = compile_program(graph, build.tables, CONFIG, 3)
    labels = np.array([0, 2, 1])
    node = next(
        node for node in graph.nodes if getattr(node, "conditional", False) and f"{node.name}.bias" in build.tables
    )
    table = build.tables[f"{node.name}.bias"]
    offset, stride = program.parameters.vectors[f"{node.name}.bias"], program.parameters.sample_stride
    for step in range(graph.steps):
        block = program.parameters.block(step, labels, Reference.ZERO, False)
        for sample, label in enumerate(labels):
            start = offset + sample * stride
            found = block[start : start + table[0, 0].nbytes].view(np.int32)
            assert np.array_equal(found, table[step, label])


def test_a_batch_that_does_not_fit_says_which_would():
    build, graph = random_unet(3)
    limits = default_config("pynq-z2")
    with pytest.raises(DoesNotFit) as error:
        compile_program(graph, build.tables, limits, 60_000)
    message = str(error.value)
    assert "pynq-z2 has 128 MiB of contiguous memory; use a batch of at most " in message
    fitting = int(message.rsplit(" ", 1)[1])
    program = compile_program(graph, build.tables, limits, fitting)
    assert sum(program.sizes.values()) <= 128 << 20
    with pytest.raises(DoesNotFit):
        compile_program(graph, build.tables, limits, fitting + 1)
    assert program.sizes[Region.STATE] > 0


def test_an_empty_batch_is_refused():
    build, graph = random_unet(3)
    with pytest.raises(ValueError, match="found a batch of 0, expected at least 1"):
        compile_program(graph, build.tables, CONFIG, 0)


def test_without_history_there_is_no_state():
    """For flows that keep nothing: the same values in a fraction of the memory."""
    build, graph = random_unet(5)
    config = default_config("zcu104")
    with_history, without = (compile_program(graph, build.tables, config, 2, None, kept) for kept in (True, False))
    assert without.sizes[Region.STATE] == ALIGNMENT < with_history.sizes[Region.STATE]
    ones = {name: np.ones(graph.groups) for name in graph.tensors}
    artefact = QuantizedModel(graph, build.tables, ones, {}, {}, {})
    sample = build.codes(2).transpose(0, 3, 1, 2).astype(float)
    context = build.codes(2, "context").astype(float) if graph.context else None
    found = [
        Session(program, artefact, EmulatorDevice(config)).run_step(sample, 1, np.zeros(2, int), flow, context)
        for program in (with_history, without)
        for flow in ("original", "spatial")
    ]
    assert all(np.array_equal(each, found[0]) for each in found)


def test_what_descriptors_cannot_address_is_refused(monkeypatch):
    build, graph = random_unet(5)
    with pytest.raises(ValueError, match="found a batch of 65536, expected at least 1 and at most 65535"):
        compile_program(graph, build.tables, default_config("zcu104"), 1 << 16)
    monkeypatch.setattr(compiler, "ADDRESSABLE", 1 << 12)
    with pytest.raises(DoesNotFit, match=r"GiB of .*, but descriptors address"):
        compile_program(graph, build.tables, default_config("zcu104"), 2)
