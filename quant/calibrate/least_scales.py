"""Scales of what is zero, or nearly: layers that start at zero (an untrained conv_out, ControlNet's, adaLN-Zero's) and tensors
that never change.

Their own magnitudes ask for scales beside which a bias, an epsilon or a gain leaves the integers of the contract. The scale is
then the least that holds those; what is lost of the weights or values is below the steps of the result. All other scales stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from ...hls.common.limits import LARGEST_EPSILON, LARGEST_GAIN
from ...hls.contract.arithmetic import ACCUMULATOR_RANGE, CODE_RANGE
from ...hls.contract.graph import Graph
from ...hls.contract.operators import GroupNorm, LayerNorm

LARGEST_BIAS = 1 << 30  # of a row whose weights give way to it: half of an accumulator
MARGIN = 1 + 1e-9  # for the rounding of quotients


def with_room_for_biases(weight: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer ``weight`` [O, ...] beside which ``biases`` [..., O] fit accumulators, in steps, and by which factor [O], 1 or a
    power of two, each row's scale has grown."""
    reach = np.abs(biases).reshape(-1, len(weight)).max(axis=0)
    products = -CODE_RANGE[0] * np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    steps = np.ceil(np.log2(np.maximum(reach / LARGEST_BIAS, 1.0)))
    growth = np.where(reach + products > ACCUMULATOR_RANGE[1], 2.0**steps, 1.0)
    rounded = np.rint(weight / growth.reshape(-1, *(1,) * (weight.ndim - 1)))
    return rounded.astype(weight.dtype), growth


def least_scales(graph: Graph, parameters: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, float]]:
    """Tensors around norms, each with the least scale with which the norm's epsilon and gain are integers."""
    for node in graph.nodes:
        if isinstance(node, (GroupNorm, LayerNorm)):
            epsilon = float(parameters[f"{node.name}.epsilon"])
            yield (
                node.inputs[0],
                MARGIN * node.count(graph.tensors[node.name].shape) * (epsilon / LARGEST_EPSILON) ** 0.5,
            )
            yield node.name, MARGIN * float(parameters[f"{node.name}.gain"].abs().max()) / LARGEST_GAIN
