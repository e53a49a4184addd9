"""Random integer graphs with random tables, over the whole legal range: what selftests and fuzz tests run on every device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import operators
from .formats import WEIGHT_BITS, WEIGHT_WIDTHS
from .graph import Graph, check_graph
from .operators import (
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
from .operators.activation import Activation
from .tensor import CODE, LIMITS, VALUE, Tensor

Shape = tuple[int, int, int]


@dataclass
class GraphBuilder:
    """Adds operators with tables whose results use much of their range, sometimes all of it and beyond."""

    seed: int
    groups: int = 2
    steps: int = 4
    labels: int = 3
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    tables: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.widths: np.random.Generator | None = None  # decides how wide the weights of layers are

    def input(self, shape: Shape) -> str:
        self.tensors["sample"] = Tensor("sample", CODE, shape)
        return "sample"

    def context(self, shape: Shape) -> str:
        """A second input, which stays the same in every step."""
        self.tensors["context"] = Tensor("context", CODE, shape)
        return "context"

    def hold(self, name: str) -> str:
        """Give a node the same tables in every step group."""
        for table in [table for table in self.tables if table.startswith(f"{name}.") and not table.endswith(".weight")]:
            self.tables[table] = np.repeat(self.tables[table][:1], self.groups, axis=0)
        return name

    def convolution(
        self,
        source: str,
        channels: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        kind: str = VALUE,
        conditional: bool = False,
        extreme: bool = False,
        relu: bool = False,
        gated: bool = False,
        weight_bits: int | None = None,
    ) -> str:
        """``weight_bits`` (default: 8, or by chance where the builder has ``widths``)."""
        by_chance = WEIGHT_BITS if self.widths is None else int(self.widths.choice(WEIGHT_WIDTHS))
        bits = by_chance if weight_bits is None else weight_bits
        node = Convolution(self._name(), "m", (source,), kernel, stride, padding, conditional, relu, gated, bits)
        depth = self.tensors[source].shape[2]
        weight = self.random.integers(-127, 128, (channels, *kernel, depth))
        if extreme:
            weight = 127 * self.random.choice([-1, 1], (channels, 1, 1, 1)) * np.ones_like(weight)
        weight = weight >> (WEIGHT_BITS - bits)
        rows = (self.steps, self.labels, channels) if conditional else (self.groups, channels)
        reach = 60 * 60 * np.sqrt(weight[0].size)
        self._set(node, weight=weight.astype(np.int8), bias=self._integers(-reach, reach, rows, np.int32))
        self._requantizer(node, reach, kind, (self.steps, self.labels, channels) if gated else (self.groups, channels))
        return self._add(node, kind, channels)

    def scores(self, q: str, k: str, heads: int, windows: int = 1, interleaved: bool = False) -> str:
        node = MatMul(self._name(), "m", (q, k), heads=heads, windows=windows, interleaved=interleaved)
        self._requantizer(node, 60 * 60 * np.sqrt(self.tensors[q].shape[2] / heads), VALUE, (self.groups,))
        return self._add(node, VALUE)

    def softmax(self, source: str) -> str:
        node = Softmax(self._name(), "m", (source,))
        shift = 20 + self.random.integers(0, 12, self.groups)
        multiplier = self._integers(1, 2 ** (shift - 4), (self.groups,), np.int32)
        self._set(node, multiplier=multiplier, shift=shift.astype(np.int32))
        return self._add(node, CODE)

    def mix(
        self,
        p: str,
        v: str,
        heads: int,
        kind: str = CODE,
        image: tuple[int, int] | None = None,
        windows: int = 1,
        interleaved: bool = False,
    ) -> str:
        height, width, _ = self.tensors[v].shape
        queries = self.tensors[p].shape[1] * windows
        image = image or ((height, width) if height * width == queries else (1, queries))
        node = MatMul(self._name(), "m", (p, v), heads, False, image, windows, interleaved)
        mean = 60 / np.sqrt(self.tensors[p].shape[2])  # of values, times 2**6 as the sum's reciprocal has it
        self._requantizer(
            node, mean * 2 ** (operators.softmax.ROW_RECIPROCAL_BITS - operators.softmax.ROW_BITS), kind, (self.groups,)
        )
        return self._add(node, kind)

    def quantize(self, source: str, fine: bool = False) -> str:
        node = Quantize(self._name(), "m", (source,), fine)
        self._requantizer(node, 8000, CODE, (self.groups,))
        return self._add(node, CODE)

    def add(self, a: str, b: str) -> str:
        node = Add(self._name(), "m", (a, b))
        self._requantizer(node, 2**15, VALUE, (self.groups, 2))
        return self._add(node, VALUE)

    def multiply(self, a: str, b: str) -> str:
        node = Multiply(self._name(), "m", (a, b))
        self._requantizer(node, 2**26, VALUE, (self.groups,))
        return self._add(node, VALUE)

    def constant(self, shape: Shape) -> str:
        """Values that are the same in all runs."""
        name = f"constant{len(self.nodes)}"
        self.tensors[name] = Tensor(name, VALUE, shape)
        self.tables[f"{name}.value"] = self.random.integers(-(2**15), 2**15, shape).astype(np.int16)
        return name

    def group_norm(self, source: str, norm_groups: int, conditional: bool = False) -> str:
        return self._normalize(GroupNorm(self._name(), "m", (source,), norm_groups, conditional))

    def _normalize(self, node: GroupNorm | LayerNorm) -> str:
        channels = self.tensors[node.inputs[0]].shape[2]
        rows = (self.steps, self.labels, channels) if node.conditional else (self.groups, channels)
        gain_bits = self.random.integers(0, 16, self.groups)
        self._set(node, gain=self._integers(-(2**21) + 1, 2**21, rows, np.int32))
        self._set(node, offset=self._integers(-(2**36), 2**36, rows, np.int64))
        self._set(node, gain_bits=gain_bits.astype(np.int32))
        self._set(node, epsilon=self._integers(1, 2**40, (self.groups,), np.int64))
        return self._add(node, VALUE)

    def activation(self, kind: type[Activation], source: str) -> str:
        """Any activation, by a table with some of the fraction bits that it may have."""
        node = kind(self._name(), "m", (source,))
        if node.fraction_bits:
            bits = int(self.random.integers(6, 12))
            node = dataclasses.replace(node, fraction_bits=bits)  # type: ignore[call-arg]
        return self._add(node, VALUE)

    def silu(self, source: str) -> str:
        return self.activation(SiLU, source)

    def gelu(self, source: str) -> str:
        return self.activation(GELU, source)

    def relu(self, source: str) -> str:
        return self.activation(ReLU, source)

    def layer_norm(self, source: str, conditional: bool = False) -> str:
        return self._normalize(LayerNorm(self._name(), "m", (source,), conditional))

    def upsample(self, source: str, factor: int = 2, crop: tuple[int, int] = (0, 0)) -> str:
        return self._add(Upsample(self._name(), "m", (source,), factor, crop), self.tensors[source].kind)

    def average_pool(self, source: str, size: int = 2) -> str:
        node = AveragePool(self._name(), "m", (source,), size)
        self._requantizer(node, size * size * 2**14, VALUE, (self.groups,))
        return self._add(node, VALUE)

    def concat(self, *sources: str) -> str:
        return self._add(Concat(self._name(), "m", sources), self.tensors[sources[0]].kind)

    def graph(self, output: str) -> Graph:
        group_of_step = tuple(step * self.groups // self.steps for step in range(self.steps))
        context = "context" if "context" in self.tensors else None
        constants = tuple(name for name in self.tensors if name.startswith("constant"))
        graph = Graph(
            self.tensors,
            tuple(self.nodes),
            "sample",
            output,
            group_of_step,
            self.labels,
            context=context,
            constants=constants,
        )
        check_graph(graph)
        return graph

    def codes(self, batch: int, name: str = "sample") -> np.ndarray:
        """Input codes int8 [batch, H, W, C], sometimes at the ends of their range."""
        shape = (batch, *self.tensors[name].shape)
        if self.random.random() < 0.2:
            return self.random.choice(np.array(LIMITS[CODE], np.int8), shape)
        low, high = LIMITS[CODE]
        return self.random.integers(low, high + 1, shape).astype(np.int8)

    def next_codes(self, codes: np.ndarray) -> np.ndarray:
        """The codes of the following step: equal, close, or unrelated."""
        spread = int(self.random.choice([0, 2, 20, 256]))
        change = self.random.integers(-spread, spread + 1, codes.shape)
        return np.clip(codes.astype(np.int64) + change, *LIMITS[CODE]).astype(np.int8)

    def _name(self) -> str:
        return f"n{len(self.nodes)}"

    def _add(self, node: Node, kind: str, channels: int = 0) -> str:
        shape = node.output_shape([self.tensors[name] for name in node.inputs], channels)
        self.tensors[node.name] = Tensor(node.name, kind, shape)
        self.nodes.append(node)
        return node.name

    def _set(self, node: Node, **tables: np.ndarray) -> None:
        self.tables.update({f"{node.name}.{name}": table for name, table in tables.items()})

    def _integers(self, low: float, high: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return self.random.integers(int(low), np.asarray(high).astype(np.int64), shape).astype(dtype)

    def _requantizer(self, node: Node, reach: float, kind: str, shape: tuple[int, ...]) -> None:
        """A multiplier that maps ``reach`` to a quarter, all or four times the result's range."""
        limit = LIMITS[kind][1]
        factor = limit / reach * self.random.choice([0.25, 1.0, 4.0]) * self.random.uniform(0.5, 1, shape)
        shift = 30 - int(np.ceil(np.log2(factor.max())))
        shift = int(np.clip(shift, 1, 62))
        multiplier = np.rint(factor * 2.0**shift) * self.random.choice([1, 1, 1, -1])
        shifts = np.full(self.groups, shift) - self.random.integers(0, 2, self.groups)
        self._set(node, multiplier=multiplier.astype(np.int32), shift=np.clip(shifts, 1, 62).astype(np.int32))


