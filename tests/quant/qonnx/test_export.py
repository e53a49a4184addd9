"""The qonnx executor gives the integer graph's integers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ditto_zynq.hls.artefact.model import QuantizedModel, load
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.quant.calibrate.calibration import Options
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.qonnx.export import export, without_annotations
from ditto_zynq.quant.quantize import Schedule, quantize
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.qonnx_to_qcdq import QuantToQCDQ
from qonnx.util.cleanup import cleanup_model

from tests.pipelines import save


def inputs(codes: np.ndarray, context: np.ndarray | None) -> dict[str, np.ndarray]:
    given = {"sample": codes.astype(np.float32)}
    return given | ({} if context is None else {"context": context.astype(np.float32)})


def run(model: onnx.ModelProto, codes: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """By onnxruntime, as a whole: the qonnx executor makes a session of every node. Inputs by their order."""
    plain = without_annotations(model).SerializeToString()
    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    given = zip(session.get_inputs(), inputs(codes, context).values(), strict=True)
    return session.run(None, {each.name: value for each, value in given})[0].astype(np.int64)


def saturating_products(model: onnx.ModelProto) -> list[str]:
    """Integer products that some CPU computes otherwise than others.

    x86 without VNNI multiplies unsigned by signed bytes (``vpmaddubsw``) and saturates the sum of two products at 16 bits.
    onnxruntime uses that where the first operand is unsigned and the second signed (a convolution's weights come first), and
    widens two unsigned ones to 16 bits. So both must be unsigned, with zero points of their own.
    """
    inferred = onnx.shape_inference.infer_shapes(without_annotations(model), strict_mode=True).graph
    return [
        f"{node.name}: {[TensorProto.DataType.Name(kind) for kind in kinds]}"
        for node, kinds in integer_products(inferred, {})
        if kinds != [TensorProto.UINT8] * 4
    ]


def integer_products(graph: onnx.GraphProto, outside: dict[str, int]) -> Iterator[tuple[onnx.NodeProto, list[int]]]:
    """The integer products of a graph and of the bodies inside it, with the types of their inputs; ``outside``: the types of
    what a body sees of the graphs around it."""
    types = outside | {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            yield node, [types[name] for name in node.input]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from integer_products(attribute.g, types)


def checked(path: Path) -> onnx.ModelProto:
    """A written model, whose products are exact on every CPU."""
    model = onnx.load(path)
    assert saturating_products(model) == []
    return model


def model_of(build: GraphBuilder, graph) -> QuantizedModel:
    return QuantizedModel(graph, build.tables, {}, {}, {}, {})


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(tmp_path, seed):
    """Every operator, over its whole range."""
    build, graph = random_unet(seed)
    codes = build.codes(2)
    context = build.codes(2, "context") if graph.context else None
    step, row = seed % graph.steps, seed % graph.labels
    export(model_of(build, graph), step, row, 2, tmp_path / "model.onnx")
    expected = Interpreter(graph, build.tables).step(codes, step, np.full(2, row), context=context)[graph.output]
    assert np.array_equal(run(checked(tmp_path / "model.onnx"), codes, context), expected)


@pytest.mark.parametrize("family", ["ddim", "stable_diffusion", "dit"])
def test_quantized_pipelines(tmp_path, family):
    save(family, tmp_path / "float")
    labels = [1, 2, 1000] if family == "dit" else None
    quantize(tmp_path / "float", tmp_path / "model", Schedule("ddim", 2, 0.0, 1), Options(2, fine=2), labels)
    model = load(tmp_path / "model")
    random = np.random.default_rng(0)
    codes = random.integers(-128, 128, (1, *model.graph.tensors["sample"].shape))
    context = None
    if model.graph.context:
        context = random.integers(-128, 128, (1, *model.graph.tensors["context"].shape))
    export(model, 1, 0, 1, tmp_path / "model.onnx")
    reference = Interpreter(model.graph, model.tables).step(codes, 1, np.zeros(1, np.int64), context=context)
    assert np.array_equal(run(checked(tmp_path / "model.onnx"), codes, context), reference[model.graph.output])


class Small:
    """A model with each kind of operator, small enough for tools that look at all tensors for each."""

    def __init__(self, folder):
        build = GraphBuilder(3)
        first = build.convolution(build.input((4, 5, 3)), 8, (3, 3), padding=(1, 1, 1, 1), conditional=True)
        code = build.quantize(build.silu(build.group_norm(first, 2)))
        q, k, v = (build.convolution(code, 6, kind="code") for _ in range(3))
        mixed = build.mix(build.softmax(build.scores(q, k, 2)), v, 2)
        graph = build.graph(build.add(build.convolution(mixed, 8, gated=True), first))
        self.codes = build.codes(2)
        self.expected = Interpreter(graph, build.tables).step(self.codes, 2, np.full(2, 1))[graph.output]
        export(model_of(build, graph), 2, 1, 2, folder / "model.onnx")
        self.exported = onnx.load(folder / "model.onnx")

    def wrapped(self) -> ModelWrapper:
        return ModelWrapper(self.exported, make_deepcopy=True, fix_missing_initializer_valueinfo=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


def test_the_qonnx_executor_gives_the_integers(small):
    """Node by node."""
    found = execute_onnx(small.wrapped(), inputs(small.codes, None))["output"].astype(np.int64)
    assert np.array_equal(found, small.expected)


def test_qonnx_cleans_it_up(small):
    """The same integers, and nothing to fold: cleanup starts anew after each node that it folds."""
    cleaned = cleanup_model(small.wrapped()).model
    kinds = [sorted(node.op_type for node in model.graph.node) for model in (small.exported, cleaned)]
    assert kinds[0] == kinds[1]
    assert np.array_equal(run(cleaned, small.codes, None), small.expected)


def test_qonnx_converts_its_quantizers(small):
    """Every Quant becomes QuantizeLinear and DequantizeLinear, and what these compute is the same."""
    standard = small.wrapped().transform(QuantToQCDQ()).model
    kinds = [node.op_type for node in standard.graph.node]
    quants = sum(node.op_type == "Quant" for node in small.exported.graph.node)
    assert "Quant" not in kinds and kinds.count("DequantizeLinear") == quants > 5
    assert np.array_equal(run(standard, small.codes, None), small.expected)


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("qonnx") / "model.onnx"
    export(tiny_model, 0, 0, 1, path)
    return onnx.load(path)


def product_of_bytes(kind: str, left: int, right: int, in_a_body: bool = False) -> onnx.ModelProto:
    """Of inputs of these types; ``in_a_body``: in both branches of an If, which sees the tensors around it."""
    shape = (1, 4, 4, 4)
    bytes_ = [helper.make_tensor_value_info(name, t, shape) for name, t in (("left", left), ("right", right))]
    zeros = [helper.make_tensor(name, t, (), [0]) for name, t in (("zero", left), ("other_zero", right))]
    node = helper.make_node(kind, ["left", "right", "zero", "other_zero"], ["sums"], name="product")
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, None)
    if in_a_body:
        body = helper.make_graph([node], "body", [], [sums])
        node = helper.make_node("If", ["condition"], ["sums"], then_branch=body, else_branch=body)
        bytes_.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, ()))
    return helper.make_model(
        helper.make_graph([node], "g", bytes_, [sums], zeros), opset_imports=[helper.make_opsetid("", 17)]
    )


@pytest.mark.parametrize("kind", ["ConvInteger", "MatMulInteger"])
def test_the_check_finds_products_that_saturate_without_vnni(kind):
    """As measured with onnxruntime 1.31 on an emulated Haswell, signed by signed too, which other CPUs may compute so."""
    unsigned, signed = TensorProto.UINT8, TensorProto.INT8
    assert not saturating_products(product_of_bytes(kind, unsigned, unsigned))
    for left, right in ((unsigned, signed), (signed, unsigned), (signed, signed)):
        assert len(saturating_products(product_of_bytes(kind, left, right))) == 1
        assert len(saturating_products(product_of_bytes(kind, left, right, in_a_body=True))) == 2


def test_products_are_exact_on_every_cpu(exported):
    """Those of random graphs and of quantized pipelines are looked at where they run."""
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds.count("ConvInteger") > 5 and kinds.count("MatMulInteger") > 1
    assert saturating_products(exported) == []


def test_operands_and_weights_are_annotated(exported):
    kinds = [node.op_type for node in exported.graph.node]
    made_by = {node.output[0]: node for node in exported.graph.node}
    constants = {tensor.name for tensor in exported.graph.initializer}
    weights = [node for node in exported.graph.node if node.op_type == "Quant" and node.input[0] in constants]
    assert len(weights) == kinds.count("ConvInteger")
    for node in exported.graph.node:
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            for operand in node.input[:2]:
                while made_by[operand].op_type in ("Transpose", "Reshape", "Pad"):
                    operand = made_by[operand].input[0]
                assert made_by[operand].op_type == "QuantizeLinear"
                assert made_by[made_by[operand].input[0]].op_type == "Quant"
        if node.op_type == "ConvInteger":
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            shapes = {value.name: value for value in exported.graph.value_info}
            kernel = [axis.dim_value for axis in shapes[node.input[1]].type.tensor_type.shape.dim[2:]]
            assert attributes["kernel_shape"] == kernel


def test_nodes_have_names_and_constants_exist_once(exported):
    """Tools walk all nodes and tensors again and again: qonnx's cleanup needs their number squared."""
    names = [node.name for node in exported.graph.node]
    assert all(names) and len(set(names)) == len(names)
    used = {name for node in exported.graph.node for name in node.input}
    constants = [(t.data_type, tuple(t.dims), t.raw_data) for t in exported.graph.initializer]
    assert {t.name for t in exported.graph.initializer} <= used and len(set(constants)) == len(constants)
    repeated = [(n.op_type, tuple(n.input), str(n.attribute)) for n in exported.graph.node]
    assert len(set(repeated)) == len(repeated)
    tables = [t for t in exported.graph.initializer if t.dims == [1 << 16] and t.data_type == TensorProto.INT16]
    activations = [n for n in exported.graph.node if n.op_type == "Gather" and n.input[0] in {t.name for t in tables}]
    assert len(activations) > 2 * len(tables) > 0


def test_what_has_no_form_is_refused(tmp_path, tiny_model):
    build = GraphBuilder(0)
    graph = build.graph(build.group_norm(build.convolution(build.input((64, 65, 1)), 16), 1))
    with pytest.raises(UnsupportedOperator, match="a norm group of 66560 values needs uint64 products"):
        export(model_of(build, graph), 0, 0, 1, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="found step 6 and row 0, expected less than 6 and 3"):
        export(tiny_model, 6, 0, 1, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
