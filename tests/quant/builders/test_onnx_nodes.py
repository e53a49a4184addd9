"""ONNX nodes as plain data, which needs no ONNX."""

from __future__ import annotations

import ast

import numpy as np
from ditto_zynq.quant.builders.onnx_nodes import FLOAT, INT64, NodeBuilder
from onnx import TensorProto

from tests.helpers import ROOT


def test_only_the_room_that_writes_files_needs_onnx():
    """It is no dependency of the quantizer."""
    for path in (ROOT / "quant").rglob("*.py"):
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = [
            getattr(node, "module", None) or node.names[0].name for node in imports if not getattr(node, "level", 0)
        ]
        assert path.parent.name == "qonnx" or "onnx" not in {name.split(".")[0] for name in names}, path


def test_types_have_the_numbers_of_onnx():
    assert (FLOAT, INT64) == (TensorProto.FLOAT, TensorProto.INT64)


def test_what_is_asked_for_twice_exists_once():
    build = NodeBuilder("body")
    first, second = (build.op("Add", "x", build.constant(3)) for _ in range(2))
    assert first == second == "body/Add" and len(build.nodes) == 1
    assert build.op("Add", "y", build.constant(3)) == "body/Add_2"
    assert list(build.constants) == ["body/int64_3"]


def test_a_table_is_kept_in_as_few_bytes_as_hold_it():
    build = NodeBuilder()
    build.lookup(np.arange(9), "index")
    build.lookup(np.arange(9) << 40, "index")
    assert [value.dtype for value in build.constants.values()] == [np.int16, np.int64]
    assert [node.kind for node in build.nodes] == ["Gather", "Cast", "Gather"]
