"""The accelerator in software: the same programs, registers and memory as on the board, the same bits, counted work.

A program's descriptors are prepared once (weights packed, views of memory made) and then executed for every step, parts of a
batch together. Either a team of threads shares every layer, or the integer products run on the thread pool of PyTorch or of
NumPy's BLAS and nothing else has threads: two pools in a process would fight for the cores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import COUNTERS, PROGRESS, Opcode, Region
from ..common.memory import Memory
from ..compute.products import choose_backend, int16_is_exact
from ..compute.team import ALONE, Team, default_threads
from ..costs.cycles import CycleModel
from ..counting.digits import Encoded
from ..operators import BY_OPCODE, LINEAR_OPCODES
from ..operators.execution import Execution, Means
from . import defo
from .simulated import OfPrograms, Run, SimulatedDevice

SMALL_LAYER = 1 << 26  # products: some 0.3 ms


class EmulatorDevice(SimulatedDevice):
    """The fast, bit-exact emulator behind the :class:`~ditto_zynq.host.devices.device.Device` interface.

    ``counting`` fills the counter records (digits, bytes, cycles). ``differences`` really executes
    ``acc_ref + W . (q - q_ref)`` where a program asks for it; otherwise the emulator takes the shortcut ``W . q``, which
    the one idea of ``hls/README.md`` makes equal, and only counts the differences. ``backend`` forces a backend of integer
    products (:mod:`..compute.products`), ``threads`` how many work on a layer (default: :func:`..compute.team.default_threads`).
    An ``observer`` sees every linear operation's index and operands, codes [B, pixels, C], an ``auditor`` every operation's index
    after it has run.
    """

    def __init__(
        self,
        config: HardwareConfig,
        counting: bool = True,
        differences: bool = False,
        backend: str | None = None,
        threads: int | None = None,
    ):
        super().__init__("emulator", config, counting)
        self.differences = differences
        self.backend = choose_backend(backend)
        self._is_asked = backend is not None
        self._team = Team(default_threads() if threads is None else threads)
        self.observer: Callable[[int, tuple[np.ndarray, ...]], None] | None = None
        self.auditor: Callable[[int], None] | None = None
        self._prepared: OfPrograms[_Prepared] = OfPrograms()

    def execute(self, run: Run) -> None:
        """Run a checked program on its memory, until it ends or the accelerator is reset."""
        descriptors, asked, count = run.descriptors, run.scalars, len(run.descriptors)
        prepared = self._prepared.get(run.key, lambda: self._prepare(run))
        prepared.memory.regions[Region.PARAMETERS] = run.memory[Region.PARAMETERS]
        records = run.memory[Region.COUNTERS][: count * COUNTERS.itemsize].view(COUNTERS)
        linear = np.isin(descriptors["opcode"], LINEAR_OPCODES) & (asked["skip"] == 0)
        leaders = descriptors["leader"].astype(np.int64)
        taken = defo.decide(records, asked, linear, leaders)
        encoded: list[list[Encoded]] = [[] for _ in range(count)]
        for layer in prepared.layers:
            first, scalars = layer.parts[0], taken[layer.parts[0]]
            if self.registers is not run.registers:
                return  # the accelerator was reset
            run.registers[PROGRESS] = first + 1
            if self.observer is not None and linear[first]:
                self.observer(first, layer.execution.operands)
            if not scalars["skip"]:
                counted = layer.execution.run(scalars)
                split = _split(counted, descriptors["batch"][list(layer.parts)])
                for part, of_part in zip(layer.parts, split, strict=True):
                    encoded[part] = of_part
            if self.auditor is not None:
                self.auditor(first)
        if prepared.model is not None:
            lean = prepared.model.fill(taken, encoded, records)
            defo.record(records, lean, asked, taken, linear, leaders)

    def _prepare(self, run: Run) -> _Prepared:
        """Executable layers, for as long as program, weights and addresses stay. Parameter blocks come in turns."""
        memory = Memory(dict(run.memory))
        backend = self.backend if self._is_asked else backend_for(run.descriptors, self.backend)
        # the other backends' products have threads of their own, which spin: two pools would fight for the cores
        team = self._team if backend == "int16" else ALONE
        means = Means(self.config, self.counting, self.differences, backend, team)
        layers = [self._layer(run.descriptors, parts, memory, means) for parts in _parts_of_layers(run.descriptors)]
        return _Prepared(layers, memory, CycleModel(self.config, run.descriptors) if self.counting else None)

    def _keep_programs(self, addresses: set[int]) -> None:
        super()._keep_programs(addresses)
        self._prepared.keep(addresses)

    def _layer(self, descriptors: np.ndarray, parts: tuple[int, ...], memory: Memory, means: Means) -> _Layer:
        batch = int(descriptors["batch"][list(parts)].sum())
        form = dataclasses.replace(forms.decode(descriptors[parts[0]]), batch=batch)
        opcode = Opcode(form.opcode)
        return _Layer(BY_OPCODE[opcode].execution_of(opcode)(form, memory, means), parts)


def backend_for(descriptors: np.ndarray, backend: str) -> str:
    """``backend``; but ``int16``, where it is exact here, instead of ``vnni`` for a program of small convolutions: PyTorch's
    threads wait, spinning, most of its time."""
    convolutions = descriptors[descriptors["opcode"] == Opcode.CONVOLUTION]
    if backend != "vnni" or not len(convolutions) or not int16_is_exact():
        return backend
    sizes = ("batch", "output_height", "output_width", "output_channels", "kernel_height", "kernel_width", "channels")
    products = np.prod([convolutions[size].astype(np.float64) for size in sizes], axis=0).sum()
    return backend if products / len(np.unique(convolutions["layer"])) >= SMALL_LAYER else "int16"


@dataclass(frozen=True)
class _Prepared:
    """A program ready to run."""

    layers: list[_Layer]
    memory: Memory
    model: CycleModel | None


@dataclass(frozen=True)
class _Layer:
    """An operation on all samples, and the descriptors of its parts; the others' samples follow the first one's in memory.

    The values do not depend on it that a part runs when the first one does: it only reads what is there by then.
    """

    execution: Execution[Any]
    parts: tuple[int, ...]


def _parts_of_layers(descriptors: np.ndarray) -> list[tuple[int, ...]]:
    parts: dict[int, list[int]] = {}
    for index, layer in enumerate(descriptors["layer"].tolist()):
        parts.setdefault(layer, []).append(index)
    return [tuple(indices) for indices in parts.values()]


def _split(counted: list[Encoded], samples: np.ndarray) -> list[list[Encoded]]:
    """What was counted of a batch, for each of its parts."""
    ends = np.cumsum(samples).tolist()
    result = []
    for first, end in zip([0, *ends[:-1]], ends, strict=True):
        part = []
        for encoded in counted:
            per_sample = len(encoded.classes) // ends[-1]
            rows = slice(first * per_sample, end * per_sample)
            part.append(Encoded(encoded.classes[rows], encoded.cycles[rows], encoded.used[rows]))
        result.append(part)
    return result
