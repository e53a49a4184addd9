"""Every kind of node has one operator and every opcode too; what an operator does not say is that it needs nothing."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators import OPERATORS as NODES
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.forms import FORMS
from ditto_zynq.hls.machine.isa import Flag, Opcode
from ditto_zynq.host.operators import BY_OPCODE, OPERATORS, linear_operator_of, operator_of
from ditto_zynq.host.operators.operator import Operator, Vector, merged

from tests.host.operators.small import CONFIG, Small, value_of


def test_all_nodes_and_opcodes_have_an_operator_with_the_opcode_s_form():
    assert set(OPERATORS) == set(NODES.values()) and set(BY_OPCODE) == set(Opcode)
    assert {opcode: operator.form for opcode, operator in BY_OPCODE.items()} == FORMS


def test_what_an_operator_does_not_say():
    class Plain(Operator):
        def opcode(self, node):
            return Opcode.ACTIVATE

    plain = Plain()
    assert plain.flags(None, frozenset()) == Flag(0) and not plain.may_follow(plain) and plain.vectors(None) == ()
    assert plain.channel_groups(None) == 0 and plain.fields(None, None) == plain.scalars(None, None) == {}
    with pytest.raises(TypeError, match="found Plain, expected an operator of the vector unit"):
        plain.counts(CONFIG, None)
    assert Vector("bias", False).dtype == np.int32


def test_numbers_of_an_operation_are_those_of_all_its_nodes():
    assert merged([{"a": 1}, {}, {"b": 2}]) == {"a": 1, "b": 2}
    build = GraphBuilder(0)
    code = build.quantize(build.silu(build.layer_norm(value_of(build, (2, 2, 8)))))
    small = Small(build, code)
    form, scalars = small.form(code), small.scalars(code)
    assert form.groups == form.activation == 1 and form.has(Flag.QUANTIZE)
    assert scalars["epsilon"] > 0 and scalars["quantize_shift"] == build.tables[f"{code}.shift"][0]


def test_only_linear_nodes_have_products():
    build = GraphBuilder(0)
    graph = build.graph(build.silu(value_of(build, (2, 2, 8))))
    convolution, silu = graph.nodes
    assert linear_operator_of(convolution) is operator_of(convolution)
    with pytest.raises(TypeError, match=f"found SiLU {silu.name}, expected an operator on the linear unit"):
        linear_operator_of(silu)
