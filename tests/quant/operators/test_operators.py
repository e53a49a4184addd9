"""The registry: every operator of the contract has the quantizer's side of it, every aten operator one handler."""

from __future__ import annotations

import ast
import itertools

import pytest
import torch
from ditto_zynq.hls.contract import operators as contract
from ditto_zynq.hls.contract.tensor import CODE, VALUE
from ditto_zynq.quant.operators import HANDLERS, MODULES, OPERATORS, operator_of
from ditto_zynq.quant.operators.operator import EITHER
from ditto_zynq.quant.trace.layout_operators import LAYOUT_HANDLERS

from tests.helpers import ROOT

KINDS = {CODE: (CODE,), VALUE: (VALUE,), EITHER: (CODE, VALUE)}


def file_name(module: str) -> str:
    return module.rpartition(".")[2]


def test_every_operator_of_the_contract_has_the_quantizers_side():
    assert set(OPERATORS) == set(contract.OPERATORS.values())
    assert sum(len(file.OPERATORS) for file in MODULES) == len(OPERATORS)


def test_both_sides_of_an_operator_are_in_files_of_one_name():
    for file in MODULES:
        for kind in file.OPERATORS:
            assert file_name(kind.__module__) == file_name(file.__name__)


def test_every_aten_name_has_one_handler():
    assert sum(len(file.HANDLERS) for file in MODULES) == len(HANDLERS)
    assert not HANDLERS.keys() & LAYOUT_HANDLERS.keys()


@pytest.mark.parametrize("name", [name for name in HANDLERS | LAYOUT_HANDLERS if name.startswith("aten.")])
def test_names_are_those_of_torch(name):
    _, packet, *overload = name.split(".")
    assert hasattr(getattr(torch.ops.aten, packet), overload[0] if overload else "default")


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda kind: kind.__name__)
def test_kinds_of_tensors_are_those_of_the_contract(kind):
    node = kind("n", "m", ("x",) * kind.inputs_expected)
    operator = operator_of(node)
    pairs = zip(KINDS[operator.reads], KINDS[operator.writes], strict=True) if operator.moves else None
    for reads, writes in pairs or itertools.product(KINDS[operator.reads], KINDS[operator.writes]):
        node.check_kinds([reads] * kind.inputs_expected, writes)


def test_what_moves_keeps_its_scale():
    for operator in OPERATORS.values():
        assert operator.keeps_scale or not operator.moves


@pytest.mark.parametrize("room", ["builders", "trace", "calibrate", "qonnx"])
def test_nothing_else_knows_an_operator(room):
    """Only quantizers, which the tracer puts in front of others, are named outside of the operators' own files."""
    for path in (ROOT / "quant" / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hls.contract.operators"):
                assert {alias.name for alias in node.names} <= {"Node", "Quantize"}, path
