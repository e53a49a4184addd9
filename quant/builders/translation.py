"""What handlers of operators see of a translation: the exported module, what has been traced of it, and what that builds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx

from ...hls.contract.layout import HEIGHT, Axis, Layout, Part, image_layout
from ...hls.contract.operators import Node
from .terms import terms_module
from .traced import NO_PADDING, Builder, Traced, operator_name


class Translation(ABC):
    """``traced``: how nodes of ``exported`` are seen; ``pieces``: what a tensor has been cut into; ``varying``: inputs, and what
    depends on one; ``views``: names of the operators that move nothing."""

    def __init__(self, exported: fx.GraphModule, batch: int, views: Collection[str]):
        self.exported, self.batch, self.views = exported, batch, views
        self.builder = Builder()
        self.traced: dict[fx.Node, Traced] = {}
        self.pieces: dict[fx.Node, tuple[Traced, ...]] = {}
        self.sample_layout: Layout = ()
        self.varying: set[fx.Node] = set()
        for node in exported.graph.nodes:
            if node.op == "placeholder" or any(source in self.varying for source in node.all_input_nodes):
                self.varying.add(node)

    @abstractmethod
    def scaled_parameters(self, node: Node) -> tuple[str, ...]:
        """Which parameters of ``node`` a factor of its result multiplies; none where it cannot be folded into them."""

    @abstractmethod
    def takes_conditioning(self, node: Node) -> bool:
        """Whether conditioning folds into ``node``."""

    def operand(self, node: Any, padded: bool = False) -> Traced:
        """How the activation ``node`` is seen. ValueError for what is none, and for one with zero padding unless ``padded``."""
        if not isinstance(node, fx.Node) or node not in self.traced:
            raise ValueError(f"found {node!r} where an activation is expected")
        traced = self.traced[node]
        if traced.padding != NO_PADDING and not padded:
            raise ValueError("zero padding is supported in front of a convolution only")
        return traced

    def constant(self, node: Any) -> torch.Tensor | None:
        """The value of a parameter or buffer argument."""
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            raise ValueError(f"found {node!r} where a parameter is expected")
        value: Any = self.exported
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach()

    def expect_image(self, traced: Traced) -> tuple[int, int, int]:
        """(height, width, channels) of an operand that PyTorch sees as [B, C, H, W]; ValueError for another one."""
        height, width, channels = self.builder.tensors[traced.name].shape
        if traced.layout != image_layout(self.batch, height, width, channels):
            raise ValueError(
                f"found an operand whose axes are {traced.layout}, expected (batch, channel, height, width)"
            )
        return height, width, channels

    def frames_of(self, traced: Traced) -> int:
        """How many images below each other a tensor is, each a sample to PyTorch; ValueError where it is none."""
        height, width, channels = self.builder.tensors[traced.name].shape
        batch, of_channels, _, columns = image_layout(self.batch, height, width, channels)
        for count in range(1, height + 1):
            if height % count == 0:
                first = batch + rows(count, height // count)
                if traced.layout == (first, of_channels, rows(height // count), columns):
                    return count
        raise ValueError(f"found an operand whose axes are {traced.layout}, expected (batch, channel, height, width)")

    def frames(self, name: str, count: int) -> Traced:
        """A tensor of ``count`` images below each other, as PyTorch sees it."""
        height, width, channels = self.builder.tensors[name].shape
        batch, of_channels, _, columns = image_layout(self.batch, height, width, channels)
        return Traced(name, (batch + rows(count, height // count), of_channels, rows(height // count), columns))

    def static_value(self, term: fx.Node) -> torch.Tensor | None:
        """The value of a term that depends on nothing but parameters; None for one that depends on timestep or label."""
        if term in self.varying:
            return None
        with torch.no_grad():
            return terms_module(self.exported, [term])()[0]

    def image(self, name: str) -> Traced:
        """A tensor that PyTorch sees as [B, C, H, W]."""
        height, width, channels = self.builder.tensors[name].shape
        return Traced(name, image_layout(self.batch, height, width, channels))

    def only_producer(self, node: fx.Node) -> Node | None:
        """The operator that computes ``node``, if nothing else reads its result: then constants can fold into it."""
        name = self.traced[node].name
        while len(node.users) == 1:
            if operator_name(node) not in self.views:
                return self.builder.nodes.get(name)
            node = node.all_input_nodes[0]
        return None

    def producer(self, node: fx.Node) -> Node:
        """The operator of :meth:`only_producer`; ValueError where there is none."""
        producer = self.only_producer(node)
        if producer is None:
            raise ValueError(f"conditioning cannot be folded into {self.traced[node].name}: others read it, too")
        return producer


Handler = Callable[[Translation, fx.Node], Traced]
"""Makes an aten node operators of the integer graph, and says how its result is seen; ValueError for a form that has none."""


def rows(count: int, stride: int = 1) -> Axis:
    """An axis of ``count`` rows, every one ``stride`` rows below the one before it."""
    return (Part(HEIGHT, count, stride),) if count > 1 else ()


def token_layout(tokens: int, channels: int) -> Layout:
    """(token, channel) of a context that is stored as (tokens, 1, channels)."""
    return rows(tokens), image_layout(1, 1, 1, channels)[1]
