"""A step of an integer graph as QONNX, which the qonnx executor runs to the same integers.

Every operator says itself what it is in QONNX (:mod:`..operators`), in the terms of :mod:`..builders.qonnx_step`. Not exported,
and refused: norm groups of more than 2**16 values, whose sums need uint64 products, which onnxruntime lacks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...hls.artefact.model import QuantizedModel
from ..builders.onnx_nodes import FLOAT, INT64, OnnxNode
from ..builders.qonnx_step import DOMAIN, QonnxStep
from ..operators import operator_of
from .onnx_file import LARGEST_FILE, as_identities, model_of, save


def export(
    model: QuantizedModel, step: int, row: int, batch: int, path: Path, largest_file: int = LARGEST_FILE
) -> None:
    """Write step ``step`` for the label of ``row``. Inputs ``sample`` and, if there is one, ``context``: codes as float32
    [batch, H, W, C]; output: values as float32 [batch, H, W, C]. From ``largest_file`` bytes on the tensors are external
    data, ``<path>.data``. UnsupportedOperator for what cannot be expressed."""
    save(_step_model(QonnxStep(model.graph, model.tables, step, row, batch)), path, largest_file)


def without_annotations(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` in plain ONNX, which onnxruntime runs: every ``Quant`` is an identity."""
    return as_identities(model, DOMAIN)


def _step_model(step: QonnxStep) -> onnx.ModelProto:
    graph, inputs = step.graph, []
    names: dict[str, str] = {}  # of the graph's tensors in ONNX
    for name in (graph.input, *((graph.context,) if graph.context else ())):
        step.scope = f"{name}/input"
        inputs.append(_float_tensor(name, step, name))
        names[name] = step.cast(step.quant(name, 8), INT64)
    for name in graph.constants:
        value = np.asarray(step.tables[f"{name}.value"], np.int64)
        names[name] = step.constant(np.broadcast_to(value, (step.batch, *value.shape)))
    for node in graph.nodes:
        step.scope = node.name
        names[node.name] = operator_of(node).qonnx(node, [names[name] for name in node.inputs], step)
    step.nodes.append(OnnxNode("Cast", (names[graph.output],), "output", {"to": FLOAT}))
    return model_of(step, inputs, [_float_tensor("output", step, graph.output)], DOMAIN)


def _float_tensor(name: str, step: QonnxStep, tensor: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (step.batch, *step.graph.tensors[tensor].shape))
