"""From a diffusers model to a float graph in the integer graph's operators, by following the module's real dataflow.

``torch.export`` gives the aten operators with module paths. What depends on the sample is translated; what depends on
timestep and label only (time embedding, class embedding) is *conditioning*: it is evaluated when the model is quantized and
folded into biases and norm affines, so no hardware runs it. Reshapes vanish into layouts (:mod:`.layout`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from ..hls.graph import CODE, VALUE, Graph, Node, Tensor
from .conditioning import fold_conditioning
from .insert_quantizers import insert_quantizers
from ..hls.layout import image_layout
from .operators import HANDLERS, LAYOUT_HANDLERS
from .traced import INPUT, NO_PADDING, Builder, Traced, UnsupportedOperator, module_path, operator_name


@dataclass(frozen=True)
class FloatModel:
    """A traced model. ``graph`` has its quantizers in place; ``parameters`` holds float tensors per node.

    Per operator: Convolution ``weight`` [O, I, kh, kw], ``bias`` [O] or [steps, labels, O]; GroupNorm ``gain``,
    ``offset`` [C] or [steps, labels, C] and ``epsilon``; Add ``factors`` [2]; MatMul ``factor``.
    """

    graph: Graph
    parameters: dict[str, torch.Tensor]


def trace(
    model: nn.Module, sample_shape: Sequence[int], timesteps: Sequence[int], group_of_step: Sequence[int]
) -> FloatModel:
    """Trace a diffusers U-Net for the given schedule.

    ``sample_shape`` is (channels, height, width); ``timesteps`` the schedule's, one per step. A model with class
    embeddings is traced for all its labels. Raises UnsupportedOperator, before anything is computed, with operator,
    module path and shapes of everything that cannot be lowered.
    """
    labels = getattr(model.config, "num_class_embeds", None) or 1
    batch = max(labels, 2)  # torch.export would specialize a batch of 1
    inputs: dict[str, torch.Tensor] = {
        "sample": torch.zeros(batch, *sample_shape),
        "timestep": torch.zeros(batch, dtype=torch.long),
    }
    if labels > 1:
        inputs["class_labels"] = torch.arange(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(model.eval(), (), inputs, strict=False).module()
    assert isinstance(exported, fx.GraphModule)

    translator = Translator(exported, batch)
    builder, output = translator.run()
    fold_conditioning(builder, exported, inputs, timesteps, labels)
    graph = insert_quantizers(builder.nodes, builder.tensors, output, tuple(group_of_step), labels)
    return FloatModel(graph, builder.parameters)


class Translator:
    """Walks the exported graph once; collects unsupported operators and raises them all together."""

    def __init__(self, exported: fx.GraphModule, batch: int):
        self.exported = exported
        self.batch = batch
        self.builder = Builder()
        self.traced: dict[fx.Node, Traced] = {}
        self.unsupported: list[str] = []

    def run(self) -> tuple[Builder, str]:
        output = ""
        for node in self.exported.graph.nodes:
            if node.op == "placeholder" and node.name == INPUT:
                _, channels, height, width = node.meta["val"].shape
                self.builder.tensors[INPUT] = Tensor(INPUT, CODE, (height, width, channels))
                self.traced[node] = Traced(INPUT, image_layout(self.batch, height, width, channels))
            elif node.op == "output":
                (result,) = node.all_input_nodes
                if result not in self.traced and not self.unsupported:
                    raise UnsupportedOperator("the model's output does not depend on its sample")
                output = self.traced[result].name if result in self.traced else ""
            elif node.op == "call_function" and any(source in self.traced for source in node.all_input_nodes):
                self._translate(node)
        if self.unsupported:
            raise UnsupportedOperator("the hardware has no counterpart for:\n  " + "\n  ".join(self.unsupported))
        return self.builder, output

    def _translate(self, node: fx.Node) -> None:
        handler = HANDLERS.get(operator_name(node))
        try:
            if handler is None:
                raise ValueError("no such operator in the integer graph")
            result = handler(self, node)
        except ValueError as error:
            self._report(node, str(error))
            result = None
        if result is None:  # go on as if it were supported, to report everything at once
            shape = tuple(node.meta["val"].shape) if hasattr(node.meta.get("val"), "shape") else ()
            result = self._placeholder(node, shape)
        self.traced[node] = result

    def _report(self, node: fx.Node, reason: str) -> None:
        shapes = [tuple(source.meta["val"].shape) for source in node.all_input_nodes if source in self.traced]
        if any(self.traced[source].name in self._unknown() for source in node.all_input_nodes if source in self.traced):
            return  # a consequence of an operator already reported
        where = module_path(node) or "(model)"
        self.unsupported.append(f"{operator_name(node)} in {where} on {shapes}: {reason}")

    def _unknown(self) -> set[str]:
        return {name for name in self.builder.tensors if name.startswith("?")}

    def _placeholder(self, node: fx.Node, shape: tuple[int, ...]) -> Traced:
        name = f"?{node.name}"
        height, width, channels = (shape[2], shape[3], shape[1]) if len(shape) == 4 else (1, 1, 1)
        self.builder.tensors[name] = Tensor(name, VALUE, (height, width, channels))
        return Traced(name, image_layout(self.batch, height, width, channels))

    def operand(self, node: Any, padded: bool = False) -> Traced:
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
        height, width, channels = self.builder.tensors[traced.name].shape
        if traced.layout != image_layout(self.batch, height, width, channels):
            raise ValueError(
                f"found an operand whose axes are {traced.layout}, expected (batch, channel, height, width)"
            )
        return height, width, channels

    def image(self, name: str) -> Traced:
        height, width, channels = self.builder.tensors[name].shape
        return Traced(name, image_layout(self.batch, height, width, channels))

    def producer(self, node: fx.Node) -> Node:
        """The operator that computes ``node``, if nothing else reads its result: then constants can fold into it."""
        name = self.traced[node].name
        while True:
            if len(node.users) != 1:
                raise ValueError(f"{name} has several readers, so the conditioning cannot be folded into it")
            if operator_name(node) not in LAYOUT_HANDLERS:
                break
            node = node.all_input_nodes[0]
        if name not in self.builder.nodes:
            raise ValueError("conditioning of the model's input is not supported")
        return self.builder.nodes[name]
