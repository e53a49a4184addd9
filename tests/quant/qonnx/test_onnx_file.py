"""A written model is whole and legal, or the one that was there stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.quant.builders.onnx_nodes import NodeBuilder
from ditto_zynq.quant.qonnx.export import export, without_annotations
from ditto_zynq.quant.qonnx.onnx_file import as_identities, model_of, save
from onnx import TensorProto, helper

ANNOTATIONS = "annotations"


def run(model: onnx.ModelProto, given: np.ndarray) -> np.ndarray:
    """The result of the model's only input."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: given})[0]


def small_model() -> onnx.ModelProto:
    """Adds 0 to 3 to float [2, 4], annotated."""
    build = NodeBuilder()
    more = build.constant(np.arange(4), np.float32)
    found = build.op("Add", build.op("Note", "x", more, domain=ANNOTATIONS, bits=8), more)
    given, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 4)) for name in ("x", found))
    return model_of(build, [given], [result], ANNOTATIONS)


def test_annotations_pass_their_first_input_on():
    model = small_model()
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    assert np.array_equal(run(as_identities(model, ANNOTATIONS), x), x + np.arange(4, dtype=np.float32))
    assert [node.domain for node in model.graph.node] == [ANNOTATIONS, ""], "the model itself stays annotated"


def test_every_tensor_has_a_type_and_a_shape():
    model = small_model()
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    named = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert shapes.keys() == named and sorted(shapes.values()) == [[2, 4], [2, 4], [2, 4], [4]]


@pytest.mark.parametrize("largest", [0, 2**31 - 1])
def test_what_is_not_legal_replaces_nothing(tmp_path, largest):
    path = tmp_path / "model.onnx"
    save(small_model(), path)
    before = path.read_bytes()
    wrong = small_model()
    wrong.graph.node[1].input[1] = "of no node"
    with pytest.raises(onnx.checker.ValidationError, match="of no node"):
        save(wrong, path, largest)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def codes(tiny_model) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (1, *tiny_model.graph.tensors["sample"].shape))


@pytest.fixture(scope="module")
def expected(tiny_model, codes) -> np.ndarray:
    return Interpreter(tiny_model.graph, tiny_model.tables).step(codes, 0, np.zeros(1, np.int64))[
        tiny_model.graph.output
    ]


def test_large_models_keep_their_tensors_beside_them(tmp_path, tiny_model, codes, expected):
    """Protobuf ends at 2 GiB; here at 100 kB."""
    path = tmp_path / "model.onnx"
    export(tiny_model, 0, 0, 1, path, largest_file=100_000)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    large = onnx.load(path, load_external_data=False)
    assert all(len(tensor.raw_data) <= 1024 for tensor in large.graph.initializer)
    assert any(tensor.data_location == TensorProto.EXTERNAL for tensor in large.graph.initializer)
    assert np.array_equal(run(without_annotations(onnx.load(path)), codes.astype(np.float32)), expected)
    export(tiny_model, 0, 0, 1, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"], "a small model has no other one's tensors"