def random_unet(seed: int, narrow_weights: bool = False) -> tuple[GraphBuilder, Graph]:
    """A small U-Net with every operator: odd channels, strides, asymmetric padding, skip concatenations, attention.

    ``narrow_weights``: some layers, by chance, have weights of fewer bits.
    """
    build = GraphBuilder(seed, groups=int(np.random.default_rng(seed).integers(1, 4)))
    build.widths = np.random.default_rng(seed) if narrow_weights else None
    random = build.random
    heads, per_head = int(random.integers(1, 4)), int(random.integers(1, 9))
    norm_groups = int(random.integers(1, 4))
    width = norm_groups * int(random.integers(1, 7))
    size = (int(random.integers(2, 5)) * 2, int(random.integers(2, 5)) * 2)
    sample = build.input((*size, int(random.integers(1, 4))))

    first = build.convolution(sample, width, (3, 3), padding=(1, 1, 1, 1), extreme=bool(random.random() < 0.2))
    norm = build.group_norm(first, norm_groups, conditional=bool(random.random() < 0.5))
    code = build.quantize(build.silu(norm), fine=bool(random.random() < 0.5))
    second = build.convolution(code, width, (3, 3), padding=(1, 1, 1, 1), conditional=True)
    block = build.add(first, second)
    down = build.convolution(
        build.quantize(block, fine=bool(random.random() < 0.5)), width, (3, 3), (2, 2), (0, 1, 0, 1)
    )
    pooled = build.average_pool(block)
    low = build.add(down, pooled)

    per_token = build.gelu(build.layer_norm(low, conditional=bool(random.random() < 0.5)))
    tokens = build.quantize(build.group_norm(low, norm_groups) if random.random() < 0.5 else per_token)
    q, k, v = (build.convolution(tokens, heads * per_head, kind=CODE) for _ in range(3))
    probabilities = build.softmax(build.scores(q, k, heads))
    attended = build.add(build.convolution(build.mix(probabilities, v, heads), width), low)

    if random.random() < 0.5:
        attended = _cross_attention(build, attended, heads, per_head, width)
    if random.random() < 0.5:
        attended = _transformer_block(build, attended, heads, per_head, width)

    joined = build.concat(attended, down) if random.random() < 0.5 else build.concat(attended, pooled)
    merged = build.convolution(build.quantize(joined), width, (1, 1), relu=bool(random.random() < 0.5))
    if random.random() < 0.5:
        merged = build.relu(merged)
    rows, columns = (int(left_out) for left_out in random.integers(0, 2, 2))
    larger = build.upsample(build.quantize(merged), crop=(rows, columns))
    up = build.convolution(larger, width, (3, 3), padding=(1, 1 + rows, 1, 1 + columns))
    skip = build.concat(up, block, build.upsample(block, 1)) if random.random() < 0.5 else build.concat(up, block)
    last = build.quantize(build.silu(build.group_norm(skip, norm_groups)), fine=bool(random.random() < 0.5))
    output = build.convolution(last, int(random.integers(1, 4)), (3, 3), padding=(1, 1, 1, 1))
    return build, build.graph(output)


