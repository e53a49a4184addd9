"""From chosen channels to a narrower model: each parameter keeps the rows and columns of the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .coupling import IN, ChannelGroup
from .narrow import channels_of


@dataclass(frozen=True)
class Kept:
    """Positions of a module's output and input that stay, in their order."""

    outputs: np.ndarray
    inputs: np.ndarray


def kept_positions(
    model: nn.Module, groups: Sequence[ChannelGroup], chosen: Mapping[str, np.ndarray]
) -> dict[str, Kept]:
    """What stays of every module that the groups' channels pass: ``chosen`` are the channels of groups, by their names; of groups
    that it does not name, all stay."""
    masks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for group in groups:
        if group.name not in chosen:
            continue
        gone = np.ones(group.size, bool)
        gone[chosen[group.name]] = False
        for slot in group.slots:
            if slot.module not in masks:
                outputs, inputs = (np.ones(size, bool) for size in channels_of(model.get_submodule(slot.module)))
                masks[slot.module] = outputs, inputs
            masks[slot.module][slot.side == IN][slot.positions[gone[slot.channels]]] = False
    return {path: Kept(*(np.flatnonzero(side) for side in sides)) for path, sides in masks.items()}


def widths_of(model: nn.Module, kept: Mapping[str, Kept]) -> dict[str, tuple[int, int]]:
    """The channels of output and input that layers and norms are left with."""
    result = {}
    for path, positions in kept.items():
        module = model.get_submodule(path)
        outputs = len(positions.outputs)
        result[path] = (outputs, len(positions.inputs) if isinstance(module, (nn.Conv2d, nn.Linear)) else outputs)
    return result


def transfer(
    dense: nn.Module, narrow: nn.Module, kept: Mapping[str, Kept], others: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Give ``narrow`` the parameters of ``dense``, those of channels that stay, or ``others`` where these have the name; layers
    that it does not have are left out. ValueError where a shape does not come out."""
    state = dict(others or {})
    for name, value in dense.state_dict().items():
        path = name.rpartition(".")[0]
        if name not in state:
            state[name] = _part(value, kept[path]) if path in kept else value
    for name, value in narrow.state_dict().items():
        if name not in state or state[name].shape != value.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise ValueError(f"{name}: found {found} of the dense model's, expected {tuple(value.shape)}")
    narrow.load_state_dict({name: state[name] for name in narrow.state_dict()})


def _part(value: torch.Tensor, kept: Kept) -> torch.Tensor:
    if not value.ndim:
        return value
    outputs, inputs = (torch.from_numpy(positions).to(value.device) for positions in (kept.outputs, kept.inputs))
    part = value[outputs]
    return part[:, inputs].contiguous() if part.ndim > 1 else part
