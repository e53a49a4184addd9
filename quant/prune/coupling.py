"""Which channels of a model stay or go together: torch-pruning's dependency graph (DepGraph, CVPR 2023), by module paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch_pruning as tp
from torch import nn

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.GroupNorm, nn.BatchNorm2d, nn.LayerNorm)
OUT, IN = "out", "in"


@dataclass(frozen=True)
class Slot:
    """Where a module has the channels of a group: position ``positions[i]`` of its output (or of its input) is channel
    ``channels[i]``. A concatenation of a tensor with itself has each channel twice."""

    module: str
    side: str
    channels: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class ChannelGroup:
    """``size`` channels that several layers write, norms scale and other layers read. Its name is its first writer's path."""

    name: str
    size: int
    slots: tuple[Slot, ...]

    def of(self, model: nn.Module, kinds: tuple[type[nn.Module], ...], side: str) -> list[tuple[nn.Module, Slot]]:
        """The modules of these kinds that have the channels on this side."""
        found = [(model.get_submodule(slot.module), slot) for slot in self.slots if slot.side == side]
        return [(module, slot) for module, slot in found if isinstance(module, kinds)]

    def writers(self, model: nn.Module) -> list[tuple[nn.Module, Slot]]:
        """The layers that write the channels of pixels or tokens: all but those of an embedding, whose input has no pixels."""
        layers = self.of(model, LAYERS, OUT)
        return [(layer, slot) for layer, slot in layers if not _is_embedding(slot.module)]

    def kernels(self, model: nn.Module, gradients: bool = False) -> list[np.ndarray]:
        """The kernels of each writer, or their ``gradients``, float [channels of the group, input channels, taps]: those of all
        its pieces, where a writer's output is cut."""
        result = []
        for layer, slot in self.writers(model):
            weight = _array(layer.weight.grad if gradients else layer.weight)
            order = np.lexsort((slot.positions, slot.channels))
            pieces = weight.reshape(len(weight), weight.shape[1], -1)[slot.positions[order]]
            result.append(pieces.reshape(self.size, -1, pieces.shape[2]))
        return result

    def gammas(self, model: nn.Module) -> np.ndarray:
        """The mean magnitude [size] of the scales that norms give each channel; nan where none does."""
        total, count = np.zeros(self.size), np.zeros(self.size)
        for norm, slot in self.of(model, NORMS, OUT):
            if norm.weight is None:
                continue
            np.add.at(total, slot.channels, np.abs(_array(norm.weight)[slot.positions]))
            np.add.at(count, slot.channels, 1)
        return np.divide(total, count, out=np.full(self.size, np.nan), where=count > 0)


def channel_groups(model: nn.Module, inputs: Mapping[str, Any]) -> list[ChannelGroup]:
    """The groups of a model's channels in the order in which the model is written, but for embeddings and the model's result.

    ``inputs``: keyword arguments of a forward pass, which is traced. ValueError where the dependencies cannot be found.
    """
    model.eval()
    try:
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=dict(inputs), verbose=False)
    except Exception as error:  # whatever a model's forward pass or the library raises
        raise ValueError(f"found no dependencies of channels in {type(model).__name__}: {error}") from error
    paths = {module: path for path, module in model.named_modules()}
    groups, seen = [], set()
    for path, module in model.named_modules():
        if not isinstance(module, LAYERS) or path in seen or getattr(module, "groups", 1) != 1:
            continue
        group = _group(graph, paths, path, module)
        seen |= {slot.module for slot in group.slots if slot.side == OUT}
        if group.of(model, LAYERS, IN) and group.writers(model):
            groups.append(group)
    return groups


def _group(graph: Any, paths: Mapping[nn.Module, str], path: str, layer: nn.Module) -> ChannelGroup:
    """The group of all output channels of a layer. Where its output is cut into pieces that meet again (GEGLU), a channel is one
    of each piece, and there are as many as a piece has."""
    pieces = sum(
        len(slot.positions) for slot in _slots(graph, paths, layer, 1) if (slot.module, slot.side) == (path, OUT)
    )
    size = len(_array(layer.weight)) // pieces
    return ChannelGroup(path, size, tuple(_slots(graph, paths, layer, size)))


def _slots(graph: Any, paths: Mapping[nn.Module, str], layer: nn.Module, count: int) -> list[Slot]:
    """Where the first ``count`` output channels of a layer are."""
    function = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
    slots: dict[tuple[str, str], Slot] = {}
    for item in graph.get_pruning_group(layer, function, idxs=list(range(count))):
        module = item.dep.target.module
        if module not in paths or not isinstance(module, (*LAYERS, *NORMS)):
            continue
        side = OUT if graph.is_out_channel_pruning_fn(item.dep.handler) else IN
        channels, positions = np.array(item.root_idxs, np.int64), np.array(item.idxs, np.int64)
        slot, key = Slot(paths[module], side, channels, positions), (paths[module], side)
        slots[key] = _joined(slots[key], slot) if key in slots else slot
    return list(slots.values())


def _array(parameter: Any) -> np.ndarray:
    """The values of a parameter, or of its gradient."""
    return np.asarray(parameter.detach().cpu().numpy())


def _joined(first: Slot, second: Slot) -> Slot:
    """A slot with the positions of both, each once."""
    pairs = np.stack([np.r_[first.channels, second.channels], np.r_[first.positions, second.positions]])
    channels, positions = np.unique(pairs, axis=1)
    return Slot(first.module, first.side, channels, positions)


def _is_embedding(path: str) -> bool:
    """Whether a layer's input is an embedding of timestep or class, as diffusers names such layers."""
    return any(
        part in ("time_embedding", "class_embedding", "time_emb_proj", "add_embedding") for part in path.split(".")
    )
