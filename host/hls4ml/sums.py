"""A linear layer's exact sums as codes of its result's type, by operators that round half up and saturate at 8 or 16 bits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...hls.contract.arithmetic import CODE_RANGE, VALUE_RANGE
from ...hls.contract.operators import Add, Convolution, Multiply, Node, Quantize, ReLU
from ...hls.contract.tensor import CODE, VALUE, Tensor
from .types import DOWN, HALF_EVEN, FixedPoint, Unsupported

OFFSET = 128  # of the codes of unsigned bytes: code 0 of the type is the engine's -128
PAD_CODE = 64  # of the channels that are constant inside an image and 0 around it
LARGEST_WEIGHT = 127


@dataclass(frozen=True)
class Stream:
    """What passes between layers: a tensor of the graph, its fraction bits, the range of its codes, and where elements lie.

    The engine's codes are those of the type less ``offset``. ``layout`` holds, in the shape that hls4ml sees, flat positions
    in the tensor [H, W, C], or in the user's input before the first layer.
    """

    tensor: str
    fractional: int
    low: int
    high: int
    layout: np.ndarray
    offset: int = 0


@dataclass(frozen=True)
class Sums:
    """What a linear layer sums: weights int8 [O, kh, kw, I] of codes of ``operand``, in steps of ``2**-fractional``, and a bias
    int64 [O] in steps of ``2**-(fractional + finer)``; of the sums, in the bias's steps, the range."""

    operand: str
    weight: np.ndarray
    bias: np.ndarray
    fractional: int
    finer: int
    low: int
    high: int
    fields: dict[str, Any]  # of the convolution
    shape: tuple[int, int, int]  # of the result


@dataclass
class GraphBuilder:
    """Builds a graph, layer by layer."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)

    def add(self, node: Node, kind: str, shape: tuple[int, int, int], **tables: np.ndarray) -> str:
        """Add a node with its result's ``kind`` and ``shape``, and its tables. Returns its name."""
        self.nodes.append(node)
        self.tensors[node.name] = Tensor(node.name, kind, shape)
        self.tables.update({f"{node.name}.{name}": table for name, table in tables.items()})
        return node.name

    def total(self, name: str, layer: str, operands: tuple[str, str], factors: tuple[int, int], shift: int = 0) -> str:
        """Add a value: the operands times the factors, divided by ``2**shift``. Returns its name."""
        multiplier = np.array([factors], np.int32) << (0 if shift else 1)
        node, shape = Add(name, layer, operands), self.tensors[operands[0]].shape
        return self.add(node, VALUE, shape, multiplier=multiplier, shift=np.array([max(shift, 1)], np.int32))

    def constant(self, name: str, value: int, shape: tuple[int, int, int]) -> str:
        """Add a tensor that is ``value`` everywhere. Returns its name."""
        self.tensors[name], self.tables[f"{name}.value"] = Tensor(name, VALUE, shape), np.full(shape, value, np.int16)
        self.constants.append(name)
        return name


@dataclass(frozen=True)
class Storage:
    """How codes ``low`` to ``high`` of a type are kept: as ``kind``, less ``offset``; ``relu``: with saturation at 0,
    ``symmetric``: at ``low``."""

    kind: str
    low: int
    high: int
    offset: int = 0
    relu: bool = False
    symmetric: bool = False


def storage_of(layer: Any, target: FixedPoint, low: int, high: int, kind: str | None = None) -> Storage:
    """How results of ``low`` to ``high`` are kept in the type ``target``. Unsupported where its limits are neither the engine's
    nor never reached."""
    if not target.holds(low, high) and not target.saturates:
        raise Unsupported(
            f"{layer.name}: found {target} for results of {low} to {high}, which wraps; expected SAT, or more bits"
        )
    first, end = (int(limit) for limit in np.clip((low, high), *target.limits))
    offset = OFFSET if kind is None and first >= 0 and CODE_RANGE[1] < end <= CODE_RANGE[1] + OFFSET else 0
    kind = kind or (CODE if first - offset >= CODE_RANGE[0] and end - offset <= CODE_RANGE[1] else VALUE)
    relu = not target.signed and low < 0 and not offset
    engine = [limit + offset for limit in (CODE_RANGE if kind == CODE else VALUE_RANGE)]
    symmetric = target.saturation == "SAT_SYM" and low < first and kind == CODE and not (relu or offset)
    engine[0] = 0 if relu else first if symmetric else engine[0]
    same = all(target.limits[side] == engine[side] or (low, high)[side] == (first, end)[side] for side in (0, 1))
    if not same or first < engine[0] or end > engine[1]:
        raise Unsupported(
            f"{layer.name}: found {target} for results of {low} to {high}, expected a type with the engine's limits, such as "
            "fixed<8,I,RND,SAT>, ufixed<8,I,RND,SAT> or, of the last layer, fixed<16,I,RND,SAT>"
        )
    return Storage(kind, first, end, offset, relu, symmetric)


