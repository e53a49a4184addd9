"""Step-wise post-training quantization: run a few denoising trajectories and choose every tensor's scale per step group.

The traced graph (:mod:`..trace.tracing`) runs in PyTorch with a Brevitas quantizer on every tensor of the integer graph. Two
passes over the trajectories find ranges and choose clipping thresholds; the few tensors that disturb the model's output most get
codes in two parts (:mod:`.fine_parts`); the last pass corrects biases.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from brevitas.graph.calibrate import calibration_mode
from brevitas.nn import QuantIdentity
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ...hls.artefact.scheduler_config import takes_variance
from ...hls.common.notices import FEWEST_LEVELS, PrecisionWarning
from ...hls.contract.arithmetic import CODE_RANGE, FINE_STEPS
from ...hls.contract.layout import from_stored, to_stored
from ...hls.contract.operators import (
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
    ReLU,
    SiLU,
    Softmax,
    Upsample,
)
from ...hls.contract.operators.softmax import SHARE_BITS, rounding_thresholds
from ...hls.contract.tensor import CODE
from ..common.options import Options
from ..trace.tracing import FloatModel
from .fine_parts import can_be_fine, with_fine_codes, with_fine_inputs
from .quantizers import (
    RANGE,
    SEARCH,
    Calibration,
    StepwiseScaling,
    activation_quantizer,
    scales,
    stepwise_scaling,
    weight_quantized_convolution,
)
from .step_groups import group_steps, levels_of

MOVES = (Concat, Upsample)  # nodes that change no value
ACTIVATIONS: dict[type[Node], Callable[[torch.Tensor], torch.Tensor]] = {SiLU: F.silu, GELU: F.gelu, ReLU: F.relu}
FLOAT, CALIBRATE, QUANTIZED = "float", "calibrate", "quantized"
RANKING_STEPS, RANKING_SAMPLES = 8, 8
CONTEXT_HEADROOM = 2  # of a context's codes in two parts, beyond the contexts of calibration


class QuantizedNetwork(nn.Module):
    """A traced model in PyTorch, with Brevitas quantizers: float, under calibration, or fake-quantized.

    ``weights[name]`` is a convolution's Brevitas layer, ``codes[name]`` and ``values[name]`` the quantizers of 8-bit and
    16-bit tensors. ``correction[name]`` [groups, O] is added to a convolution's result when quantized.
    """

    def __init__(self, model: FloatModel, options: Options):
        super().__init__()
        self.graph, self.parameters_ = model.graph, model.parameters
        self.calibration = Calibration(model.graph.steps)  # ranges are those of every step; then steps are grouped
        self.mode = FLOAT
        self.single: str | None = None  # a tensor, or a layer's weights, that is quantized in mode FLOAT too
        in_parts = ((model.graph.input, model.graph.input_parts), (model.graph.context, model.graph.context_parts))
        self.fine = {name for name, parts in in_parts if name is not None and parts == 2}
        self.weights, self.codes, self.values = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.correction: dict[str, torch.Tensor] = {}
        self.on_convolution: Callable[[str, torch.Tensor], torch.Tensor] | None = None
        for node in self.graph.nodes:
            if isinstance(node, Convolution):
                weight = self.parameters_[f"{node.name}.weight"]
                self.weights[_key(node.name)] = weight_quantized_convolution(weight, node.stride)
                self.correction[node.name] = torch.zeros(self.graph.groups, len(weight))
        self.moved = {node.name: node.inputs[0] for node in self.graph.nodes if isinstance(node, MOVES)}
        self.shares = {node.name for node in self.graph.nodes if isinstance(node, Softmax)}  # with a scale per row
        scaled = {node.name for node in self.graph.nodes if not isinstance(node, MOVES)} | {self.graph.input}
        scaled -= self.shares
        scaled |= {*self.graph.constants, *((self.graph.context,) if self.graph.context else ())}
        for name in sorted(scaled):
            is_code = self.graph.tensors[name].kind == CODE
            table = self.codes if is_code else self.values
            bits, norm = (8, options.norm) if is_code else (16, 0.0)
            if name == self.graph.context and name in self.fine:
                norm = 0.0  # the second part makes room for the whole range, and more
            table[_key(name)] = activation_quantizer(bits, self.calibration, norm)
        self.eval()

    def scales(self, name: str) -> torch.Tensor:
        """float64 [groups]: step of tensor ``name``, that of its source where a tensor only moves data.

        Of a softmax's codes it is a share of the row's largest probability.
        """
        if name in self.shares:
            return torch.full((self.graph.groups,), 1 / CODE_RANGE[1], dtype=torch.float64)
        while _key(name) not in self.codes and _key(name) not in self.values:
            name = self.moved[name]
        return scales(self._quantizer(name))

    def _scaling(self, name: str) -> StepwiseScaling:
        return stepwise_scaling(self._quantizer(name))

    def _quantizer(self, name: str) -> QuantIdentity:
        key = _key(name)
        return self.codes[key] if key in self.codes else self.values[key]  # type: ignore[return-value]

    def forward(
        self, sample: torch.Tensor, step: int, labels: torch.Tensor, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The model's output [B, ...] at step ``step`` of the schedule, for a sample [B, *sample_shape].

        ``labels`` int [B] are rows of conditional tables; ``context`` [B, tokens, channels] for a model that has one.
        """
        graph = self.graph
        self.calibration.row = step if self.calibration.phase == RANGE else graph.group_of_step[step]
        tensors = {graph.input: self._pass(graph.input, self._stored(sample))}
        if graph.context is not None:
            assert context is not None
            tensors[graph.context] = self._pass(graph.context, context.mT.unsqueeze(3))
        for name in graph.constants:
            value = self.parameters_[f"{name}.value"].permute(2, 0, 1)
            tensors[name] = self._pass(name, value.expand(len(sample), *value.shape))
        last_reader = {source: node.name for node in graph.nodes for source in node.inputs}
        for node in graph.nodes:
            result = self._run(node, [tensors[name] for name in node.inputs], step, labels)
            tensors[node.name] = self._pass(node.name, result)
            for source in set(node.inputs):
                if last_reader[source] == node.name:
                    del tensors[source]
        output = tensors[graph.output]
        if graph.output_parts == 2:
            output = torch.stack(output.chunk(2, dim=1)).sum(dim=0)
        return torch.from_numpy(from_stored(output.permute(0, 2, 3, 1).numpy(), graph.output_axes))

    def _stored(self, sample: torch.Tensor) -> torch.Tensor:
        """A sample [B, *sample_shape] as images [B, C, H, W]."""
        height, width, channels = self.graph.tensors[self.graph.input].shape
        shape = (height, width, channels // self.graph.input_parts)
        return torch.from_numpy(to_stored(sample.numpy(), self.graph.sample_axes, shape)).permute(0, 3, 1, 2)

    def regroup(self) -> None:
        """After a range pass: scales per step group, of steps with inputs of similar size."""
        ranges = self._scaling(self.graph.input).threshold.tolist()
        groups = group_steps(self.graph.group_of_step, ranges)
        self.graph = dataclasses.replace(self.graph, group_of_step=groups)
        for quantizer in (*self.codes.values(), *self.values.values()):
            stepwise_scaling(quantizer).regroup(groups)  # type: ignore[arg-type]
        if self.graph.context is not None and self.graph.context in self.fine:
            self._scaling(self.graph.context).threshold *= CONTEXT_HEADROOM
        self.calibration.phase = SEARCH  # from here on scales are those of groups
        warn_of_few_levels(groups, ranges)

    def check_ranges(self, step: int, timestep: float) -> None:
        """ValueError that names the first tensor whose range in a step is not finite."""
        ranged = [node.name for node in self.graph.nodes if not isinstance(node, (*MOVES, Softmax))]
        for name in (self.graph.input, *ranged):
            if not bool(self._scaling(name).threshold[step].isfinite()):
                raise ValueError(
                    f"step {step} (timestep {timestep:g}): found NaN or infinity in {name}, expected finite numbers; the "
                    "model or its scheduler does not run on this schedule in float either"
                )

    def make_fine(self, name: str) -> None:
        """Give the codes ``name`` a second part."""
        self.graph = with_fine_codes(self.graph, name)
        self.fine.add(name)
        for node in self.graph.nodes:
            if isinstance(node, Convolution) and name in node.inputs:
                weight = self.weights[_key(node.name)].weight.detach()  # type: ignore[operator,union-attr]
                self.weights[_key(node.name)] = weight_quantized_convolution(with_fine_inputs(weight), node.stride)

    def _pass(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Through the tensor's quantizer, as the mode says. 16-bit rounding is left out of the fake-quantized model."""
        if name in self.shares:
            return _rounded_shares(x) if self.mode == QUANTIZED else x
        key = _key(name)
        quantized = (self.mode == QUANTIZED and key in self.codes) or name == self.single
        observed = self.mode == CALIBRATE and (key in self.codes or key in self.values)
        coarse = self._quantizer(name)(x) if quantized or observed else x
        if name not in self.fine:
            return coarse
        scale = self.scales(name)[self.calibration.row].float()
        residue = ((x - coarse) / scale * FINE_STEPS).round().clamp(*CODE_RANGE) * scale  # zero where not quantized
        return torch.cat([coarse, residue], dim=1)

    def _run(self, node: Node, inputs: list[torch.Tensor], step: int, labels: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        if isinstance(node, Convolution):
            return self._convolve(node, x, step, labels)
        if isinstance(node, MatMul):
            return self._multiply(node, inputs)
        if isinstance(node, Add):
            first, second = self.parameters_[f"{node.name}.factors"].tolist()
            return inputs[0] * first + inputs[1] * second
        if isinstance(node, Multiply):
            return inputs[0] * inputs[1] * float(self.parameters_[f"{node.name}.factor"])
        if isinstance(node, (GroupNorm, LayerNorm)):
            epsilon = float(self.parameters_[f"{node.name}.epsilon"])
            gain, offset = (self._row(node, name, step, labels, node.conditional) for name in ("gain", "offset"))
            if isinstance(node, GroupNorm):
                return F.group_norm(x, node.groups, eps=epsilon) * gain + offset
            return F.layer_norm(x.movedim(1, 3), x.shape[1:2], eps=epsilon).movedim(3, 1) * gain + offset
        if type(node) in ACTIVATIONS:
            return ACTIVATIONS[type(node)](x)
        if isinstance(node, Softmax):
            return x.softmax(dim=-1)
        if isinstance(node, Upsample):
            rows, columns, _ = self.graph.tensors[node.name].shape
            return F.interpolate(x, scale_factor=float(node.factor), mode="nearest")[:, :, :rows, :columns]
        if isinstance(node, AveragePool):
            return F.avg_pool2d(x, node.size)
        if isinstance(node, Concat):
            return torch.cat(inputs, dim=1)
        return x  # Quantize

    def _row(self, node: Node, name: str, step: int, labels: torch.Tensor, conditional: bool) -> torch.Tensor:
        table = self.parameters_[f"{node.name}.{name}"]
        return (table[step][labels] if conditional else table.unsqueeze(0))[:, :, None, None]

    def _convolve(self, node: Convolution, x: torch.Tensor, step: int, labels: torch.Tensor) -> torch.Tensor:
        top, bottom, left, right = node.padding
        padding: tuple[int, int] = (0, 0)
        if (top, left) == (bottom, right):
            padding = (top, left)
        else:
            x = F.pad(x, (left, right, top, bottom))
        layer = self.weights[_key(node.name)]
        coarse = self.mode == QUANTIZED or self.single == f"{node.name}.weight"
        weight = layer.quant_weight().value if coarse else layer.weight  # type: ignore[operator,union-attr]
        y = F.conv2d(x, weight, stride=node.stride, padding=padding)  # type: ignore[arg-type]
        y = y + self._row(node, "bias", step, labels, node.conditional)
        if self.mode == QUANTIZED:
            y = y + self.correction[node.name][self.calibration.row][:, None, None]
        y = self.on_convolution(node.name, y) if self.on_convolution else y
        return y * self._row(node, "gate", step, labels, True) if node.gated else y

    def _multiply(self, node: MatMul, inputs: list[torch.Tensor]) -> torch.Tensor:
        factor = float(self.parameters_[f"{node.name}.factor"])
        right = _heads(inputs[1], node)
        if node.scores:
            return _heads(inputs[0], node) @ right.mT * factor
        mixed = inputs[0] @ right * factor  # [B, windows * heads, queries, depth]
        batch, _, queries, depth = mixed.shape
        order = (0, 2, 4, 3, 1) if node.interleaved else (0, 2, 4, 1, 3)
        pixels = mixed.reshape(batch, node.windows, node.heads, queries, depth).permute(order)
        return pixels.reshape(batch, -1, *node.image)


def _rounded_shares(probabilities: torch.Tensor) -> torch.Tensor:
    """Softmax's rows as the integers have them: codes relative to the row's largest one, divided by their sum."""
    thresholds = torch.from_numpy(rounding_thresholds(probabilities.shape[-1])) / (1 << SHARE_BITS)
    codes = (probabilities / probabilities.amax(dim=-1, keepdim=True) * CODE_RANGE[1] + thresholds).floor()
    return codes / codes.sum(dim=-1, keepdim=True)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ModuleDict's keys hold no dots


def _heads(x: torch.Tensor, node: MatMul) -> torch.Tensor:
    """[B, C, H, W] -> [B, windows * heads, tokens, C / heads]."""
    batch, channels, height, width = x.shape
    depth, tokens = channels // node.heads, height * width // node.windows
    if node.interleaved:
        split = x.reshape(batch, node.heads, depth, tokens, node.windows).permute(0, 4, 1, 3, 2)
    else:
        split = x.reshape(batch, node.heads, depth, node.windows, tokens).permute(0, 3, 1, 4, 2)
    return split.reshape(batch, -1, tokens, depth)


@dataclass(frozen=True)
class Conditions:
    """What the trajectories are of: ``labels`` int [N], rows of conditional tables, and ``context`` [N, tokens, channels].

    With classifier-free guidance (Ho & Salimans 2022) every sample has two branches; ``unguided`` are the labels and the
    context of the other ones, and ``guidance`` is the scale: unguided + guidance * (guided - unguided).
    """

    labels: torch.Tensor
    context: torch.Tensor | None = None
    guidance: float | None = None
    unguided: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def branches(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Labels [B] and contexts [B, ...] of all that the model computes; B is N or 2 N."""
        if self.unguided is None:
            return self.labels, self.context
        labels, context = self.unguided
        both = None if self.context is None or context is None else torch.cat([self.context, context])
        return torch.cat([self.labels, labels]), both


@dataclass(frozen=True)
class Trajectories:
    """Model inputs of a few denoising runs: ``samples[step]`` [B, ...], their labels [B] and contexts [B, ...]."""

    samples: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    context: torch.Tensor | None = None

    def run(self, quantized: QuantizedNetwork, step: int, count: int | None = None) -> torch.Tensor:
        """The model's output for the first ``count`` samples of a step."""
        context = None if self.context is None else self.context[:count]
        return quantized(self.samples[step][:count], step, self.labels[:count], context)


def calibrate(
    model: FloatModel, scheduler, options: Options, conditions: Conditions | None = None
) -> tuple[QuantizedNetwork, Trajectories]:
    """Quantize ``model`` for the schedule that the diffusers ``scheduler`` has been set to.

    ``conditions`` (default: all labels in turn, no guidance). Returns the calibrated model, in mode ``quantized``, and the float
    trajectories it was calibrated on.
    """
    if conditions is None:
        conditions = Conditions(torch.arange(options.trajectories) % model.graph.labels)
    quantized = QuantizedNetwork(model, options)
    with torch.no_grad():
        trajectories = _collect_ranges(quantized, scheduler, options, conditions)
        if options.norm:
            _search_thresholds(quantized, trajectories)
        if options.fine:
            _make_fine(quantized, trajectories, options.fine)
        quantized.mode = QUANTIZED
        if options.correct_biases:
            _correct_biases(quantized, trajectories)
    return quantized, trajectories


def progress(items: Any, what: str, unit: str) -> Any:
    """``items``, with a bar of its own that says what calibration does with them."""
    return tqdm(items, desc=f"calibrate: {what}", unit=unit)


def _collect_ranges(quantized: QuantizedNetwork, scheduler, options: Options, conditions: Conditions) -> Trajectories:
    """Denoise in float from noise, watched by all quantizers."""
    generator = torch.Generator().manual_seed(options.seed)
    sample = torch.randn((len(conditions.labels), *quantized.graph.sample_shape), generator=generator)
    sample = sample * scheduler.init_noise_sigma
    labels, context = conditions.branches()
    samples: list[torch.Tensor] = []
    quantized.mode, quantized.calibration.phase = CALIBRATE, RANGE
    with calibration_mode(quantized):
        for step, timestep in enumerate(progress(scheduler.timesteps, "find ranges", "step")):
            asked = scheduler.scale_model_input(sample, timestep)
            samples.append(torch.cat([asked, asked]) if conditions.unguided else asked)
            output = _guided(quantized(samples[-1], step, labels, context), conditions)
            quantized.check_ranges(step, float(timestep))
            if not takes_variance(type(scheduler).__name__, scheduler.config):
                output = output[:, : sample.shape[1]]  # the rest is a variance that this scheduler does not use
            randomness = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
            sample = scheduler.step(output, timestep, sample, **randomness).prev_sample
    quantized.regroup()
    return Trajectories(tuple(samples), labels, context)


def warn_of_few_levels(groups: Sequence[int], ranges: Sequence[float]) -> None:
    """A PrecisionWarning that names the step whose input is smallest beside its group's largest, if it is very small."""
    levels = levels_of(groups, ranges)
    step = min(range(len(levels)), key=levels.__getitem__)
    if levels[step] < FEWEST_LEVELS:
        largest = max(value for group, value in zip(groups, ranges, strict=True) if group == groups[step])
        warnings.warn(
            f"the input of step {step} reaches {levels[step]:.1f} of 127 codes: its values are up to {ranges[step]:.3g}, "
            f"those of its step group up to {largest:.3g}; quantize with more --groups",
            PrecisionWarning,
            stacklevel=2,
        )


def _guided(output: torch.Tensor, conditions: Conditions) -> torch.Tensor:
    if conditions.unguided is None or conditions.guidance is None:
        return output
    guided, unguided = output.chunk(2)
    return unguided + conditions.guidance * (guided - unguided)


def _search_thresholds(quantized: QuantizedNetwork, trajectories: Trajectories) -> None:
    quantized.mode = CALIBRATE
    with calibration_mode(quantized):
        for step in progress(range(len(trajectories.samples)), "choose scales", "step"):
            trajectories.run(quantized, step)
    for quantizer in quantized.codes.values():
        stepwise_scaling(quantizer).choose()  # type: ignore[arg-type]


def _make_fine(quantized: QuantizedNetwork, trajectories: Trajectories, count: int) -> None:
    """Two-part codes for the tensors that disturb the output most: by its mean absolute error when only they are quantized.

    Steps of the schedule's first half decide: an error grows most from there (measured, see the bundled model's card).
    """
    quantized.mode = FLOAT
    half = (len(trajectories.samples) + 1) // 2
    steps = sorted({half * index // RANKING_STEPS for index in range(RANKING_STEPS)})
    exact = {step: trajectories.run(quantized, step, RANKING_SAMPLES) for step in steps}
    disturbance = {}
    names = [name for name in quantized.graph.tensors if can_be_fine(quantized.graph, name)]
    for quantized.single in progress(names, "rank tensors by the error of their codes", "tensor"):
        found = {step: trajectories.run(quantized, step, RANKING_SAMPLES) for step in steps}
        errors = [(found[step] - exact[step]).abs().mean().item() for step in steps]
        disturbance[quantized.single] = sum(errors)
    quantized.single = None
    for name in sorted(names, key=lambda name: -disturbance[name])[:count]:
        quantized.make_fine(name)


@dataclass
class _BiasCorrection:
    """Watches convolutions: first in float, then quantized, where each is shifted to its float mean at once."""

    means: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def remember(self, name: str, y: torch.Tensor) -> torch.Tensor:
        self.means[name] = y.mean(dim=(0, 2, 3))
        return y

    def correct(self, name: str, y: torch.Tensor) -> torch.Tensor:
        error = self.means[name] - y.mean(dim=(0, 2, 3))
        self.errors.setdefault(name, []).append(error)
        return y + error[:, None, None]


def _correct_biases(quantized: QuantizedNetwork, trajectories: Trajectories) -> None:
    """Shift every convolution so that its mean per channel and step group is the float one (Nagel et al. 2019, sec. 4.2).

    Convolutions are corrected in the order of execution, each with all earlier ones corrected already.
    """
    corrections = [_BiasCorrection() for _ in range(quantized.graph.groups)]
    for step in progress(range(quantized.graph.steps), "correct biases", "step"):
        correction = corrections[quantized.graph.group_of_step[step]]
        for quantized.mode, quantized.on_convolution in ((FLOAT, correction.remember), (QUANTIZED, correction.correct)):
            trajectories.run(quantized, step)
    for group, correction in enumerate(corrections):
        for name, errors in correction.errors.items():
            quantized.correction[name][group] = torch.stack(errors).mean(dim=0)
    quantized.on_convolution = None
