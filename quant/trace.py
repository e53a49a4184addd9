"""From a diffusers model to a float graph in the integer graph's operators, by following the module's real dataflow.

``torch.export`` gives the aten operators with module paths. What depends on the sample is translated; what depends on
timestep and label only (time embedding, class embedding) is *conditioning*: it is evaluated when the model is quantized and
folded into biases and norm affines, so no hardware runs it. Reshapes vanish into layouts (:mod:`.layout`).
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from ..hls.graph import (
    CODE,
    VALUE,
    Add,
    AveragePool,
    Concat,
    Convolution,
    Graph,
    GroupNorm,
    MatMul,
    Node,
    Quantize,
    SiLU,
    Softmax,
    Tensor,
    Upsample,
    check_graph,
    output_shape,
)
from .layout import BATCH, CHANNEL, HEIGHT, WIDTH, Layout, image_layout, permute, reshape, shape_of

INPUT = "sample"
Padding = tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)


class UnsupportedOperator(ValueError):
    """The model contains operators that the hardware has no counterpart for; the message lists them all."""


@dataclass(frozen=True)
class FloatModel:
    """A traced model. ``graph`` has its quantizers in place; ``parameters`` holds float tensors per node.

    Per operator: Convolution ``weight`` [O, I, kh, kw], ``bias`` [O] or [steps, labels, O]; GroupNorm ``gain``,
    ``offset`` [C] or [steps, labels, C] and ``epsilon``; Add ``factors`` [2]; MatMul ``factor``.
    """

    graph: Graph
    parameters: dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Traced:
    """What an aten node stands for: a stored tensor, seen through a layout, zero-padded where a pad precedes."""

    name: str
    layout: Layout
    padding: Padding = NO_PADDING


@dataclass
class _Builder:
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    conditioning: dict[str, list[tuple[str, fx.Node]]] = field(default_factory=dict)

    def add(self, node: Node, kind: str, channels: int = 0) -> str:
        name, count = node.name, 0
        while name in self.tensors:
            count += 1
            name = f"{node.name}_{count}"
        node = dataclasses.replace(node, name=name)
        shape = output_shape(node, [self.tensors[source] for source in node.inputs], channels)
        self.nodes[name] = node
        self.tensors[name] = Tensor(name, kind, shape)
        return name


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

    translator = _Translator(exported, batch)
    builder, output = translator.run()
    _fold_conditioning(builder, exported, inputs, timesteps, labels)
    graph = insert_quantizers(builder.nodes, builder.tensors, output, tuple(group_of_step), labels)
    return FloatModel(graph, builder.parameters)


class _Translator:
    """Walks the exported graph once; collects unsupported operators and raises them all together."""

    def __init__(self, exported: fx.GraphModule, batch: int):
        self.exported = exported
        self.batch = batch
        self.builder = _Builder()
        self.traced: dict[fx.Node, _Traced] = {}
        self.unsupported: list[str] = []

    def run(self) -> tuple[_Builder, str]:
        output = ""
        for node in self.exported.graph.nodes:
            if node.op == "placeholder" and node.name == INPUT:
                _, channels, height, width = node.meta["val"].shape
                self.builder.tensors[INPUT] = Tensor(INPUT, CODE, (height, width, channels))
                self.traced[node] = _Traced(INPUT, image_layout(self.batch, height, width, channels))
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
        handler = HANDLERS.get(_operator_name(node))
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
        self.unsupported.append(f"{_operator_name(node)} in {where} on {shapes}: {reason}")

    def _unknown(self) -> set[str]:
        return {name for name in self.builder.tensors if name.startswith("?")}

    def _placeholder(self, node: fx.Node, shape: tuple[int, ...]) -> _Traced:
        name = f"?{node.name}"
        height, width, channels = (shape[2], shape[3], shape[1]) if len(shape) == 4 else (1, 1, 1)
        self.builder.tensors[name] = Tensor(name, VALUE, (height, width, channels))
        return _Traced(name, image_layout(self.batch, height, width, channels))

    def operand(self, node: Any, padded: bool = False) -> _Traced:
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

    def expect_image(self, traced: _Traced) -> tuple[int, int, int]:
        height, width, channels = self.builder.tensors[traced.name].shape
        if traced.layout != image_layout(self.batch, height, width, channels):
            raise ValueError(
                f"found an operand whose axes are {traced.layout}, expected (batch, channel, height, width)"
            )
        return height, width, channels

    def image(self, name: str) -> _Traced:
        height, width, channels = self.builder.tensors[name].shape
        return _Traced(name, image_layout(self.batch, height, width, channels))

    def producer(self, node: fx.Node) -> Node:
        """The operator that computes ``node``, if nothing else reads its result: then constants can fold into it."""
        name = self.traced[node].name
        while True:
            if len(node.users) != 1:
                raise ValueError(f"{name} has several readers, so the conditioning cannot be folded into it")
            if _operator_name(node) not in LAYOUT_HANDLERS:
                break
            node = node.all_input_nodes[0]
        if name not in self.builder.nodes:
            raise ValueError("conditioning of the model's input is not supported")
        return self.builder.nodes[name]


def _operator_name(node: fx.Node) -> str:
    return str(node.target).removesuffix(".default")


def module_path(node: fx.Node) -> str:
    """Path of the module that ``node`` was traced from, such as ``mid_block.attentions.0.to_q``."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return (items[0], items[-1])


