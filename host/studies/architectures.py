"""Known U-Nets as integer graphs without weights: shapes for the cost models, for models too large to train or to store here.

Tables are arrays of zeros that take no memory. The graphs are those that the quantizer traces from diffusers' models, with input
and output codes in two parts; a test compares the one of CIFAR-10 with the traced one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...hls.contract.graph import Graph, check_graph
from ...hls.contract.operators import (
    GELU,
    Add,
    Concat,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    SiLU,
    Softmax,
    Upsample,
)
from ...hls.contract.tensor import CODE, VALUE, Tensor

PARTS = 2
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # of a node's tables: type and shape
REQUANTIZER: Shapes = {"multiplier": ("int32", (1,)), "shift": ("int32", (1,))}


@dataclass(frozen=True)
class Architecture:
    """A U-Net's shape. ``channels`` and ``attention`` per resolution, the largest first; a ``context`` (tokens, channels) makes
    transformers of the attention blocks. ``samples`` per image: 2 with classifier-free guidance."""

    name: str
    source: str
    size: int
    sample_channels: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    layers: int
    heads: int
    norm_groups: int = 32
    context: tuple[int, int] | None = None
    steps: int = 50
    samples: int = 1
    padded_downsampling: bool = True  # on all sides; else right and below


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="cifar10",
            source="DDPM (Ho et al. 2020), diffusers google/ddpm-cifar10-32: 35.7 M parameters",
            size=32,
            sample_channels=3,
            channels=(128, 256, 256, 256),
            attention=(False, True, False, False),
            layers=2,
            heads=1,
            padded_downsampling=False,
        ),
        Architecture(
            name="sd15",
            source="Stable Diffusion 1.5 (Rombach et al. 2022), diffusers UNet2DConditionModel: 860 M parameters; 512 x 512",
            size=64,
            sample_channels=4,
            channels=(320, 640, 1280, 1280),
            attention=(True, True, True, False),
            layers=2,
            heads=8,
            context=(77, 768),
            samples=2,
        ),
    )
}


@dataclass
class _Builder:
    architecture: Architecture
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    tables: dict[str, np.ndarray] = field(default_factory=dict)

    def tensor(self, name: str, shape: tuple[int, int, int]) -> str:
        self.tensors[name] = Tensor(name, CODE, shape)
        return name

    def add(self, node: Node, kind: str, tables: Shapes | None = None, channels: int = 0) -> str:
        shape = node.output_shape([self.tensors[name] for name in node.inputs], channels)
        self.tensors[node.name] = Tensor(node.name, kind, shape)
        self.nodes.append(node)
        for name, (dtype, of_table) in (tables or {}).items():
            self.tables[f"{node.name}.{name}"] = np.broadcast_to(np.zeros((), dtype), of_table)
        return node.name

    def channels(self, name: str) -> int:
        return self.tensors[name].shape[2]

    def convolution(
        self,
        name: str,
        source: str,
        channels: int,
        size: int = 3,
        stride: int = 1,
        kind: str = VALUE,
        padding: tuple[int, int, int, int] | None = None,
    ) -> str:
        padding = padding or ((size // 2,) * 4)
        node = Convolution(name, name, (source,), (size, size), (stride, stride), padding)
        weight = (channels, size, size, self.channels(source))
        per_channel: Shapes = {"bias": ("int32", (1, channels)), "multiplier": ("int32", (1, channels))}
        return self.add(node, kind, {"weight": ("int8", weight), **per_channel, "shift": ("int32", (1,))}, channels)

    def quantize(self, source: str) -> str:
        name = f"{source}.code"
        if name in self.tensors:
            return name
        return self.add(Quantize(name, name, (source,)), CODE, REQUANTIZER)

    def norm(self, name: str, source: str, per_token: bool = False) -> str:
        channels = self.channels(source)
        node: Node = GroupNorm(name, name, (source,), self.architecture.norm_groups)
        node = LayerNorm(name, name, (source,)) if per_token else node
        affine: Shapes = {"gain": ("int32", (1, channels)), "offset": ("int64", (1, channels))}
        return self.add(node, VALUE, {"gain_bits": ("int32", (1,)), "epsilon": ("int64", (1,)), **affine})

    def sum(self, name: str, one: str, other: str) -> str:
        return self.add(
            Add(name, name, (one, other)), VALUE, {"multiplier": ("int32", (1, 2)), "shift": ("int32", (1,))}
        )

    def normalized(self, name: str, source: str) -> str:
        norm = self.norm(f"{name}.norm", source)
        return self.quantize(self.add(SiLU(f"{name}.silu", name, (norm,)), VALUE))

    def residual(self, name: str, source: str, channels: int) -> str:
        first = self.convolution(f"{name}.conv1", self.normalized(f"{name}.1", source), channels)
        second = self.convolution(f"{name}.conv2", self.normalized(f"{name}.2", first), channels)
        if self.channels(source) != channels:
            source = self.convolution(f"{name}.shortcut", self.quantize(source), channels, 1)
        return self.sum(f"{name}.add", source, second)

    def attend(self, name: str, source: str, code: str, context: str) -> str:
        """Attention of ``code`` to ``context``, which may be itself, added to ``source``."""
        channels = self.channels(code)
        queries = self.convolution(f"{name}.q", code, channels, 1, kind=CODE)
        keys, values = (self.convolution(f"{name}.{part}", context, channels, 1, kind=CODE) for part in "kv")
        heads, image = self.architecture.heads, self.tensors[code].shape[:2]
        scores = self.add(MatMul(f"{name}.scores", name, (queries, keys), heads), VALUE, REQUANTIZER)
        weights = self.add(Softmax(f"{name}.softmax", name, (scores,)), CODE, REQUANTIZER)
        mixed = self.add(MatMul(f"{name}.mix", name, (weights, values), heads, False, image), CODE, REQUANTIZER)
        return self.sum(f"{name}.add", self.convolution(f"{name}.out", mixed, channels, 1), source)

    def transformer(self, name: str, source: str) -> str:
        """A BasicTransformerBlock between projections: self-attention, attention to the context, feed-forward."""
        channels = self.channels(source)
        tokens = self.convolution(f"{name}.proj_in", self.quantize(self.norm(f"{name}.norm", source)), channels, 1)
        for part in ("self", "cross"):
            code = self.quantize(self.norm(f"{name}.{part}.norm", tokens, per_token=True))
            tokens = self.attend(f"{name}.{part}", tokens, code, code if part == "self" else "context")
        code = self.quantize(self.norm(f"{name}.ff.norm", tokens, per_token=True))
        gate, value = (self.convolution(f"{name}.ff.{part}", code, 4 * channels, 1) for part in ("gate", "value"))
        active = self.add(GELU(f"{name}.ff.gelu", name, (gate,)), VALUE)
        product = Multiply(f"{name}.ff.product", name, (value, active))
        gated = self.quantize(self.add(product, VALUE, REQUANTIZER))
        tokens = self.sum(f"{name}.ff.add", self.convolution(f"{name}.ff.out", gated, channels, 1), tokens)
        return self.sum(f"{name}.add", self.convolution(f"{name}.proj_out", self.quantize(tokens), channels, 1), source)

    def attention(self, name: str, source: str) -> str:
        if self.architecture.context:
            return self.transformer(name, source)
        code = self.quantize(self.norm(f"{name}.norm", source))
        return self.attend(name, source, code, code)


def build(name: str) -> tuple[Architecture, Graph, dict[str, np.ndarray]]:
    """An architecture, its graph and its tables of zeros. ValueError, listing the known ones, for an unknown name."""
    if name not in ARCHITECTURES:
        raise ValueError(f"found architecture {name!r}, expected one of {', '.join(ARCHITECTURES)}")
    a = ARCHITECTURES[name]
    build = _Builder(a)
    sample = build.tensor("sample", (a.size, a.size, PARTS * a.sample_channels))
    if a.context:
        build.tensor("context", (a.context[0], 1, a.context[1]))
    x = build.convolution("conv_in", sample, a.channels[0])
    skips = [x]
    for level, channels in enumerate(a.channels):
        for layer in range(a.layers):
            x = build.residual(f"down.{level}.{layer}", x, channels)
            if a.attention[level]:
                x = build.attention(f"down.{level}.{layer}.attention", x)
            skips.append(x)
        if level + 1 < len(a.channels):
            padding = (1, 1, 1, 1) if a.padded_downsampling else (0, 1, 0, 1)
            x = build.convolution(f"down.{level}.conv", build.quantize(x), channels, stride=2, padding=padding)
            skips.append(x)
    x = build.residual("mid.0", x, a.channels[-1])
    x = build.residual("mid.1", build.attention("mid.attention", x), a.channels[-1])
    for level, channels in reversed(list(enumerate(a.channels))):
        for layer in range(a.layers + 1):
            joined = f"up.{level}.{layer}.concat"
            build.add(Concat(joined, joined, (x, skips.pop())), VALUE)
            x = build.residual(f"up.{level}.{layer}", joined, channels)
            if a.attention[level]:
                x = build.attention(f"up.{level}.{layer}.attention", x)
        if level:
            larger = build.add(Upsample(f"up.{level}.upsample", "", (build.quantize(x),)), CODE)
            x = build.convolution(f"up.{level}.conv", larger, channels)
    output = build.convolution("conv_out", build.normalized("conv_out.in", x), PARTS * a.sample_channels)
    graph = Graph(
        tensors=build.tensors,
        nodes=tuple(build.nodes),
        input=sample,
        output=output,
        group_of_step=(0,) * a.steps,
        labels=1,
        input_parts=PARTS,
        output_parts=PARTS,
        context="context" if a.context else None,
    )
    check_graph(graph)
    return a, graph, build.tables