def rounded(
    builder: GraphBuilder,
    layer: Any,
    sums: Sums,
    target: FixedPoint,
    relu: bool,
    kind: str | None = None,
    pads: int = 0,
) -> Stream:
    """Add what makes a result of type ``target`` of the sums. ``pads``: constant channels that follow, if the codes have an
    offset. Unsupported where it would not be exact."""
    low, high = (max(end, 0) if relu else end for end in (sums.low, sums.high))
    fractional = sums.fractional + sums.finer
    shift, low, high = rescale(target, fractional, low, high)
    if sums.finer and shift <= sums.finer:
        raise Unsupported(
            f"{layer.name}: found a bias with {fractional} fraction bits, expected at most the {sums.fractional} of input times "
            "weight, or a result that is rounded"
        )
    storage = storage_of(layer, target, low, high, kind)
    relu = (relu or storage.relu) and not storage.offset
    bias = sums.bias - (storage.offset << max(shift, 0))
    if storage.offset and shift < 0:
        raise Unsupported(
            f"{layer.name}: found {target}, with more fraction bits than the sums; expected a sign or 7 bits"
        )
    moved = dataclasses.replace(sums, bias=bias)
    pads = pads if storage.offset else 0
    make = _half_even if target.rounding == HALF_EVEN and shift > 0 else _half_up
    if target.rounding == DOWN and shift > 0:  # half up of half a step less
        moved = dataclasses.replace(moved, bias=bias - (1 << shift - 1))
    result = _Result(shift, relu, storage.kind, pads)
    if storage.symmetric:
        value = make(builder, layer, moved, result.of_kind(VALUE), f"{layer.name}.value")
        name = _symmetric(builder, layer.name, value, -storage.low)
    else:
        name = make(builder, layer, moved, result, layer.name)
    height, width, channels = builder.tensors[name].shape
    positions = np.arange(height * width * channels).reshape(height, width, channels)[:, :, : sums.shape[2]]
    layout = positions.reshape(layer.get_output_variable().shape)
    return Stream(name, fractional - shift, storage.low, storage.high, layout, storage.offset)


@dataclass(frozen=True)
class _Result:
    """What becomes of sums: divided by ``2**shift``, with a ReLU or not, kept as ``kind``, and followed by ``pads`` constant
    channels."""

    shift: int
    relu: bool
    kind: str
    pads: int

    def of_kind(self, kind: str) -> _Result:
        return dataclasses.replace(self, kind=kind)


def _half_up(builder: GraphBuilder, layer: Any, sums: Sums, result: _Result, name: str) -> str:
    """Add a convolution that divides the sums, a half to plus infinity. Returns its name."""
    coarse, pads = result.shift - sums.finer, result.pads
    bias = np.concatenate([sums.bias >> sums.finer, np.full(pads, PAD_CODE << max(coarse, 0))])
    if np.any(bias != bias.astype(np.int32)):
        raise Unsupported(f"{layer.name}: found a bias of {bias.min()} to {bias.max()}, expected one within 32 bits")
    multiplier, table_shift = power_of_two(layer, coarse)
    height, width, channels = sums.shape
    return builder.add(
        Convolution(name, layer.name, (sums.operand,), relu=result.relu, **sums.fields),
        result.kind,
        (height, width, channels + pads),
        weight=np.concatenate([sums.weight, np.zeros((pads, *sums.weight.shape[1:]), np.int8)]),
        bias=bias.astype(np.int32)[None],
        multiplier=np.full((1, len(bias)), multiplier, np.int32),
        shift=np.array([table_shift], np.int32),
    )