def _convolution(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0], padded=True)
    translator.expect_image(source)
    weight, bias = translator.constant(node.args[1]), translator.constant(_argument(node, 2, "bias", None))
    if _pair(_argument(node, 5, "dilation", 1)) != (1, 1) or _argument(node, 6, "groups", 1) != 1:
        raise ValueError("dilated and grouped convolutions are not supported")
    vertical, horizontal = _pair(_argument(node, 4, "padding", 0))
    top, bottom, left, right = source.padding
    assert weight is not None
    name = translator.builder.add(
        Convolution(
            module_path(node),
            module_path(node),
            (source.name,),
            kernel=(weight.shape[2], weight.shape[3]),
            stride=_pair(_argument(node, 3, "stride", 1)),
            padding=(top + vertical, bottom + vertical, left + horizontal, right + horizontal),
        ),
        VALUE,
        weight.shape[0],
    )
    _set_linear_parameters(translator.builder, name, weight, bias)
    return translator.image(name)


def _linear(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    weight, bias = translator.constant(node.args[1]), translator.constant(_argument(node, 2, "bias", None))
    assert weight is not None
    _, _, channels = translator.builder.tensors[source.name].shape
    if source.layout[-1] != image_layout(1, 1, 1, channels)[1]:
        raise ValueError(f"found a last axis of {source.layout[-1]}, expected all {channels} channels")
    name = translator.builder.add(
        Convolution(module_path(node), module_path(node), (source.name,)), VALUE, weight.shape[0]
    )
    _set_linear_parameters(translator.builder, name, weight[:, :, None, None], bias)
    output_channels = image_layout(1, 1, 1, weight.shape[0])[1]
    return _Traced(name, (*source.layout[:-1], output_channels))


def _set_linear_parameters(builder: _Builder, name: str, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    builder.parameters[f"{name}.weight"] = weight
    builder.parameters[f"{name}.bias"] = torch.zeros(len(weight)) if bias is None else bias


def _group_norm(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    groups = _argument(node, 1, "num_groups", None)
    height, width, channels = translator.builder.tensors[source.name].shape
    axes = image_layout(translator.batch, height, width, channels)
    spatial = tuple(part for axis in source.layout[2:] for part in axis)
    if source.layout[:2] != axes[:2] or {part.axis for part in spatial} - {HEIGHT, WIDTH}:
        raise ValueError(f"found axes {source.layout}, expected (batch, channel, pixels)")
    name = translator.builder.add(GroupNorm(module_path(node), module_path(node), (source.name,), groups=groups), VALUE)
    gain, offset = (translator.constant(_argument(node, 2 + i, key, None)) for i, key in enumerate(("weight", "bias")))
    translator.builder.parameters[f"{name}.gain"] = torch.ones(channels) if gain is None else gain
    translator.builder.parameters[f"{name}.offset"] = torch.zeros(channels) if offset is None else offset
    translator.builder.parameters[f"{name}.epsilon"] = torch.tensor(
        _argument(node, 4, "eps", 1e-5), dtype=torch.float64
    )
    return _Traced(name, source.layout)


def _silu(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    name = translator.builder.add(SiLU(module_path(node), module_path(node), (source.name,)), VALUE)
    return _Traced(name, source.layout)


def _add(translator: _Translator, node: fx.Node) -> _Traced:
    if _argument(node, 2, "alpha", 1) != 1:
        raise ValueError("an addition with alpha is not supported")
    left, right = node.args[:2]
    if left in translator.traced and right in translator.traced:
        a, b = translator.operand(left), translator.operand(right)
        if a.layout != b.layout:
            raise ValueError(f"found operands with axes {a.layout} and {b.layout}, expected the same")
        name = translator.builder.add(Add(f"{module_path(node)}.add", module_path(node), (a.name, b.name)), VALUE)
        translator.builder.parameters[f"{name}.factors"] = torch.ones(2, dtype=torch.float64)
        return _Traced(name, a.layout)
    return _condition(translator, node, "add")


def _multiply(translator: _Translator, node: fx.Node) -> _Traced:
    left, right = node.args[:2]
    if left in translator.traced and right in translator.traced:
        raise ValueError("a product of two activations outside attention is not supported")
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return _condition(translator, node, "multiply")
    activation, factor = (left, right) if left in translator.traced else (right, left)
    return _scale(translator, activation, float(factor))  # type: ignore[arg-type]


def _divide(translator: _Translator, node: fx.Node) -> _Traced:
    if node.args[0] not in translator.traced or not isinstance(node.args[1], (int, float)):
        raise ValueError("a division by anything but a constant is not supported")
    return _scale(translator, node.args[0], 1.0 / node.args[1])


def _scale(translator: _Translator, activation: Any, factor: float) -> _Traced:
    """A product with a constant folds into the operator that computes the activation."""
    traced = translator.operand(activation)
    if factor != 1.0:
        producer = translator.producer(activation)
        scaled = {Convolution: ("weight", "bias"), GroupNorm: ("gain", "offset"), Add: ("factors",)}.get(type(producer))
        if scaled is None or producer.name in translator.builder.conditioning:
            raise ValueError(f"a product with {factor:g} cannot be folded into {producer.name}")
        for parameter in scaled:
            key = f"{producer.name}.{parameter}"
            translator.builder.parameters[key] = translator.builder.parameters[key] * factor
    return traced


def _condition(translator: _Translator, node: fx.Node, operation: str) -> _Traced:
    """A per-channel term of the conditioning folds into the bias or affine of the operator before it."""
    left, right = node.args[:2]
    activation, term = (left, right) if left in translator.traced else (right, left)
    traced = translator.operand(activation)
    assert isinstance(term, fx.Node) and isinstance(activation, fx.Node)
    channels = translator.builder.tensors[traced.name].shape[2]
    expected = tuple(
        size if any(part.axis in (BATCH, CHANNEL) for part in axis) else 1
        for axis, size in zip(traced.layout, shape_of(traced.layout), strict=True)
    )
    if tuple(term.meta["val"].shape) != expected or channels not in expected:
        raise ValueError(f"found conditioning of shape {tuple(term.meta['val'].shape)}, expected {expected}")
    producer = translator.producer(activation)
    foldable = (Convolution, GroupNorm) if operation == "add" else (GroupNorm,)
    if not isinstance(producer, foldable):
        raise ValueError(
            f"conditioning by {operation} folds into {[t.__name__ for t in foldable]}, not {producer.name}"
        )
    translator.builder.conditioning.setdefault(producer.name, []).append((operation, term))
    return traced


def _concat(translator: _Translator, node: fx.Node) -> _Traced:
    sources = [translator.operand(source) for source in node.args[0]]  # type: ignore[union-attr]
    names = [source.name for source in sources]
    for source in sources:
        translator.expect_image(source)
    parts = [name for other in translator.builder.nodes.values() if isinstance(other, Concat) for name in other.inputs]
    if INPUT in names or len({*names, *parts}) < len(names) + len(parts):
        raise ValueError("a tensor can be part of one concatenation only, and the sample of none")
    if _argument(node, 1, "dim", 0) not in (1, -3):
        raise ValueError("concatenation is supported along channels only")
    name = translator.builder.add(
        Concat(f"{module_path(node)}.concat".lstrip("."), module_path(node), tuple(names)),
        VALUE,
    )
    return translator.image(name)


def _upsample(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    height, width, _ = translator.expect_image(source)
    rows, columns = node.meta["val"].shape[2:]
    factor = rows // height
    if (rows, columns) != (height * factor, width * factor):
        raise ValueError(f"upsampling {height}x{width} to {rows}x{columns} is not by one integer factor")
    return translator.image(
        translator.builder.add(
            Upsample(f"{module_path(node)}.upsample", module_path(node), (source.name,), factor=factor), VALUE
        )
    )


def _average_pool(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    translator.expect_image(source)
    size = _pair(node.args[1])
    if size != _pair(_argument(node, 2, "stride", None) or size) or size[0] != size[1]:
        raise ValueError("average pooling is supported over square windows that do not overlap")
    if _pair(_argument(node, 3, "padding", 0)) != (0, 0) or _argument(node, 4, "ceil_mode", False):
        raise ValueError("average pooling with padding or ceil_mode is not supported")
    return translator.image(
        translator.builder.add(AveragePool(module_path(node), module_path(node), (source.name,), size=size[0]), VALUE)
    )


def _pad(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    translator.expect_image(source)
    amounts = list(_argument(node, 1, "pad", []))
    if _argument(node, 2, "mode", "constant") not in ("constant", 0, 0.0) or (_argument(node, 3, "value", 0) or 0) != 0:
        raise ValueError("padding with anything but zeros is not supported")
    left, right, top, bottom = amounts + [0] * (4 - len(amounts))
    return dataclasses.replace(source, padding=(top, bottom, left, right))


def _attention(translator: _Translator, node: fx.Node) -> _Traced:
    """softmax(Q K^T / sqrt(d)) V as three operators of the integer graph."""
    mask, causal = _argument(node, 3, "attn_mask", None), _argument(node, 5, "is_causal", False)
    if mask is not None or causal:
        raise ValueError("attention with a mask is not supported")
    q, k, v = (translator.operand(operand) for operand in node.args[:3])
    heads, depth = q.layout[1], q.layout[3]
    head_count, head_size = shape_of(q.layout)[1], shape_of(q.layout)[3]
    channels = head_count * head_size
    per_head = reshape((image_layout(1, 1, 1, channels)[1],), (head_count, head_size))
    for operand in (q, k, v):
        if (operand.layout[1], operand.layout[3]) != (heads, depth) or (heads, depth) != per_head:
            raise ValueError(
                f"found attention operands with axes {operand.layout}, expected (batch, head, token, channel)"
            )
    path, builder = module_path(node), translator.builder
    scale = _argument(node, 6, "scale", None) or node.kwargs.get("scale") or 1 / math.sqrt(head_size)
    scores = builder.add(MatMul(f"{path}.scores", path, (q.name, k.name), heads=head_count), VALUE)
    builder.parameters[f"{scores}.factor"] = torch.tensor(scale, dtype=torch.float64)
    probabilities = builder.add(Softmax(f"{path}.softmax", path, (scores,)), CODE)
    height, width, _ = builder.tensors[q.name].shape
    mixed = builder.add(
        MatMul(f"{path}.mix", path, (probabilities, v.name), heads=head_count, scores=False, image=(height, width)),
        VALUE,
    )
    builder.parameters[f"{mixed}.factor"] = torch.tensor(1.0, dtype=torch.float64)
    return _Traced(mixed, q.layout)


def _same(translator: _Translator, node: fx.Node) -> _Traced:
    return translator.traced[node.all_input_nodes[0]]


def _view(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    return dataclasses.replace(source, layout=reshape(source.layout, tuple(node.meta["val"].shape)))


def _transpose(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    order = list(range(len(source.layout)))
    first, second = node.args[1], node.args[2]
    order[first], order[second] = order[second], order[first]  # type: ignore[index]
    return dataclasses.replace(source, layout=permute(source.layout, order))


def _permute(translator: _Translator, node: fx.Node) -> _Traced:
    source = translator.operand(node.args[0])
    return dataclasses.replace(source, layout=permute(source.layout, node.args[1]))  # type: ignore[arg-type]


Handler = Callable[[_Translator, fx.Node], _Traced]
LAYOUT_HANDLERS: dict[str, Handler] = {
    "aten.view": _view,
    "aten.reshape": _view,
    "aten._unsafe_view": _view,
    "aten.flatten.using_ints": _view,
    "aten.unflatten.int": _view,
    "aten.squeeze.dim": _view,
    "aten.unsqueeze": _view,
    "aten.transpose.int": _transpose,
    "aten.permute": _permute,
    "aten.to.dtype": _same,
    "aten.to.dtype_layout": _same,
    "aten._to_copy": _same,
    "aten.contiguous": _same,
    "aten.clone": _same,
    "aten.alias": _same,
    "aten.dropout": _same,
    "aten._assert_tensor_metadata": _same,
}
HANDLERS: dict[str, Handler] = LAYOUT_HANDLERS | {
    "aten.conv2d": _convolution,
    "aten.linear": _linear,
    "aten.group_norm": _group_norm,
    "aten.silu": _silu,
    "aten.silu_": _silu,
    "aten.add.Tensor": _add,
    "aten.mul.Tensor": _multiply,
    "aten.div.Tensor": _divide,
    "aten.cat": _concat,
    "aten.upsample_nearest2d.vec": _upsample,
    "aten.avg_pool2d": _average_pool,
    "aten.pad": _pad,
    "aten.constant_pad_nd": _pad,
    "aten.scaled_dot_product_attention": _attention,
}


def _fold_conditioning(
    builder: _Builder, exported: fx.GraphModule, inputs: dict[str, torch.Tensor], timesteps: Sequence[int], labels: int
) -> None:
    """Evaluate all conditioning terms for every step and label and make the tables of their operators conditional."""
    if not builder.conditioning:
        return
    terms = [term for folded in builder.conditioning.values() for _, term in folded]
    evaluate = _conditioning_module(exported, terms)
    rows: list[list[torch.Tensor]] = []
    for timestep in timesteps:
        fed = dict(inputs, timestep=torch.full_like(inputs["timestep"], int(timestep)))
        with torch.no_grad():
            results = evaluate(*(fed[node.name] for node in evaluate.graph.nodes if node.op == "placeholder"))
        rows.append([result.flatten(1)[:labels] for result in results])
    values = dict(zip(terms, (torch.stack(column) for column in zip(*rows, strict=True)), strict=True))
    for name, folded in builder.conditioning.items():
        node = builder.nodes[name]
        names = ("bias",) if isinstance(node, Convolution) else ("gain", "offset")
        tables = [builder.parameters[f"{name}.{key}"].expand(len(timesteps), labels, -1) for key in names]
        for operation, term in folded:
            if operation == "multiply":
                tables = [table * values[term] for table in tables]
            else:
                tables[-1] = tables[-1] + values[term]
        builder.parameters.update({f"{name}.{key}": table for key, table in zip(names, tables, strict=True)})
        builder.nodes[name] = dataclasses.replace(node, conditional=True)  # type: ignore[call-arg]


def _conditioning_module(exported: fx.GraphModule, terms: list[fx.Node]) -> fx.GraphModule:
    """The part of the exported model that computes ``terms`` from timestep and labels."""
    needed: set[fx.Node] = set()
    pending = list(terms)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending.extend(node.all_input_nodes)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in exported.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    graph.output(tuple(copies[term] for term in terms))
    return fx.GraphModule(exported, graph)


def insert_quantizers(
    nodes: dict[str, Node], tensors: dict[str, Tensor], output: str, group_of_step: tuple[int, ...], labels: int
) -> Graph:
    """Give every linear operator int8 operands, with one quantizer per tensor however many operators read it.

    A linear operator whose result is read by linear operators only writes codes itself; a quantizer moves in front of
    an upsampling, where there is less to quantize.
    """
    readers: dict[str, list[Node]] = {name: [] for name in tensors}
    for node in nodes.values():
        for source in node.inputs:
            readers[source].append(node)

    def wants_code(name: str) -> bool:
        """Only linear operators read this tensor, directly or through upsampling."""
        return name != output and all(
            isinstance(reader, (Convolution, MatMul)) or (isinstance(reader, Upsample) and wants_code(reader.name))
            for reader in readers[name]
        )

    ordered: list[Node] = []
    kinds = {INPUT: CODE}
    codes: dict[str, str] = {}

    def as_code(name: str) -> str:
        if kinds[name] == CODE:
            return name
        if name not in codes:
            quantizer = Quantize(f"{name}.code", nodes[name].module, (name,))
            ordered.append(quantizer)
            tensors[quantizer.name] = Tensor(quantizer.name, CODE, tensors[name].shape)
            kinds[quantizer.name] = CODE
            codes[name] = quantizer.name
        return codes[name]

    for node in nodes.values():
        if isinstance(node, (Convolution, MatMul)) or (isinstance(node, Upsample) and wants_code(node.name)):
            node = dataclasses.replace(node, inputs=tuple(as_code(source) for source in node.inputs))
        writes_code = isinstance(node, Softmax) or (
            isinstance(node, (Convolution, MatMul, Upsample)) and wants_code(node.name) and bool(readers[node.name])
        )
        if not isinstance(node, (Convolution, MatMul, Upsample)) and any(
            kinds[source] == CODE for source in node.inputs
        ):
            raise UnsupportedOperator(f"{type(node).__name__} {node.name} reads the sample or codes directly")
        kinds[node.name] = CODE if writes_code else VALUE
        tensors[node.name] = dataclasses.replace(tensors[node.name], kind=kinds[node.name])
        ordered.append(node)
    graph = Graph(tensors, tuple(ordered), INPUT, output, group_of_step, labels)
    check_graph(graph)
    return graph
