"""A step of an integer graph as QONNX, which the qonnx executor runs to the same integers.

Weights, and the operands of linear operators, pass ``Quant`` nodes with scale 1, so that tools see their bit widths; products are
``ConvInteger`` and ``MatMulInteger`` of unsigned bytes by unsigned bytes with zero point 128, for these are exact everywhere: a
CPU without VNNI adds two products of unsigned by signed bytes with 16 bits, and onnxruntime lets them saturate.

What QONNX itself cannot express, standard ONNX operators on int64 do: its ``Quant`` rounds half to even in float32, but the
contract's requantization multiplies by 31 bits and rounds half up; and it has no integer normalization, softmax or activation.
Not exported, and refused: norm groups of more than 2**16 values, whose sums need uint64 products, which onnxruntime lacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...hls.artefact.model import QuantizedModel
from ...hls.contract import operators
from ...hls.contract.arithmetic import CODE_RANGE, FINE_BITS, VALUE_RANGE
from ...hls.contract.graph import Graph
from ...hls.contract.operators import (
    GELU,
    Add,
    AveragePool,
    Concat,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    ReLU,
    SiLU,
    Softmax,
    Upsample,
)
from ..trace.traced import UnsupportedOperator
from . import onnx_builder
from .onnx_builder import LARGEST_FILE, NodeBuilder, save
from .onnx_norm import norm_graph

DOMAIN = "qonnx.custom_op.general"
ZERO_POINT = 128  # of the unsigned bytes that are multiplied


def export(
    model: QuantizedModel, step: int, row: int, batch: int, path: Path, largest_file: int = LARGEST_FILE
) -> None:
    """Write step ``step`` for the label of ``row``. Inputs ``sample`` and, if there is one, ``context``: codes as float32
    [batch, H, W, C]; output: values as float32 [batch, H, W, C]. From ``largest_file`` bytes on the tensors are external
    data, ``<path>.data``. UnsupportedOperator for what cannot be expressed."""
    save(_Export(model, step, row, batch).run(), path, largest_file)


def without_annotations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in plain ONNX, which onnxruntime runs: every ``Quant`` is an identity."""
    return onnx_builder.as_identities(model, DOMAIN)