def _half_even(builder: GraphBuilder, layer: Any, sums: Sums, result: _Result, name: str) -> str:
    """Add what divides the sums, a half to the even code, of two convolutions. Returns its name.

    ``up`` rounds a half up and ``down`` down; where they differ the even one of the two is ``2 * round((up + down) / 4)``.
    """
    less = dataclasses.replace(sums, bias=sums.bias - 1)
    value = result.of_kind(VALUE)
    up = _half_up(builder, layer, sums, value, f"{name}.up")
    down = _half_up(builder, layer, less, value, f"{name}.down")
    tie = builder.total(f"{name}.tie", layer.name, (up, down), (1, -1))
    half = builder.total(f"{name}.half", layer.name, (up, down), (1, 1), 2)
    step = builder.total(f"{name}.step", layer.name, (half, down), (2, -1))
    move = builder.add(Multiply(f"{name}.move", layer.name, (tie, step)), VALUE, builder.tensors[up].shape, **_same())
    if result.kind == VALUE:
        return builder.total(name, layer.name, (down, move), (1, 1))
    return _code(builder, name, builder.total(f"{name}.even", layer.name, (down, move), (1, 1)))


def _symmetric(builder: GraphBuilder, name: str, value: str, limit: int) -> str:
    """Add codes of values that saturate at ``-limit``. Returns their name."""
    shape = builder.tensors[value].shape
    moved = builder.constant(f"{name}.limit", limit, shape)
    above = builder.total(f"{name}.above", name, (value, moved), (1, 1))
    cut = builder.add(ReLU(f"{name}.cut", name, (above,)), VALUE, shape)
    return _code(builder, name, builder.total(f"{name}.back", name, (cut, moved), (1, -1)))


def _code(builder: GraphBuilder, name: str, value: str) -> str:
    return builder.add(Quantize(name, name, (value,)), CODE, builder.tensors[value].shape, **_same())


def _same() -> dict[str, np.ndarray]:
    """Tables that change nothing."""
    return {"multiplier": np.array([2], np.int32), "shift": np.array([1], np.int32)}


def rounded_again(builder: GraphBuilder, middle: Stream, activation: Any, target: FixedPoint, relu: bool) -> Stream:
    """Add ReLU and a second rounding of a 16-bit value, to the type ``target``. Unsupported where it would not be exact."""
    tensor = builder.tensors[middle.tensor]
    name, low, high = middle.tensor, middle.low, middle.high
    if relu:
        name = builder.add(ReLU(f"{activation.name}.relu", activation.name, (name,)), VALUE, tensor.shape)
        low, high = max(low, 0), max(high, 0)
    shift, low, high = rescale(target, middle.fractional, low, high)
    if shift > 0 and target.rounding in (DOWN, HALF_EVEN):
        raise Unsupported(f"{activation.name}: found {target} of a rounded value, expected RND")
    storage = storage_of(activation, target, low, high)
    if storage.relu or storage.offset or storage.kind != CODE:
        raise Unsupported(f"{activation.name}: found {target} after a result of 16 bits, expected fixed<8,I,RND,SAT>")
    multiplier, table_shift = power_of_two(activation, shift)
    node = Quantize(activation.name, activation.name, (name,))
    tables = {"multiplier": np.array([multiplier], np.int32), "shift": np.array([table_shift], np.int32)}
    name = builder.add(node, CODE, tensor.shape, **tables)
    return Stream(name, middle.fractional - shift, storage.low, storage.high, middle.layout)


def is_exact(of: FixedPoint, fractional: int, low: int, high: int) -> bool:
    """Whether codes with so many fraction bits, in this range, pass through the type unchanged."""
    finer = of.fractional - fractional
    return finer >= 0 and of.holds(low << finer, high << finer)


def rescale(target: FixedPoint, fractional: int, low: int, high: int) -> tuple[int, int, int]:
    """The bits by which codes with ``fractional`` fraction bits are shifted right into ``target`` (left where negative), and
    their range then, before it saturates. What passes unchanged keeps its steps, which take fewer bits."""
    shift = fractional - target.fractional
    if shift <= 0:
        return (0, low, high) if is_exact(target, fractional, low, high) else (shift, low << -shift, high << -shift)
    half = 1 << shift >> 1 if target.rounds else 0
    return shift, low + half >> shift, high + half >> shift


def power_of_two(layer: Any, shift: int) -> tuple[int, int]:
    """A multiplier and a shift, at least 1, that divide by ``2**shift``. Unsupported beyond what the engine shifts by."""
    if not -29 <= shift <= 62:
        raise Unsupported(
            f"{layer.name}: found a result of {shift} fraction bits fewer than the sums, expected -29 to 62"
        )
    return (1, shift) if shift > 0 else (2 << -shift, 1)
