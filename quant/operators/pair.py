"""Sums and products of two values, constants and conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from ...hls.contract.arithmetic import VALUE_RANGE
from ...hls.contract.layout import CHANNEL, shape_of
from ...hls.contract.operators import Add, Multiply, Node
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import QonnxStep
from ..builders.terms import per_pixel
from ..builders.traced import Term, Traced, argument, module_path
from ..builders.translation import Handler, Translation
from .operator import Operator


def _add(translation: Translation, node: fx.Node) -> Traced:
    return _add_times(translation, node, float(argument(node, 2, "alpha", 1)))


def _subtract(translation: Translation, node: fx.Node) -> Traced:
    return _add_times(translation, node, -float(argument(node, 2, "alpha", 1)))


def _add_times(translation: Translation, node: fx.Node, factor: float) -> Traced:
    """The first operand plus ``factor`` times the second one, which may be a number or, times 1, conditioning."""
    left, right = node.args[:2]
    if left in translation.traced and right in translation.traced:
        a, b = _alike(translation, left, right)
        return Traced(_sum(translation, module_path(node), a.name, b.name, (1.0, factor)), a.layout)
    if isinstance(right, (int, float)):
        traced = translation.operand(left)
        number = torch.full(translation.builder.tensors[traced.name].shape, factor * right)
        return _add_constant(translation, node, traced, number)
    if factor != 1:
        raise ValueError(f"conditioning that is added {factor:g} times is not supported")
    return _condition(translation, node, "add")


def _add_constant(translation: Translation, node: fx.Node, traced: Traced, value: torch.Tensor) -> Traced:
    """``value`` [H, W, C] is the same in all runs."""
    path = module_path(node)
    return Traced(_sum(translation, path, traced.name, translation.builder.add_constant(path, value)), traced.layout)


def _sum(
    translation: Translation, path: str, first: str, second: str, factors: tuple[float, float] = (1.0, 1.0)
) -> str:
    name = translation.builder.add(Add(f"{path}.add".lstrip("."), path, (first, second)), VALUE)
    translation.builder.parameters[f"{name}.factors"] = torch.tensor(factors, dtype=torch.float64)
    return name


def _multiply(translation: Translation, node: fx.Node) -> Traced:
    left, right = node.args[:2]
    if left in translation.traced and right in translation.traced:
        a, b = _alike(translation, left, right)
        path = module_path(node)
        name = translation.builder.add(Multiply(f"{path}.product".lstrip("."), path, (a.name, b.name)), VALUE)
        translation.builder.parameters[f"{name}.factor"] = torch.tensor(1.0, dtype=torch.float64)
        return Traced(name, a.layout)
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return _condition(translation, node, "multiply")
    activation, factor = (left, right) if left in translation.traced else (right, left)
    return _scale(translation, node, activation, float(factor))  # type: ignore[arg-type]


def _divide(translation: Translation, node: fx.Node) -> Traced:
    divisor = node.args[1]
    if node.args[0] not in translation.traced or divisor in translation.traced:
        raise ValueError("a division is supported by constants and conditioning only")
    if isinstance(divisor, fx.Node):
        return _condition(translation, node, "divide")
    return _scale(translation, node, node.args[0], 1.0 / float(divisor))  # type: ignore[arg-type]


def _alike(translation: Translation, left: Any, right: Any) -> tuple[Traced, Traced]:
    a, b = translation.operand(left), translation.operand(right)
    if a.layout != b.layout:
        raise ValueError(f"found operands with axes {a.layout} and {b.layout}, expected the same")
    return a, b


def _scale(translation: Translation, node: fx.Node, activation: fx.Node, factor: float) -> Traced:
    """A product with a constant folds into the operator that computes the activation; else it is a sum with 0 times the same."""
    traced, builder = translation.operand(activation), translation.builder
    if factor == 1.0:
        return traced
    producer = translation.only_producer(activation)
    folds = producer is not None and producer.name not in builder.conditioning
    parameters = translation.scaled_parameters(producer) if producer and folds else ()
    if not parameters:
        return Traced(_sum(translation, module_path(node), traced.name, traced.name, (factor, 0.0)), traced.layout)
    for parameter in parameters:
        key = f"{traced.name}.{parameter}"
        builder.parameters[key] = builder.parameters[key] * factor
    return traced


def _condition(translation: Translation, node: fx.Node, operation: str) -> Traced:
    """A per-channel term of the conditioning folds into the operator before it; one that is the same in all runs but differs
    between pixels (position embeddings) is added as a constant."""
    left, right = node.args[:2]
    activation, term = (left, right) if left in translation.traced else (right, left)
    traced = translation.operand(activation)
    assert isinstance(term, fx.Node) and isinstance(activation, fx.Node)
    shape = translation.builder.tensors[traced.name].shape
    value = translation.static_value(term) if operation == "add" else None
    if value is not None:
        return _add_constant(translation, node, traced, per_pixel(value, traced.layout, shape))
    _expect_per_channel(term, traced, shape[2])
    producer = translation.producer(activation)
    if not translation.takes_conditioning(producer):
        raise ValueError(f"conditioning folds into convolutions and norms, not into {producer.name}")
    translation.builder.conditioning.setdefault(producer.name, []).append(Term(operation, term, traced.layout))
    return traced


def _expect_per_channel(term: fx.Node, traced: Traced, channels: int) -> None:
    """ValueError for a term that differs within a channel of a sample."""
    sizes = shape_of(traced.layout)
    found = (1,) * (len(sizes) - term.meta["val"].ndim) + tuple(term.meta["val"].shape)
    per_channel = any(
        axis and axis[0].axis == CHANNEL and size in (1, channels)
        for axis, size in zip(traced.layout, found, strict=False)
    )
    if not per_channel or any(size not in (1, whole) for size, whole in zip(found, sizes, strict=False)):
        raise ValueError(f"found conditioning of shape {found}, expected one number per sample and channel of {sizes}")


class AddOperator(Operator[Add]):
    """Parameter: factors [2], of the operands."""

    scaled = ("factors",)

    def run(self, node: Add, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        first, second = step.whole("factors").tolist()
        return inputs[0] * first + inputs[1] * second

    def lower(self, node: Add, lowering: Lowering) -> None:
        operands = np.stack([lowering.scales[name] for name in node.inputs], axis=1)
        factors = operands * lowering.parameter(node, "factors")
        lowering.put_multiplier(node, factors / lowering.scales[node.name][:, None])

    def qonnx(self, node: Add, inputs: Sequence[str], step: QonnxStep) -> str:
        factors = step.table(node, "multiplier")
        scaled = [step.op("Mul", name, step.constant(factor)) for name, factor in zip(inputs, factors, strict=True)]
        return step.clip(step.round_shift(step.op("Add", *scaled), step.number(node, "shift")), VALUE_RANGE)


class MultiplyOperator(Operator[Multiply]):
    """Parameter: factor, of the product."""

    scaled = ("factor",)

    def run(self, node: Multiply, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        return inputs[0] * inputs[1] * step.number("factor")

    def lower(self, node: Multiply, lowering: Lowering) -> None:
        left, right = (lowering.scales[name] for name in node.inputs)
        product = left * right * lowering.parameter(node, "factor")
        lowering.put_multiplier(node, product / lowering.scales[node.name])

    def qonnx(self, node: Multiply, inputs: Sequence[str], step: QonnxStep) -> str:
        return step.requantize(step.op("Mul", *inputs), node, VALUE_RANGE)


OPERATORS: dict[type[Node], Operator[Any]] = {Add: AddOperator(), Multiply: MultiplyOperator()}
HANDLERS: dict[str, Handler] = {
    "aten.add.Tensor": _add,
    "aten.add_.Tensor": _add,
    "aten.sub.Tensor": _subtract,
    "aten.mul.Tensor": _multiply,
    "aten.div.Tensor": _divide,
}
