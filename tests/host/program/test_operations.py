"""Every node is in one operation."""

from __future__ import annotations

from ditto_zynq.hls.contract.operators import Concat, Quantize
from ditto_zynq.hls.contract.operators.activation import Activation
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.machine.forms import Finished, decode
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.program.compiler import compile_program
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.runs import CONFIG


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
