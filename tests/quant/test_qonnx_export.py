"""The qonnx executor gives the integer graph's integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from ditto_zynq.hls.artefact import QuantizedModel, load
from ditto_zynq.hls.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.reference import Reference
from ditto_zynq.quant.calibrate import Options
from ditto_zynq.quant.qonnx_export import export, without_annotations
from ditto_zynq.quant.quantize import Schedule, quantize
from ditto_zynq.quant.traced import UnsupportedOperator
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from tests.pipelines import save


def inputs(codes: np.ndarray, context: np.ndarray | None) -> dict[str, np.ndarray]:
    given = {"sample": codes.astype(np.float32)}
    return given | ({} if context is None else {"context": context.astype(np.float32)})


def run(path, codes: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """By onnxruntime, as a whole: the qonnx executor makes a session of every node."""
    plain = without_annotations(onnx.load(path)).SerializeToString()
    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    return session.run(None, inputs(codes, context))[0].astype(np.int64)


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
    expected = Reference(graph, build.tables).step(codes, step, np.full(2, row), context=context)[graph.output]
    assert np.array_equal(run(tmp_path / "model.onnx", codes, context), expected)


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
    reference = Reference(model.graph, model.tables).step(codes, 1, np.zeros(1, np.int64), context=context)
    assert np.array_equal(run(tmp_path / "model.onnx", codes, context), reference[model.graph.output])


@pytest.mark.slow
def test_the_qonnx_executor_gives_the_integers(tmp_path):
    """A model with each operator that the executor would run node by node for minutes; annotations round nothing."""
    build = GraphBuilder(3)
    first = build.convolution(build.input((4, 5, 3)), 8, (3, 3), padding=(1, 1, 1, 1), conditional=True)
    code = build.quantize(build.silu(build.group_norm(first, 2)))
    q, k, v = (build.convolution(code, 6, kind="code") for _ in range(3))
    mixed = build.mix(build.softmax(build.scores(q, k, 2)), v, 2)
    graph = build.graph(build.add(build.convolution(mixed, 8, gated=True), first))
    codes = build.codes(2)
    export(model_of(build, graph), 2, 1, 2, tmp_path / "model.onnx")
    wrapper = ModelWrapper(str(tmp_path / "model.onnx"), fix_missing_initializer_valueinfo=False)
    found = execute_onnx(wrapper, inputs(codes, None))["output"].astype(np.int64)
    expected = Reference(graph, build.tables).step(codes, 2, np.full(2, 1))[graph.output]
    assert np.array_equal(found, expected)


def test_operands_and_weights_are_annotated(tmp_path, tiny_model):
    export(tiny_model, 0, 0, 1, tmp_path / "model.onnx")
    wrapper = ModelWrapper(str(tmp_path / "model.onnx"), fix_missing_initializer_valueinfo=False)
    quants = wrapper.get_nodes_by_op_type("Quant")
    convolutions = wrapper.get_nodes_by_op_type("ConvInteger")
    assert len(quants) > 2 * len(convolutions) > 0


def test_what_has_no_form_is_refused(tmp_path, tiny_model):
    build = GraphBuilder(0)
    graph = build.graph(build.group_norm(build.convolution(build.input((64, 65, 1)), 16), 1))
    with pytest.raises(UnsupportedOperator, match="a norm group of 66560 values needs uint64 products"):
        export(model_of(build, graph), 0, 0, 1, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="found step 6 and row 0, expected less than 6 and 3"):
        export(tiny_model, 6, 0, 1, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
