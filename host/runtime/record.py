"""What a device counted in a run, by step and layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...hls.machine.isa import COUNTER_NAMES
from ..program.compiler import Program


@dataclass(frozen=True)
class Record:
    """What a device counted in a run, summed over batches of ``samples`` together.

    ``counters``: counter records [steps, layers], whose fields :data:`.isa.COUNTER_NAMES` names; ``names`` and ``modules`` of
    the layers, in their order.
    """

    names: tuple[str, ...]
    modules: tuple[str, ...]
    counters: np.ndarray
    samples: int

    def __add__(self, other: Record) -> Record:
        """The record of both batches."""
        total = self.counters.copy()
        for name in COUNTER_NAMES:
            total[name] += other.counters[name]
        return Record(self.names, self.modules, total, self.samples + other.samples)

    @staticmethod
    def of(program: Program, counted: list[np.ndarray], images: int) -> Record:
        """The record of a batch of ``images``, whose steps each left counter records [operations] on the device."""
        layers = program.layers
        names, modules = tuple(layer.name for layer in layers), tuple(layer.first.module for layer in layers)
        return Record(names, modules, program.by_layer(np.stack(counted)), images)
