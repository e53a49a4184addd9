"""The pieces that operators' QONNX is made of give the exact integers in onnxruntime."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from ditto_zynq.hls.contract.arithmetic import CODE_RANGE, VALUE_RANGE
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.operators import Quantize
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor
from ditto_zynq.quant.builders.onnx_nodes import OnnxNode
from ditto_zynq.quant.builders.qonnx_step import DOMAIN, QonnxStep
from ditto_zynq.quant.qonnx.export import without_annotations
from ditto_zynq.quant.qonnx.onnx_file import model_of
from onnx import TensorProto, helper

NODE = Quantize("n", "n", ("x",))


def step_with(step: int = 2, row: int = 1, **tables: np.ndarray) -> QonnxStep:
    """The last of three steps, alone in the second group, for the second of two labels."""
    tensors = {"x": Tensor("x", VALUE, (1, 1, 3)), "n": Tensor("n", CODE, (1, 1, 3))}
    graph = Graph(tensors, (NODE,), "x", "n", (0, 0, 1), labels=2)
    return QonnxStep(graph, {f"n.{name}": table for name, table in tables.items()}, step, row, 1)


def run(step: QonnxStep, found: str, **given: np.ndarray) -> np.ndarray:
    """What onnxruntime finds for int64 inputs."""
    step.nodes.append(OnnxNode("Identity", (found,), "found", {}))
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, x.shape) for name, x in given.items()]
    model = model_of(step, inputs, [helper.make_tensor_value_info("found", TensorProto.INT64, None)], DOMAIN)
    plain = without_annotations(model).SerializeToString()
    return onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"]).run(None, given)[0]


def test_products_of_the_largest_codes():
    """A pair of them leaves 16 bits; what no code holds is saturated before it is multiplied."""
    left, right = np.random.default_rng(0).integers(-128, 128, (2, 1, 4, 64))
    left[0, :3], right[0, 0], right[0, 1] = [[-128], [127], [300]], -128, 127
    step = step_with()
    product = step.product("MatMulInteger", step.activation("left"), step.activation("right"))
    found = run(step, product, left=left, right=right.swapaxes(1, 2))
    assert np.array_equal(found, np.clip(left, -128, 127) @ right.swapaxes(1, 2))
    assert found[0, :3, 0].tolist() == [64 * 128 * 128, -64 * 127 * 128, -64 * 127 * 128]


@pytest.mark.parametrize("bias", [0, -9])
@pytest.mark.parametrize(("multiplier", "shift"), [(1, 1), (-7, 2), (2**30 + 1, 40), (2**31 - 1, 20)])
def test_a_requantization_rounds_half_up(multiplier, shift, bias):
    tables = {"multiplier": np.array([3, multiplier], np.int32), "shift": np.array([5, shift], np.int32)}
    x = np.r_[-5:6, -(2**30), 2**30]
    for limits in (VALUE_RANGE, CODE_RANGE):
        step = step_with(**tables)
        found = run(step, step.requantize("x", NODE, limits, bias), x=x)
        exact = [math.floor(Fraction((int(each) + bias) * multiplier, 2**shift) + Fraction(1, 2)) for each in x]
        assert found.tolist() == (exact if limits == CODE_RANGE else np.clip(exact, -(2**15), 2**15 - 1).tolist())


def test_multipliers_of_step_and_label():
    multiplier = np.zeros((3, 2, 3), np.int32)
    multiplier[2, 1] = [2, 4, -6]
    step = step_with(multiplier=multiplier, shift=np.array([5, 1], np.int32))
    found = run(step, step.requantize("x", NODE, VALUE_RANGE, by_label=True), x=np.array([[10, 20, 30]]))
    assert found.tolist() == [[10, 40, -90]]


@pytest.mark.parametrize(("step", "row"), [(3, 0), (-1, 0), (0, 2), (0, -1)])
def test_steps_and_labels_that_the_graph_does_not_have(step, row):
    with pytest.raises(ValueError, match=f"found step {step} and row {row}, expected less than 3 and 2"):
        step_with(step, row)