def _transformer_block(build: GraphBuilder, source: str, heads: int, per_head: int, width: int) -> str:
    """Positions, attention in windows, GEGLU, and gates that depend on step and label."""
    random = build.random
    height, columns, _ = build.tensors[source].shape
    windows = (int(random.choice([1, height, columns])), bool(random.random() < 0.5))
    tokens = build.add(source, build.constant(build.tensors[source].shape))
    code = build.quantize(build.layer_norm(tokens, conditional=True))
    q, k, v = (build.convolution(code, heads * per_head, kind=CODE) for _ in range(3))
    probabilities = build.softmax(build.scores(q, k, heads, *windows))
    mixed = build.mix(probabilities, v, heads, CODE, (height, columns), *windows)
    tokens = build.add(build.convolution(mixed, width, gated=True, conditional=bool(random.random() < 0.5)), tokens)
    code = build.quantize(build.layer_norm(tokens))
    hidden, gate = (build.convolution(code, 2 * width + 1) for _ in range(2))
    product = build.quantize(build.multiply(hidden, build.gelu(gate)), fine=bool(random.random() < 0.5))
    return build.add(build.convolution(product, width, gated=True, conditional=True), tokens)


def _cross_attention(build: GraphBuilder, source: str, heads: int, per_head: int, width: int) -> str:
    """To tokens of a context. Mostly its keys and values never change; sometimes their scales do."""
    random = build.random
    context = build.context((1, int(random.integers(1, 9)), int(random.integers(1, 20))))
    keys, values = (build.convolution(context, heads * per_head, kind=CODE) for _ in range(2))
    if random.random() < 0.8:
        keys, values = build.hold(keys), build.hold(values)
    queries = build.convolution(build.quantize(source), heads * per_head, kind=CODE)
    probabilities = build.softmax(build.scores(queries, keys, heads))
    mixed = build.mix(probabilities, values, heads, image=build.tensors[source].shape[:2])
    return build.add(build.convolution(mixed, width), source)
