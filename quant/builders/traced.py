"""What translating an exported module builds up: operators, tensors, and how aten nodes see them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from ...hls.contract.layout import Layout
from ...hls.contract.operators import Node
from ...hls.contract.tensor import VALUE, Tensor

INPUT, CONTEXT = "sample", "context"
Padding = tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Traced:
    """What an aten node stands for: a stored tensor, seen through a layout, zero-padded where a pad precedes."""

    name: str
    layout: Layout
    padding: Padding = NO_PADDING


@dataclass(frozen=True)
class Term:
    """What an activation with ``layout`` is added to, multiplied or divided by ("add", "multiply", "divide"), of timestep and
    label only."""

    operation: str
    node: fx.Node
    layout: Layout


@dataclass
class Builder:
    """The float graph in the making. ``parameters`` are float tensors, "<node>.<parameter>"; ``conditioning`` lists, by their
    nodes' names, the terms that fold into them; ``concatenated`` are concatenations and their parts."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    conditioning: dict[str, list[Term]] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    concatenated: set[str] = field(default_factory=set)

    def add(self, node: Node, kind: str, channels: int = 0) -> str:
        """Add ``node``, whose result is of ``kind`` and, of a layer with weights, has ``channels``; its name, which is free."""
        first = node.name.lstrip(".") or type(node).__name__.lower()  # of the model's own forward
        name, count = first, 0
        while name in self.tensors:
            count += 1
            name = f"{first}_{count}"
        node = dataclasses.replace(node, name=name)
        shape = node.output_shape([self.tensors[source] for source in node.inputs], channels)
        self.nodes[name] = node
        self.tensors[name] = Tensor(name, kind, shape)
        return name

    def add_constant(self, name: str, value: torch.Tensor) -> str:
        """``value`` float [H, W, C], the same in all runs; its name."""
        name = f"{name}.constant{len(self.constants)}".lstrip(".")
        height, width, channels = value.shape
        self.tensors[name] = Tensor(name, VALUE, (height, width, channels))
        self.parameters[f"{name}.value"] = value
        self.constants.append(name)
        return name


def operator_name(node: fx.Node) -> str:
    """Such as ``aten.conv2d``."""
    return str(node.target).removesuffix(".default")


def module_path(node: fx.Node) -> str:
    """Path of the module that ``node`` was traced from, such as ``mid_block.attentions.0.to_q``."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """The argument that is given by its position or its name, or ``default``."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def pair(value: Any) -> tuple[int, int]:
    """A size of both axes (vertical, horizontal), which may be given as one number."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return (items[0], items[-1])
