"""How near a calibrated model's outputs are to the float ones, step by step, and which codes are too coarse where they are not.

8 bits hold a tensor whose channels are alike. One channel that is tens of times larger leaves the others few codes, and what
follows from them is wrong without anything being out of range.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ...hls.common.notices import LOWEST_COSINE, PrecisionWarning
from ..operators import operator_of
from .calibration import Trajectories, progress
from .fine_parts import can_be_fine
from .network import FLOAT, QUANTIZED, QuantizedNetwork

SAMPLES = 2  # of every step that are compared
NAMED = 3  # tensors, the coarsest ones


@dataclass(frozen=True)
class Fidelity:
    """The worst of a step's outputs: its ``cosine`` with the float model's, and ``decibels`` of signal to error."""

    step: int
    cosine: float
    decibels: float


@torch.no_grad()
def measure(network: QuantizedNetwork, trajectories: Trajectories) -> list[Fidelity]:
    """Compare every step, on some of the samples of calibration."""
    steps = progress(range(len(trajectories.samples)), "compare with the float model", "step")
    found = [_compare(step, *_outputs(network, trajectories, step)) for step in steps]
    network.mode = QUANTIZED
    return found


def warn_of_coarse_codes(network: QuantizedNetwork, trajectories: Trajectories) -> None:
    """A PrecisionWarning, where the output of a step is far from the float model's, that names the worst step and the tensors
    whose codes are coarsest there."""
    worst = min(measure(network, trajectories), key=lambda each: each.cosine)
    if worst.cosine >= LOWEST_COSINE:
        return
    alone = sorted(coarsest(network, trajectories, worst.step), key=lambda each: each[1])[:NAMED]
    named = ", ".join(f"{name} ({cosine:.3f} by itself)" for name, cosine in alone)
    warnings.warn(
        f"step {worst.step}: the quantized output has a cosine of {worst.cosine:.3f} with the float one "
        f"({worst.decibels:.1f} dB), expected at least {LOWEST_COSINE}; the coarsest codes are those of {named}, where some "
        f"channels are far larger than others; {_advice(network, alone[0][0])}, and look at the images",
        PrecisionWarning,
        stacklevel=2,
    )


def _advice(network: QuantizedNetwork, coarsest: str) -> str:
    if coarsest in network.fine or not can_be_fine(network.graph, coarsest):
        return "--fine cannot help it: scale its large channels down where they are made and up where they are read"
    return "quantize with a larger --fine or more --groups"


@torch.no_grad()
def coarsest(network: QuantizedNetwork, trajectories: Trajectories, step: int) -> Iterable[tuple[str, float]]:
    """Every tensor of codes and every layer's weights, with the cosine of a step's output when nothing else is quantized."""
    nodes = network.graph.nodes
    names = [name for name in network.graph.tensors if name.replace(".", "/") in network.codes]
    names += [f"{node.name}.weight" for node in nodes if operator_of(node).has_weights]
    network.mode = FLOAT
    exact = trajectories.run(network, step, SAMPLES)
    found: list[tuple[str, float]] = []
    for network.single in progress(names, "look for coarse codes", "tensor"):
        found.append((network.single, _compare(step, exact, trajectories.run(network, step, SAMPLES)).cosine))
    network.single, network.mode = None, QUANTIZED
    return found


def _outputs(network: QuantizedNetwork, trajectories: Trajectories, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = []
    for network.mode in (FLOAT, QUANTIZED):
        outputs.append(trajectories.run(network, step, SAMPLES))
    return outputs[0], outputs[1]


def _compare(step: int, exact: torch.Tensor, found: torch.Tensor) -> Fidelity:
    """Where the float output is zero, as an untrained model's may be, its direction is any."""
    exact, found = exact.double().flatten(1), found.double().flatten(1)
    signal, error = exact.norm(dim=1), (found - exact).norm(dim=1)
    cosine = torch.where(signal > 0, torch.cosine_similarity(exact, found, eps=1e-30), torch.ones_like(signal))
    ratio = torch.where(signal > 0, signal / error.clamp_min(1e-30), torch.ones_like(signal))
    return Fidelity(step, float(cosine.min()), 20 * math.log10(max(float(ratio.min()), 1e-30)))
