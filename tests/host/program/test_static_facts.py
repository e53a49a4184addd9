"""Static analysis: what never changes, who shares a kept operand, and what that saves."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.compiler import compile_program
from ditto_zynq.host.program.descriptors import DescriptorEncoder
from ditto_zynq.host.program.static_facts import analyse

from tests.host.runs import run_both, session_of

CONFIG = default_config("zcu104")


def cross_attention(hold: bool):
    """Queries from the sample, keys and values from a context; three convolutions read the sample."""
    build = GraphBuilder(0)
    sample, context = build.input((3, 4, 8)), build.context((1, 7, 10))
    queries, other = build.convolution(sample, 8, kind="code"), build.convolution(sample, 8, kind="code")
    keys, values = (build.convolution(context, 8, kind="code") for _ in range(2))
    if hold:
        keys, values = build.hold(keys), build.hold(values)
    mixed = build.mix(build.softmax(build.scores(queries, keys, 2)), values, 2, image=(3, 4))
    output = build.add(build.convolution(mixed, 8), build.convolution(other, 8))
    return build, build.graph(output), (queries, other, keys, values)


def test_what_never_changes():
    for hold in (True, False):
        build, graph, (queries, other, keys, values) = cross_attention(hold)
        facts = analyse(graph, build.tables)
        assert facts.constant == ({"context", keys, values} if hold else {"context"})
        assert facts.leaders == {other: queries}


def test_tables_and_operations_are_walked_once_however_many_there_are():
    class Tables(dict):
        walks = 0

        def items(self):
            Tables.walks += 1
            return super().items()

        __iter__ = None

    build, graph, _ = cross_attention(True)
    assert analyse(graph, Tables(build.tables)) == analyse(graph, build.tables) and Tables.walks == 1

    class Operations(tuple):
        walks = 0

        def __iter__(self):
            Operations.walks += 1
            return super().__iter__()

    program = compile_program(graph, build.tables, CONFIG, 2)
    encoder = DescriptorEncoder(None, Operations(program.operations), program.facts, {})
    leaders = [encoder._leader(operation) for operation in program.operations]
    assert leaders == program.descriptors["leader"].tolist() and Operations.walks == 1


def test_cross_attention_takes_one_product_and_its_keys_are_computed_once():
    digits = {}
    for hold in (True, False):
        build, graph, names = cross_attention(hold)
        steps = [
            (session.counters(), session) for session, _ in run_both(build, graph, EmulatorDevice(CONFIG), "difference")
        ]
        program = steps[0][1].program
        index = {operation.first.name: operation.index for operation in program.operations}
        for name in names[2:]:
            computed = [int(counters[index[name]]["digits"]) > 0 for counters, _ in steps]
            assert computed[0] and not (hold and any(computed[1:]))
            assert not hold or all(counters[index[name]]["input_beats"] == 0 for counters, _ in steps[1:])
        scores = next(op.index for op in program.operations if program.descriptors[op.index]["opcode"] == Opcode.SCORES)
        assert bool(program.descriptors[scores]["flags"] & Flag.CONSTANT_OTHER) == hold
        digits[hold] = sum(int(counters[scores]["elements"]) for counters, _ in steps[1:])
        kept = sum(int(counters[scores]["kept_beats"]) for counters, _ in steps)
        digits["kept", hold] = kept
    assert digits[True] < digits[False] and digits["kept", True] < digits["kept", False]


def test_a_shared_operand_is_kept_once():
    build, graph, (queries, other, *_) = cross_attention(True)
    session = session_of(build, graph, 2, EmulatorDevice(CONFIG))
    program = session.program
    leader, follower = (program.operation_of(name).index for name in (queries, other))
    descriptors = program.descriptors
    assert descriptors[follower]["state_input"] == descriptors[leader]["state_input"]
    assert descriptors[follower]["leader"] == leader and descriptors[follower]["flags"] & Flag.FOLLOWS
    first, _ = next(run_both(*cross_attention(True)[:2], EmulatorDevice(CONFIG), "difference"))
    counters = first.counters()
    assert counters[leader]["kept_beats"] > 0 and counters[follower]["kept_beats"] == 0


def test_a_context_is_needed_and_a_new_one_computes_its_keys_again():
    build, graph, (_, _, keys, _) = cross_attention(True)
    session = session_of(build, graph, 1, EmulatorDevice(CONFIG))
    sample, labels, context = np.ones((1, 8, 3, 4)), np.zeros(1, np.int64), np.ones((1, 7, 10))
    with pytest.raises(ValueError, match=r"found no context, expected one of shape \(1, 7, 10\)"):
        session.run_step(sample, 0, labels, "original")
    with pytest.raises(ValueError, match=r"found a context of shape \(1, 7, 9\)"):
        session.run_step(sample, 0, labels, "original", context[..., :9])
    index = session.program.operation_of(keys).index
    for step, prompt, computed in ((0, context, True), (1, context, False), (2, 2 * context, True)):
        session.run_step(sample, step, labels, "original", prompt)
        assert (session.counters()[index]["digits"] > 0) == computed
    prompt[...] = 3  # the caller's own array
    session.run_step(sample, 3, labels, "original", prompt)
    assert session.counters()[index]["digits"] > 0, "a context that was changed in place is another one"
