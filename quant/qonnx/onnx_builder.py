"""ONNX models piece by piece: named nodes, each operation and each constant once, files beyond protobuf's limit."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
LARGEST_FILE = 2**31 - 1  # bytes of a protobuf message
SMALL = 1024  # bytes up to which constants stay in the model's file, and take part in shape inference


class NodeBuilder:
    """Collects the nodes and the constants of a graph. What is asked for twice exists once.

    ``scope`` stands before the names of what is made, ``home``, where the graph is a node's, before those of scalars too.
    """

    def __init__(self, home: str = "") -> None:
        self.scope = self.home = home
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._made: dict[tuple, str] = {}  # by content
        self._uses: dict[str, int] = {}  # of names

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of the node's only output, which is the node's own."""
        key = (kind, domain, inputs, repr(sorted(attributes.items())))
        if key not in self._made:
            name = self._made[key] = self._unique(kind)
            self.nodes.append(helper.make_node(kind, inputs, [name], name, domain=domain, **attributes))
        return self._made[key]

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        """The name of an initializer, of as many dimensions as ``value`` has."""
        array: np.ndarray = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._made:
            scalar = f"{self.home}/{array.dtype}_{array}".lstrip("/")
            name = self._made[key] = self._unique("constant") if array.ndim else scalar
            self.initializers[name] = numpy_helper.from_array(array, name)
        return self._made[key]

    def cast(self, name: str, to: int) -> str:
        return self.op("Cast", name, to=to)

    def floor_divide(self, name: str, divisor: str) -> str:
        """Of int64; ONNX's own division of negative numbers cuts."""
        return self.op("Div", self.op("Sub", name, self.op("Mod", name, divisor)), divisor)

    def round_shift(self, name: str, shift: int, more: int | np.ndarray = 0) -> str:
        """``(x + more + half) >> shift``, the floor of negative numbers too."""
        half = 1 << shift >> 1
        rounded = self.op("Add", name, self.constant(more + half)) if np.any(more) or half else name
        return self.floor_divide(rounded, self.constant(1 << shift)) if shift else rounded

    def clip(self, name: str, limits: tuple[int, int]) -> str:
        return self.op("Clip", name, self.constant(limits[0]), self.constant(limits[1]))

    def lookup(self, table: np.ndarray, index: str) -> str:
        """int64 entries of ``table``, which is kept in as few bytes as hold it."""
        narrow = next(t for t in (np.int16, np.int32, np.int64) if np.array_equal(table.astype(t), table))
        found = self.op("Gather", self.constant(table, narrow), index)
        return found if narrow is np.int64 else self.cast(found, TensorProto.INT64)

    def _unique(self, kind: str) -> str:
        name = f"{self.scope}/{kind}" if self.scope else kind
        self._uses[name] = self._uses.get(name, 0) + 1
        return name if self._uses[name] == 1 else f"{name}_{self._uses[name]}"

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        annotations: str,
    ) -> onnx.ModelProto:
        """The model, with every tensor's type and shape; it takes the constants from the builder.

        ``annotations``: the domain of operators that pass their first input on, which ONNX's inference does not know.
        """
        graph = helper.make_graph(self.nodes, "ditto_zynq", inputs, outputs)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(annotations, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ditto-zynq")
        shapes = [helper.make_tensor_value_info(n, t.data_type, t.dims) for n, t in self.initializers.items()]
        plain = as_identities(model, annotations)
        small = [tensor for tensor in self.initializers.values() if len(tensor.raw_data) <= SMALL]
        plain.graph.initializer.extend(small)
        plain.graph.input.extend(shapes)
        inferred = onnx.shape_inference.infer_shapes(plain, strict_mode=True)
        model.graph.value_info.extend([*inferred.graph.value_info, *shapes])
        while self.initializers:  # never twice in memory
            model.graph.initializer.append(self.initializers.pop(next(iter(self.initializers))))
        return model


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
