"""A step of an integer graph as QONNX, which the qonnx executor runs to the same integers.

Weights, and the operands of linear operators, pass ``Quant`` nodes with scale 1, so that tools see their bit widths; products are
``ConvInteger`` and ``MatMulInteger``. What QONNX itself cannot express, standard ONNX operators on int64 do: its ``Quant`` rounds
half to even in float32, but the contract's requantization multiplies by 31 bits and rounds half up; and it has no integer
normalization, softmax or activation. Not exported, and refused: norm groups of more than 2**16 values, whose sums need uint64
products, which onnxruntime does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..hls import reference
from ..hls import tables as lut
from ..hls.arithmetic import CODE_RANGE, FINE_BITS, VALUE_RANGE
from ..hls.artefact import QuantizedModel
from ..hls.graph import (
    CODE,
    GELU,
    Add,
    AveragePool,
    Concat,
    Convolution,
    Graph,
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
from .traced import UnsupportedOperator

DOMAIN, OPSET, IR_VERSION = "qonnx.custom_op.general", 17, 8
LIFT = 1 << 62  # makes sums positive, so that an unsigned shift is a floor


def export(model: QuantizedModel, step: int, row: int, batch: int, path: Path) -> None:
    """Write step ``step`` for the label of ``row``. Inputs ``sample`` and, if there is one, ``context``: codes as float32
    [batch, H, W, C]; output: values as float32 [batch, H, W, C]. UnsupportedOperator for what cannot be expressed."""
    exported = _Export(model, step, row, batch).run()
    onnx.checker.check_model(exported)
    temporary = path.with_suffix(".tmp")
    onnx.save(exported, temporary)
    temporary.replace(path)


def without_annotations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in plain ONNX, which onnxruntime runs: every ``Quant`` is an identity."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.domain == DOMAIN:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
    return plain


class _Export:
    def __init__(self, model: QuantizedModel, step: int, row: int, batch: int):
        if not 0 <= step < model.graph.steps or not 0 <= row < model.graph.labels:
            raise ValueError(
                f"found step {step} and row {row}, expected less than {model.graph.steps} and {model.graph.labels}"
            )
        self.model, self.graph, self.batch = model, model.graph, batch
        self.step, self.row, self.group = step, row, model.graph.group_of_step[step]
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.names: dict[str, str] = {}  # of the graph's tensors, as int64 [B, H, W, C]

    def run(self) -> onnx.ModelProto:
        graph: Graph = self.graph
        inputs = []
        for name in (graph.input, *((graph.context,) if graph.context else ())):
            shape = (self.batch, *graph.tensors[name].shape)
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            self.names[name] = self.op("Cast", self.quant(name, 8), to=TensorProto.INT64)
        for name in graph.constants:
            value = np.asarray(self.model.tables[f"{name}.value"], np.int64)
            self.names[name] = self.constant(np.broadcast_to(value, (self.batch, *value.shape)))
        for node in graph.nodes:
            self.names[node.name] = self.node(node)
        output = helper.make_tensor_value_info(
            "output", TensorProto.FLOAT, (self.batch, *graph.tensors[graph.output].shape)
        )
        self.nodes.append(helper.make_node("Cast", [self.names[graph.output]], ["output"], to=TensorProto.FLOAT))
        made = helper.make_graph(self.nodes, "ditto_zynq", inputs, [output], list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ditto-zynq")
        plain = onnx.shape_inference.infer_shapes(without_annotations(model), strict_mode=True)
        model.graph.value_info.extend(
            plain.graph.value_info
        )  # ONNX's inference does not know Quant, the executor needs shapes
        for name, tensor in self.initializers.items():
            info = helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            model.graph.value_info.append(info)
        return model

    # ------------------------------------------------------------------------------------------------- building

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        array: np.ndarray = np.ascontiguousarray(value, dtype)
        name = f"c{len(self.initializers)}"
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def quant(self, name: str, bits: int, narrow: bool = False) -> str:
        """A QONNX annotation: integers of ``bits`` pass unchanged."""
        one, zero, width = (self.constant(value, np.float32) for value in (1.0, 0.0, float(bits)))
        attributes = {"signed": 1, "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.op("Quant", name, one, zero, width, domain=DOMAIN, **attributes)

    def annotated(self, name: str) -> str:
        """Codes that a linear operator reads, as int64 that passed a Quant."""
        return self.op("Cast", self.quant(self.op("Cast", name, to=TensorProto.FLOAT), 8), to=TensorProto.INT64)

    def unsigned_codes(self, name: str) -> str:
        """int64 codes as uint8 with zero point 128, which is what onnxruntime multiplies."""
        return self.op("Cast", self.op("Add", self.annotated(name), self.constant(128)), to=TensorProto.UINT8)

    def round_shift(self, name: str, shift: int | str) -> str:
        """``(x + half) >> shift``, the floor of negative numbers too; a ``shift`` by name is a tensor of at least 1."""
        if shift == 0:
            return name
        one = self.constant(1)
        if isinstance(shift, int):
            half, amount = self.constant(1 << (shift - 1)), self.constant(shift, np.uint64)
            lifted = self.constant(LIFT >> shift)
        else:
            half = self.shift_left(one, self.op("Sub", shift, one))
            amount = self.op("Cast", shift, to=TensorProto.UINT64)
            lifted = self.shift_right(self.constant(LIFT), amount)
        total = self.op("Add", self.op("Add", name, half), self.constant(LIFT))
        return self.op("Sub", self.shift_right(total, amount), lifted)

    def shift_right(self, name: str, amount: str) -> str:
        """Of int64 that are not negative."""
        shifted = self.op("BitShift", self.op("Cast", name, to=TensorProto.UINT64), amount, direction="RIGHT")
        return self.op("Cast", shifted, to=TensorProto.INT64)

    def shift_left(self, name: str, amount: str) -> str:
        operands = (self.op("Cast", each, to=TensorProto.UINT64) for each in (name, amount))
        return self.op("Cast", self.op("BitShift", *operands, direction="LEFT"), to=TensorProto.INT64)

    def clip(self, name: str, limits: tuple[int, int]) -> str:
        return self.op("Clip", name, self.constant(limits[0]), self.constant(limits[1]))

    def requantize(self, name: str, multiplier: np.ndarray, shift: int, limits: tuple[int, int]) -> str:
        return self.clip(self.round_shift(self.op("Mul", name, self.constant(multiplier)), shift), limits)

    def interpolate(self, table: np.ndarray, position: str, step_bits: int) -> str:
        index = self.shift_right(position, self.constant(step_bits, np.uint64))
        rest = self.op("Sub", position, self.op("Mul", index, self.constant(1 << step_bits)))
        entries = self.constant(table)
        low = self.op("Gather", entries, index)
        high = self.op("Gather", entries, self.op("Add", index, self.constant(1)))
        return self.op("Add", low, self.round_shift(self.op("Mul", self.op("Sub", high, low), rest), step_bits))

    # ------------------------------------------------------------------------------------------------- operators

    def table(self, node: Node, name: str, by_label: bool = False) -> np.ndarray:
        table = self.model.tables[f"{node.name}.{name}"]
        return np.asarray(table[self.step, self.row] if by_label else table[self.group], np.int64)

    def node(self, node: Node) -> str:
        inputs = [self.names[name] for name in node.inputs]
        x = inputs[0]
        if isinstance(node, Convolution):
            return self.convolution(node, x)
        if isinstance(node, MatMul):
            return self.product(node, inputs)
        if isinstance(node, Quantize):
            return self.quantize(node, x)
        if isinstance(node, Add):
            factors = self.table(node, "multiplier")
            scaled = [self.op("Mul", name, self.constant(factor)) for name, factor in zip(inputs, factors, strict=True)]
            return self.clip(self.round_shift(self.op("Add", *scaled), int(self.table(node, "shift"))), VALUE_RANGE)
        if isinstance(node, Multiply):
            product = self.op("Mul", *inputs)
            return self.requantize(product, self.table(node, "multiplier"), int(self.table(node, "shift")), VALUE_RANGE)
        if isinstance(node, (GroupNorm, LayerNorm)):
            return self.norm(node, x)
        if isinstance(node, (SiLU, GELU)):
            function = reference.silu if isinstance(node, SiLU) else reference.gelu
            every = function(np.arange(VALUE_RANGE[0], VALUE_RANGE[1] + 1), node.fraction_bits)
            return self.op("Gather", self.constant(every), self.op("Sub", x, self.constant(VALUE_RANGE[0])))
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

    def limits(self, node: Node) -> tuple[int, int]:
        return CODE_RANGE if self.graph.tensors[node.name].kind == CODE else VALUE_RANGE

    def convolution(self, node: Convolution, x: str) -> str:
        weight = self.model.tables[f"{node.name}.weight"].transpose(0, 3, 1, 2)
        kernel = self.op("Cast", self.quant(self.constant(weight, np.float32), 8, narrow=True), to=TensorProto.INT8)
        top, bottom, left, right = node.padding
        image = self.op("Transpose", self.unsigned_codes(x), perm=[0, 3, 1, 2])
        # Padded here with the zero point: oneself, so that nothing depends on how a runtime pads.
        pads = self.constant([0, 0, top, left, 0, 0, bottom, right])
        padded = self.op("Pad", image, pads, self.constant(128, np.uint8)) if any(node.padding) else image
        zero = self.constant(128, np.uint8)
        sums = self.op("ConvInteger", padded, kernel, zero, strides=list(node.stride))
        pixels = self.op("Cast", self.op("Transpose", sums, perm=[0, 2, 3, 1]), to=TensorProto.INT64)
        biased = self.op("Add", pixels, self.constant(self.table(node, "bias", node.conditional)))
        low, high = self.limits(node)
        multiplier = self.table(node, "multiplier", node.gated)
        return self.requantize(biased, multiplier, int(self.table(node, "shift")), (0 if node.relu else low, high))

    def product(self, node: MatMul, inputs: list[str]) -> str:
        tensors = [self.graph.tensors[name].shape for name in node.inputs]
        right = self.by_head(inputs[1], node, tensors[1])
        left = self.by_head(inputs[0], node, tensors[0]) if node.scores else self.annotated(inputs[0])
        right = self.op("Transpose", right, perm=[0, 1, 3, 2]) if node.scores else right
        operands = self.op("Cast", self.op("Add", left, self.constant(128)), to=TensorProto.UINT8)
        codes = self.op("Cast", right, to=TensorProto.INT8)
        sums = self.op("MatMulInteger", operands, codes, self.constant(128, np.uint8))
        wide = self.op("Cast", sums, to=TensorProto.INT64)
        found = self.requantize(wide, self.table(node, "multiplier"), int(self.table(node, "shift")), self.limits(node))
        if node.scores:
            return found
        queries, depth = tensors[0][1], tensors[1][2] // node.heads
        split = self.reshape(found, (self.batch, node.windows, node.heads, queries, depth))
        order = [0, 3, 1, 2, 4] if node.interleaved else [0, 1, 3, 2, 4]
        return self.reshape(self.op("Transpose", split, perm=order), (self.batch, *node.image, -1))

    def by_head(self, name: str, node: MatMul, shape: tuple[int, int, int]) -> str:
        """[B, H, W, C] -> [B, windows * heads, tokens, depth]."""
        tokens, depth = shape[0] * shape[1] // node.windows, shape[2] // node.heads
        cut = (tokens, node.windows) if node.interleaved else (node.windows, tokens)
        split = self.reshape(self.annotated(name), (self.batch, *cut, node.heads, depth))
        order = [0, 2, 3, 1, 4] if node.interleaved else [0, 1, 3, 2, 4]
        whole = (self.batch, node.windows * node.heads, tokens, depth)
        return self.reshape(self.op("Transpose", split, perm=order), whole)

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", name, self.constant(shape))

    def quantize(self, node: Quantize, x: str) -> str:
        multiplier, shift = int(self.table(node, "multiplier")), int(self.table(node, "shift"))
        codes = self.requantize(x, np.array(multiplier), shift, CODE_RANGE)
        if not node.fine:
            return codes
        scaled = self.op("Mul", x, self.constant(multiplier << FINE_BITS))
        sixteenths = self.round_shift(scaled, shift)
        residue = self.op("Sub", sixteenths, self.op("Mul", codes, self.constant(1 << FINE_BITS)))
        return self.op("Concat", codes, self.clip(residue, CODE_RANGE), axis=3)

    def norm(self, node: GroupNorm | LayerNorm, x: str) -> str:
        height, width, channels = self.graph.tensors[node.name].shape
        groups = node.groups if isinstance(node, GroupNorm) else 1
        samples = self.batch if isinstance(node, GroupNorm) else self.batch * height * width
        pixels, per_group = (height * width if isinstance(node, GroupNorm) else 1), channels // groups
        count = pixels * per_group
        if count > reference.NARROW_NORM:
            raise UnsupportedOperator(
                f"{node.name}: a norm group of {count} values needs uint64 products; up to 65536 have a form"
            )
        members = self.reshape(x, (samples, pixels, groups, per_group))
        axes = self.constant([1, 3])
        total = self.op("ReduceSum", members, axes, keepdims=1)  # [samples, 1, groups, 1]
        squares = self.op("ReduceSum", self.op("Mul", members, members), axes, keepdims=1)
        spread = self.op("Sub", self.op("Mul", squares, self.constant(count)), self.op("Mul", total, total))
        root, half_exponent = self.root(self.op("Add", spread, self.constant(self.table(node, "epsilon"))))
        reciprocal = (1 << reference.RECIPROCAL_BITS) // count
        mean = self.round_shift(
            self.op("Mul", total, self.constant(reciprocal)), reference.RECIPROCAL_BITS - reference.MEAN_BITS
        )
        gain, offset = (
            self.table(node, name, node.conditional).reshape(1, 1, groups, -1) for name in ("gain", "offset")
        )
        fixed = lut.RSQRT_ENTRY_BITS + int(self.table(node, "gain_bits")) - reference.SLOPE_BITS
        shift = self.op("Add", half_exponent, self.constant(fixed))
        scaled = self.op("Mul", self.op("Mul", root, self.constant(count)), self.constant(gain))
        limit = reference.LARGEST_SLOPE
        slope = self.clip(self.round_shift(scaled, shift), (-limit, limit))
        moved = self.round_shift(self.op("Mul", mean, slope), reference.MEAN_BITS)
        line = self.op("Add", self.op("Mul", members, slope), self.op("Sub", self.constant(offset), moved))
        found = self.clip(self.round_shift(line, reference.SLOPE_BITS), VALUE_RANGE)
        return self.reshape(found, (self.batch, height, width, channels))

    def root(self, v: str) -> tuple[str, str]:
        """:func:`reference.reciprocal_square_root`."""
        half_exponent = self.op("Mul", v, self.constant(0))
        for bits in (32, 16, 8, 4, 2):
            doubled = self.op("Cast", self.op("Mul", half_exponent, self.constant(2)), to=TensorProto.UINT64)
            large = self.op("GreaterOrEqual", self.shift_right(v, doubled), self.constant(1 << bits))
            more = self.op("Mul", self.op("Cast", large, to=TensorProto.INT64), self.constant(bits // 2))
            half_exponent = self.op("Add", half_exponent, more)
        exponent, scale = self.op("Mul", half_exponent, self.constant(2)), lut.RSQRT_MANTISSA_BITS
        beyond = self.op("Sub", exponent, self.constant(scale))
        zero = self.constant(0)
        right = self.shift_right(v, self.op("Cast", self.op("Max", beyond, zero), to=TensorProto.UINT64))
        left = self.shift_left(v, self.op("Max", self.op("Neg", beyond), zero))
        mantissa = self.op("Where", self.op("GreaterOrEqual", beyond, zero), right, left)
        position = self.op("Sub", mantissa, self.constant(1 << scale))
        return self.interpolate(lut.RECIPROCAL_SQUARE_ROOT, position, lut.RSQRT_STEP_BITS), half_exponent

    def softmax(self, node: Softmax, x: str) -> str:
        multiplier, shift, scale = (int(self.table(node, name)) for name in ("multiplier", "shift", "reciprocal_scale"))
        distances = np.arange(1 << 16)
        exponent = reference.round_shift(distances * multiplier, shift)
        whole, fraction = exponent >> lut.EXP_FRACTION_BITS, exponent & ((1 << lut.EXP_FRACTION_BITS) - 1)
        entries = reference.interpolate(lut.EXP2_NEGATIVE, fraction, lut.EXP_STEP_BITS)
        powers = reference.round_shift(entries, np.minimum(whole, 31))
        distance = self.op("Sub", self.op("ReduceMax", x, axes=[3], keepdims=1), x)
        power = self.op("Gather", self.constant(powers), distance)
        total = self.op("ReduceSum", power, self.constant([3]), keepdims=1)
        inverse = self.op("Div", self.constant(scale), total)
        return self.clip(self.round_shift(self.op("Mul", power, inverse), reference.SOFTMAX_BITS), (0, CODE_RANGE[1]))

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
        return self.requantize(total, self.table(node, "multiplier"), int(self.table(node, "shift")), VALUE_RANGE)
