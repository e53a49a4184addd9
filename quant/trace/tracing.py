"""From a diffusers model to a float graph in the integer graph's operators, by following the module's real dataflow.

``torch.export`` gives the aten operators with module paths. What depends on the sample is translated; what depends on
timestep and label only (time embedding, class embedding) is *conditioning*: it is evaluated when the model is quantized and
folded into biases and norm affines, so no hardware runs it. Reshapes vanish into layouts (:mod:`ditto_zynq.hls.contract.layout`).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from ...hls.artefact.model import null_label
from ...hls.contract.graph import Graph
from ...hls.contract.layout import BATCH, Layout, Part, image_layout, without
from ...hls.contract.operators import Node
from ...hls.contract.tensor import CODE, Tensor
from ..builders.traced import CONTEXT, INPUT, Builder, Traced, module_path, operator_name
from ..builders.translation import Translation, rows, token_layout
from ..common.unsupported import UnsupportedOperator
from ..operators import CONDITIONED, HANDLERS, operator_of
from .conditioning import fold_conditioning, mark_conditional
from .export import export_aten
from .insert_quantizers import insert_quantizers
from .layout_operators import LAYOUT_HANDLERS
from .table_size import check_table_size, table_bytes

COPIES = ("aten.clone", "aten._to_copy")
ALL_HANDLERS = LAYOUT_HANDLERS | HANDLERS
VIEWS = LAYOUT_HANDLERS.keys() - COPIES  # what may have its operand's memory


@dataclass(frozen=True)
class FloatModel:
    """A traced model. ``graph`` has its quantizers in place; ``parameters`` holds float tensors by name: those of its nodes, see
    :mod:`..operators`, and of every constant ``value`` [H, W, C]."""

    graph: Graph
    parameters: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Interface:
    """What of a diffusers model's ``forward`` takes the sample, a context of tokens and class labels, if it has them."""

    sample: str
    context: str | None
    labels: str | None

    @staticmethod
    def of(model: nn.Module) -> Interface:
        """By the names that all of diffusers' denoisers give their arguments, and their configuration."""
        config = model.config
        names = list(inspect.signature(model.forward).parameters)
        takes_context = "encoder_hidden_states" in names and attends(model) and context_channels(config) is not None
        takes_labels = "class_labels" in names and known_labels(config) > 1
        return Interface(
            names[0], "encoder_hidden_states" if takes_context else None, "class_labels" if takes_labels else None
        )


def context_channels(config: Any) -> int | None:
    """Channels of a context's tokens; None for a model without one."""
    names = ("caption_channels", "encoder_hid_dim", "cross_attention_dim")
    channels = next((getattr(config, name) for name in names if getattr(config, name, None)), None)
    if channels is not None and not isinstance(channels, int):
        raise UnsupportedOperator(f"found cross_attention_dim {channels}, expected one number for all blocks")
    return channels


def attends(model: nn.Module) -> bool:
    """Whether a layer of the model attends to a context; U-Nets without such a layer ignore theirs."""
    return any(getattr(module, "is_cross_attention", False) for module in model.modules())


def known_labels(config: Any) -> int:
    """Rows of a model's class embedding; 1 for a model without labels."""
    if getattr(config, "class_embed_type", None) is not None:
        raise UnsupportedOperator(f"found class_embed_type {config.class_embed_type!r}, expected an embedding table")
    null = null_label(config)
    if null is not None:
        return null + 1  # and the null label of classifier-free guidance
    return getattr(config, "num_class_embeds", None) or 1


def trace(
    model: nn.Module,
    sample_shape: Sequence[int],
    timesteps: Sequence[float],
    group_of_step: Sequence[int],
    labels: Sequence[int] | None = None,
    context_tokens: int | None = None,
) -> FloatModel:
    """Trace a diffusers denoiser for the given schedule.

    ``sample_shape`` is (channels, height, width), of a video (channels, frames, height, width); ``timesteps`` the schedule's,
    one per step. A model with class embeddings is traced for ``labels`` (default: all), one that attends to a context for
    ``context_tokens`` tokens. Raises UnsupportedOperator with operator, module path and shapes of everything that cannot be
    lowered, and for conditioning that is not finite; ValueError where tables per step and label would be too large.
    """
    interface = Interface.of(model)
    chosen = list(labels or range(known_labels(model.config))) if interface.labels else [0]
    if interface.context and context_tokens is None:
        raise ValueError("the model attends to a context; give the number of its tokens")
    batch = max(len(chosen), 2)  # torch.export would specialize a batch of 1
    whole = all(float(timestep).is_integer() for timestep in timesteps)
    shapes: dict[str, tuple[int, ...]] = {interface.sample: tuple(sample_shape)}
    if interface.context:
        shapes[interface.context] = (context_tokens or 0, context_channels(model.config) or 0)
    elif _demands(model, "encoder_hidden_states"):
        shapes["encoder_hidden_states"] = (1, context_channels(model.config) or 1)  # which nothing reads
    conditions = {"timestep": torch.zeros(batch, dtype=torch.long if whole else torch.float32)}
    if interface.labels:
        conditions[interface.labels] = torch.tensor((chosen * 2)[:batch])
    exported = export_aten(model, batch, shapes, conditions)

    translator = Translator(exported, batch, interface)
    builder, output = translator.run()
    if without(output.layout[:1], BATCH) != ((),):
        raise UnsupportedOperator(f"found an output with axes {output.layout}, expected the batch first")
    mark_conditional(builder)
    size = table_bytes(builder.nodes.values(), builder.tensors, len(timesteps), len(chosen))
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    check_table_size(size, len(timesteps), len(chosen), weights)  # before memory is taken for them
    try:
        fold_conditioning(builder, exported, conditions, timesteps, len(chosen))
        graph = insert_quantizers(builder, output.name, tuple(group_of_step), len(chosen))
    except ValueError as error:
        raise UnsupportedOperator(str(error)) from error
    return FloatModel(with_layouts(graph, translator.sample_layout, output.layout[1:]), builder.parameters)


