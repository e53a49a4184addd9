"""ONNX models from the nodes that a builder has collected, and as files, beyond protobuf's limit too."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..builders.onnx_nodes import Body, NodeBuilder, OnnxNode

OPSET, IR_VERSION = 17, 8
LARGEST_FILE = 2**31 - 1  # bytes of a protobuf message
SMALL = 1024  # bytes up to which constants stay in the model's file, and take part in shape inference


def model_of(
    build: NodeBuilder,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    annotations: str,
) -> onnx.ModelProto:
    """The model, with every tensor's type and shape; it takes the constants from the builder.

    ``annotations``: the domain of operators that pass their first input on, which ONNX's inference does not know.
    """
    graph = helper.make_graph([_node(node) for node in build.nodes], "ditto_zynq", inputs, outputs)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(annotations, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ditto-zynq")
    shapes = [_described(name, value) for name, value in build.constants.items()]
    plain = as_identities(model, annotations)
    small = {name: value for name, value in build.constants.items() if value.nbytes <= SMALL}
    plain.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in small.items())
    plain.graph.input.extend(shapes)
    inferred = onnx.shape_inference.infer_shapes(plain, strict_mode=True)
    model.graph.value_info.extend([*inferred.graph.value_info, *shapes])
    while build.constants:  # never twice in memory
        name = next(iter(build.constants))
        model.graph.initializer.append(numpy_helper.from_array(build.constants.pop(name), name))
    return model


def _node(node: OnnxNode) -> onnx.NodeProto:
    attributes = {name: _attribute(value) for name, value in node.attributes.items()}
    return helper.make_node(node.kind, node.inputs, [node.name], node.name, domain=node.domain, **attributes)


def _attribute(value: Any) -> Any:
    if not isinstance(value, Body):
        return value
    build, nodes = value.build, [_node(node) for node in value.build.nodes]
    given, found = (
        helper.make_tensor_value_info(each, TensorProto.INT64, value.shape) for each in (value.given, value.found)
    )
    constants = [numpy_helper.from_array(array, name) for name, array in build.constants.items()]
    return helper.make_graph(nodes, build.scope, [given], [found], constants)


def _described(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def as_identities(model: onnx.ModelProto, domain: str) -> onnx.ModelProto:
    """A copy whose nodes of ``domain`` are identities of their first input."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.domain == domain:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
    return plain


def save(model: onnx.ModelProto, path: Path, largest: int = LARGEST_FILE) -> None:
    """Check and write ``model``, whole or not at all. A model of more than ``largest`` bytes keeps its tensors in
    ``<path>.data``, as ONNX's external data, and loses them in memory; what ends between the two files leaves no model at
    ``path``, the one that was there neither. The data of a model that is replaced go with it."""
    constants = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    structure = sum(each.ByteSize() for part in (model.graph.node, model.graph.value_info) for each in part)
    data = path.with_name(f"{path.name}.data")
    external = constants + 2 * structure > largest  # twice: names and dimensions of initializers, lengths
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder) / path.name
        onnx.save(model, written, save_as_external_data=external, location=data.name, size_threshold=SMALL)
        onnx.checker.check_model(str(written))
        if external:
            path.unlink(missing_ok=True)  # it must never be read with other data than its own
            written.with_name(data.name).replace(data)
        replaces = path.is_file()
        written.replace(path)
        if replaces and not external:
            data.unlink(missing_ok=True)