class _Export(NodeBuilder):
    def __init__(self, model: QuantizedModel, step: int, row: int, batch: int):
        if not 0 <= step < model.graph.steps or not 0 <= row < model.graph.labels:
            raise ValueError(
                f"found step {step} and row {row}, expected less than {model.graph.steps} and {model.graph.labels}"
            )
        super().__init__()
        self.quantized, self.graph, self.batch = model, model.graph, batch
        self.step, self.row, self.group = step, row, model.graph.group_of_step[step]
        self.names: dict[str, str] = {}  # of the graph's tensors, as int64 [B, H, W, C]

    def run(self) -> onnx.ModelProto:
        graph: Graph = self.graph
        inputs = []
        for name in (graph.input, *((graph.context,) if graph.context else ())):
            self.scope, shape = f"{name}/input", (self.batch, *graph.tensors[name].shape)
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            self.names[name] = self.cast(self.quant(name, 8), TensorProto.INT64)
        for name in graph.constants:
            value = np.asarray(self.quantized.tables[f"{name}.value"], np.int64)
            self.names[name] = self.constant(np.broadcast_to(value, (self.batch, *value.shape)))
        for node in graph.nodes:
            self.scope = node.name
            self.names[node.name] = self.node(node)
        shape = (self.batch, *graph.tensors[graph.output].shape)
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
        self.nodes.append(
            helper.make_node("Cast", [self.names[graph.output]], ["output"], "output", to=TensorProto.FLOAT)
        )
        return self.model(inputs, [output], DOMAIN)

    # ------------------------------------------------------------------------------------------------- building

    def quant(self, name: str, bits: int, narrow: bool = False) -> str:
        """A QONNX annotation: integers of ``bits`` pass unchanged."""
        one, zero, width = (self.constant(value, np.float32) for value in (1.0, 0.0, float(bits)))
        attributes = {"signed": 1, "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.op("Quant", name, one, zero, width, domain=DOMAIN, **attributes)

    def operand(self, codes: str, narrow: bool = False) -> str:
        """Float codes, annotated, as the unsigned bytes that a product takes."""
        one, zero = self.constant(1.0, np.float32), self.constant(ZERO_POINT, np.uint8)
        return self.op("QuantizeLinear", self.quant(codes, 8, narrow), one, zero)

    def activation(self, name: str) -> str:
        """:meth:`operand` of int64 codes."""
        return self.operand(self.cast(name, TensorProto.FLOAT))

    def product(self, kind: str, left: str, right: str, **attributes: Any) -> str:
        """int64 sums of products. Both operands are unsigned bytes: see the head of this file."""
        zero = self.constant(ZERO_POINT, np.uint8)
        return self.cast(self.op(kind, left, right, zero, zero, **attributes), TensorProto.INT64)

    def requantize(
        self, name: str, node: Node, limits: tuple[int, int], bias: int | np.ndarray = 0, by_label: bool = False
    ) -> str:
        """By the node's multipliers, which may be ``by_label``. Codes are not clipped: the ``Quant`` before a product does."""
        multiplier, shift = self.table(node, "multiplier", by_label), int(self.table(node, "shift"))
        found = self.round_shift(self.op("Mul", name, self.constant(multiplier)), shift, bias * multiplier)
        return found if limits == CODE_RANGE else self.clip(found, limits)

    # ------------------------------------------------------------------------------------------------- operators

    def table(self, node: Node, name: str, by_label: bool = False) -> np.ndarray:
        table = self.quantized.tables[f"{node.name}.{name}"]
        return np.asarray(table[self.step, self.row] if by_label else table[self.group], np.int64)

    def node(self, node: Node) -> str:
        inputs = [self.names[name] for name in node.inputs]
        x = inputs[0]
        if isinstance(node, Convolution):
            return self.convolution(node, x)
        if isinstance(node, MatMul):
            return self.attention(node, inputs)
        if isinstance(node, Quantize):
            return self.quantize(node, x)
        if isinstance(node, Add):
            factors = self.table(node, "multiplier")
            scaled = [self.op("Mul", name, self.constant(factor)) for name, factor in zip(inputs, factors, strict=True)]
            return self.clip(self.round_shift(self.op("Add", *scaled), int(self.table(node, "shift"))), VALUE_RANGE)
        if isinstance(node, Multiply):
            return self.requantize(self.op("Mul", *inputs), node, VALUE_RANGE)
        if isinstance(node, (GroupNorm, LayerNorm)):
            return self.norm(node, x)
        if isinstance(node, (SiLU, GELU)):
            function = operators.activation.silu if isinstance(node, SiLU) else operators.activation.gelu
            every = function(np.r_[0 : VALUE_RANGE[1] + 1, VALUE_RANGE[0] : 0], node.fraction_bits)
            return self.lookup(every, x)  # negative ones count from the table's end
        if isinstance(node, ReLU):
            return self.op("Max", x, self.constant(0))
        if isinstance(node, Softmax):
            return self.softmax(node, x)
        if isinstance(node, Concat):
            return self.op("Concat", *inputs, axis=3)
        if isinstance(node, Upsample):
            return self.upsample(node, x)
        if isinstance(node, AveragePool):
            return self.pool(node, x)
        raise UnsupportedOperator(f"{node.name}: {type(node).__name__} has no form in QONNX")

    def convolution(self, node: Convolution, x: str) -> str:
        weight = self.quantized.tables[f"{node.name}.weight"].transpose(0, 3, 1, 2)
        kernel = self.operand(self.constant(weight, np.float32), narrow=True)
        top, bottom, left, right = node.padding
        image = self.op("Transpose", self.activation(x), perm=[0, 3, 1, 2])
        if any(node.padding):  # here and with the zero point: nothing depends on how a runtime pads
            pads = self.constant([0, 0, top, left, 0, 0, bottom, right])
            image = self.op("Pad", image, pads, self.constant(ZERO_POINT, np.uint8))
        sums = self.product("ConvInteger", image, kernel, kernel_shape=list(node.kernel), strides=list(node.stride))
        pixels = self.op("Transpose", sums, perm=[0, 2, 3, 1])
        low, high = self.graph.tensors[node.name].limits
        bias = self.table(node, "bias", node.conditional)
        return self.requantize(pixels, node, (0 if node.relu else low, high), bias, node.gated)

    def attention(self, node: MatMul, inputs: list[str]) -> str:
        tensors = [self.graph.tensors[name].shape for name in node.inputs]
        right = self.by_head(inputs[1], node, tensors[1])
        left = self.by_head(inputs[0], node, tensors[0]) if node.scores else self.activation(inputs[0])
        right = self.op("Transpose", right, perm=[0, 1, 3, 2]) if node.scores else right
        sums = self.product("MatMulInteger", left, right)
        if node.scores:
            return self.requantize(sums, node, self.graph.tensors[node.name].limits)
        found = self.clip(self.divide_rows(sums, inputs[0], node), self.graph.tensors[node.name].limits)
        queries, depth = tensors[0][1], tensors[1][2] // node.heads
        split = self.reshape(found, (self.batch, node.windows, node.heads, queries, depth))
        order = [0, 3, 1, 2, 4] if node.interleaved else [0, 1, 3, 2, 4]
        return self.reshape(self.op("Transpose", split, perm=order), (self.batch, *node.image, -1))

    def by_head(self, name: str, node: MatMul, shape: tuple[int, int, int]) -> str:
        """Codes [B, H, W, C] -> bytes [B, windows * heads, tokens, depth]."""
        tokens, depth = shape[0] * shape[1] // node.windows, shape[2] // node.heads
        cut = (tokens, node.windows) if node.interleaved else (node.windows, tokens)
        split = self.reshape(self.activation(name), (self.batch, *cut, node.heads, depth))
        order = [0, 2, 3, 1, 4] if node.interleaved else [0, 1, 3, 2, 4]
        whole = (self.batch, node.windows * node.heads, tokens, depth)
        return self.reshape(self.op("Transpose", split, perm=order), whole)

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", name, self.constant(shape))

    def quantize(self, node: Quantize, x: str) -> str:
        codes = self.requantize(x, node, CODE_RANGE)
        if not node.fine:
            return codes
        codes, multiplier, shift = (
            self.clip(codes, CODE_RANGE),
            self.table(node, "multiplier"),
            int(self.table(node, "shift")),
        )
        scaled = self.op("Mul", x, self.constant(multiplier << FINE_BITS))
        sixteenths = self.round_shift(scaled, shift)
        residue = self.op("Sub", sixteenths, self.op("Mul", codes, self.constant(1 << FINE_BITS)))
        return self.op("Concat", codes, self.clip(residue, CODE_RANGE), axis=3)

    def norm(self, node: GroupNorm | LayerNorm, x: str) -> str:
        """One node, which runs a graph of its own on every sample: those of all norms would be half of the model."""
        height, width, channels = self.graph.tensors[node.name].shape
        groups = node.groups if isinstance(node, GroupNorm) else 1
        shape = (height * width, groups, channels // groups)
        gain, offset = (self.table(node, name, node.conditional).reshape(shape[1:]) for name in ("gain", "offset"))
        bits, epsilon = int(self.table(node, "gain_bits")), int(self.table(node, "epsilon"))
        try:
            body = norm_graph(node.name, shape, isinstance(node, GroupNorm), gain, offset, bits, epsilon)
        except OverflowError as error:
            raise UnsupportedOperator(f"{node.name}: {error}") from error
        members = self.reshape(x, (self.batch, *shape))
        found = self.op("Scan", members, body=body, num_scan_inputs=1)
        return self.reshape(found, (self.batch, height, width, channels))

    def softmax(self, node: Softmax, x: str) -> str:
        """A table of shares by the distance to the row's largest logit, then each key's rounding."""
        multiplier, shift = (int(self.table(node, name)) for name in ("multiplier", "shift"))
        shares = operators.softmax.softmax_shares(np.arange(1 << 16), multiplier, shift)
        distance = self.op("Sub", self.op("ReduceMax", x, axes=[3], keepdims=1), x)
        thresholds = operators.softmax.rounding_thresholds(self.graph.tensors[node.name].shape[2])
        raised = self.op("Add", self.lookup(shares, distance), self.constant(thresholds))
        return self.op("Div", raised, self.constant(1 << operators.softmax.SHARE_BITS))  # never negative

    def divide_rows(self, sums: str, p: str, node: MatMul) -> str:
        """Sums [B, windows * heads, queries, depth] by :func:`operators.softmax.row_multipliers` of a softmax's codes ``p``."""
        total = self.op("Max", self.op("ReduceSum", p, self.constant([3]), keepdims=1), self.constant(CODE_RANGE[1]))
        reciprocal = self.op("Div", self.constant(1 << operators.softmax.ROW_RECIPROCAL_BITS), total)
        multiplier = self.constant(self.table(node, "multiplier"))
        of_rows = self.round_shift(self.op("Mul", reciprocal, multiplier), operators.softmax.ROW_BITS)
        return self.round_shift(self.op("Mul", sums, of_rows), int(self.table(node, "shift")))

    def upsample(self, node: Upsample, x: str) -> str:
        height, width, channels = self.graph.tensors[node.inputs[0]].shape
        wide = self.reshape(x, (self.batch, height, 1, width, 1, channels))
        shape = self.constant((self.batch, height, node.factor, width, node.factor, channels))
        whole = (self.batch, height * node.factor, width * node.factor, channels)
        large = self.reshape(self.op("Expand", wide, shape), whole)
        if not any(node.crop):
            return large
        ends = self.constant(self.graph.tensors[node.name].shape[:2])
        return self.op("Slice", large, self.constant([0, 0]), ends, self.constant([1, 2]))

    def pool(self, node: AveragePool, x: str) -> str:
        rows, columns, channels = self.graph.tensors[node.name].shape
        ends = self.constant([rows * node.size, columns * node.size])
        cut = self.op("Slice", x, self.constant([0, 0]), ends, self.constant([1, 2]))
        windows = self.reshape(cut, (self.batch, rows, node.size, columns, node.size, channels))
        total = self.op("ReduceSum", windows, self.constant([2, 4]), keepdims=0)
        return self.requantize(total, node, VALUE_RANGE)