def _demands(model: nn.Module, argument: str) -> bool:
    """Whether ``forward`` has an argument that must be given."""
    parameter = inspect.signature(model.forward).parameters.get(argument)
    return parameter is not None and parameter.default is inspect.Parameter.empty


def with_layouts(graph: Graph, sample: Layout, output: Layout) -> Graph:
    """The graph with the layouts of its input and output, where these are not those of images."""
    return dataclasses.replace(
        graph,
        input_layout=None if sample == graph.sample_axes else sample,
        output_layout=None if output == graph.output_axes else output,
    )


class Translator(Translation):
    """Walks the exported graph once; what is unsupported of its operators is collected, and raised together."""

    def __init__(self, exported: fx.GraphModule, batch: int, interface: Interface):
        super().__init__(exported, batch, LAYOUT_HANDLERS.keys())
        self.interface = interface
        self.unsupported: dict[tuple[str, str], list[str]] = {}  # places of an operator and what is wrong with it
        self.unknown: set[str] = set()  # results of unsupported operators, and what is computed of them

    def scaled_parameters(self, node: Node) -> tuple[str, ...]:
        return operator_of(node).scaled

    def takes_conditioning(self, node: Node) -> bool:
        return type(node) in CONDITIONED

    def run(self) -> tuple[Builder, Traced]:
        output: Traced | None = None
        for node in self.exported.graph.nodes:
            if node.op == "placeholder" and node.name == self.interface.sample:
                self._add_sample(node)
            elif node.op == "placeholder" and node.name == self.interface.context:
                _, tokens, channels = node.meta["val"].shape
                self.builder.tensors[CONTEXT] = Tensor(CONTEXT, CODE, (tokens, 1, channels))
                self.traced[node] = Traced(CONTEXT, ((Part(BATCH, self.batch),), *token_layout(tokens, channels)))
            elif node.op == "output":
                (result,) = node.all_input_nodes
                if result not in self.traced and not self.unsupported:
                    raise UnsupportedOperator("the model's output does not depend on its sample")
                output = self.traced.get(result)
            elif node.op == "call_function" and any(source in self.traced for source in node.all_input_nodes):
                self._translate(node)
        if self.unsupported:
            found = "; ".join(
                f"{operator} in {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {reason}"
                for (operator, reason), places in self.unsupported.items()
            )
            raise UnsupportedOperator(f"the hardware has no counterpart for {found}")
        assert output is not None
        return self.builder, output

    def _add_sample(self, node: fx.Node) -> None:
        """An image, or frames of a video, which are stored below each other."""
        shape = tuple(node.meta["val"].shape)
        if len(shape) not in (4, 5):
            raise UnsupportedOperator(
                f"found samples of {shape[1:]}, expected (channels, height, width) or with frames"
            )
        _, channels, *frames, height, width = shape
        count = frames[0] if frames else 1
        self.builder.tensors[INPUT] = Tensor(INPUT, CODE, (count * height, width, channels))
        batch, of_channels, _, columns = image_layout(self.batch, height, width, channels)
        vertical = rows(height)
        between = (rows(count, height),) if frames else ()
        layout = (batch, of_channels, *between, vertical, columns)
        self.sample_layout = layout[1:]
        self.traced[node] = Traced(INPUT, layout)

    def _translate(self, node: fx.Node) -> None:
        if any(source in self.traced and self.traced[source].name in self.unknown for source in node.all_input_nodes):
            self.traced[node] = self._placeholder(node)  # a consequence of an operator already reported
            return
        handler = ALL_HANDLERS.get(operator_name(node))
        try:
            if handler is None:
                raise ValueError("no such operator in the integer graph")
            _expect_unread(node)
            result = handler(self, node)
        except ValueError as error:
            self._report(node, str(error))
            result = self._placeholder(node)  # go on as if it were supported, to report everything at once
        except Exception as error:  # a form of the operator that its handler does not know
            self._report(node, f"{type(error).__name__}: {error}")
            result = self._placeholder(node)
        self.traced[node] = result

    def _report(self, node: fx.Node, reason: str) -> None:
        shapes = [tuple(source.meta["val"].shape) for source in node.all_input_nodes if source in self.traced]
        where = f"{module_path(node) or '(model)'} on {shapes}"
        self.unsupported.setdefault((operator_name(node), reason), []).append(where)

    def _placeholder(self, node: fx.Node) -> Traced:
        """For the result of an operator that cannot be translated: nothing reads it."""
        self.unknown.add(node.name)
        return Traced(node.name, ())


def _expect_unread(node: fx.Node) -> None:
    """ValueError for an operator that changes an operand in place which is read again, itself or as a view."""
    packet = getattr(node.target, "overloadpacket", None)
    if packet is None or not str(packet).endswith("_"):
        return
    (source, *_) = node.all_input_nodes
    while operator_name(source) in VIEWS:
        source = source.all_input_nodes[0]
    aliases = [source]
    while aliases:
        for user in aliases.pop().users:
            if operator_name(user) in VIEWS:
                aliases.append(user)
            elif node < user:
                raise ValueError("found an operand that is changed in place and read again, expected a copy of it")
