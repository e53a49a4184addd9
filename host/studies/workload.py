"""Costs of architectures without weights: their operands are borrowed from a quantized model's run, so figures are *modelled*.

Every linear operator of the architecture takes the codes of the lender's most alike operator (same kind, nearest resolution,
then nearest depth, then of the same name) at a step and at the one before. Pixels are mirrored to the size that is needed and
channels repeated in a random order, the same in both steps, so zeros stay where values do not change and lanes are as unevenly
filled as the lender's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ...hls.contract.graph import Graph
from ...hls.contract.operators import LinearNode
from ...hls.contract.references import DEFO_PLUS as CHOICE_OF_ALL
from ...hls.contract.references import KINDS, Reference, ReferenceKind, kind_of
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import COUNTERS, SCALARS
from ..costs.cycles import CycleModel
from ..counting.digits import Encoded
from ..devices.emulator import EmulatorDevice
from ..operators import linear_operator_of
from ..operators.linear import Operands
from ..program.compiler import Program
from ..runtime.model import Model
from ..runtime.session import ORIGINAL

LENT_SAMPLES = 2


@dataclass(frozen=True)
class Transition:
    """The operands of every linear operator of the lender at a step, and at the step before."""

    step: int
    before: dict[str, Operands]
    now: dict[str, Operands]


class Lender:
    """A run of ``artefact``, seen at some steps with a previous one."""

    def __init__(
        self,
        artefact: QuantizedModel,
        config: HardwareConfig,
        steps: tuple[int, ...],
        seed: int = 0,
        memory_mib: int | None = None,
    ):
        wrong = [step for step in steps if not 0 < step < artefact.graph.steps]
        if wrong or not steps:
            raise ValueError(
                f"found steps {steps} to borrow digits of, expected some of 1 to {artefact.graph.steps - 1}"
            )
        self.graph, self.random = artefact.graph, np.random.default_rng(seed)
        seen: dict[int, dict[str, Operands]] = {step: {} for last in steps for step in (last - 1, last)}
        device = EmulatorDevice(config, counting=False)
        model = Model(artefact, device, memory_mib=memory_mib)
        program = model.session(LENT_SAMPLES * artefact.branches, history=False).program
        names = [operation.first.name for operation in program.operations]
        step = 0

        def observe(index: int, operands: Operands) -> None:
            if step in seen:
                seen[step][names[index]] = tuple(operand.copy() for operand in operands)

        def advance() -> None:
            nonlocal step
            step += 1

        device.observer = observe
        model.denoise_as_calibrated(LENT_SAMPLES, seed, ORIGINAL, advance=advance)
        constant = program.facts.constant  # runs in the first step only
        self.lending = [node for node in self.graph.linear_nodes if node.name not in constant]
        self.transitions = tuple(Transition(step, seen[step - 1], seen[step]) for step in steps)
        self._channels: dict[tuple[int, int], np.ndarray] = {}

    def operands(
        self, graph: Graph, node: LinearNode, transition: Transition, heads: int | None = None
    ) -> tuple[Operands, Operands]:
        """Operands for ``node`` of another graph, before and now. Of an attention product only ``heads`` (default: all)."""
        alike, operator = self._alike(graph, node), linear_operator_of(node)
        before: list[np.ndarray] = []
        now: list[np.ndarray] = []
        for position in range(len(node.inputs)):
            shape = operator.lent_shape(node, graph, position, heads)
            lent = self.graph.tensors[alike.inputs[position]].shape
            for codes, result in ((transition.before, before), (transition.now, now)):
                result.append(self._stretched(codes[alike.name][position].reshape(-1, *lent), shape))
        return tuple(before), tuple(now)

    def _alike(self, graph: Graph, node: LinearNode) -> LinearNode:
        def kind(each: LinearNode) -> tuple[bool, ...]:
            return linear_operator_of(each).alike(each)

        def distance(each: LinearNode) -> tuple[float, float, bool]:
            mine, its = graph.tensors[node.inputs[0]].shape, self.graph.tensors[each.inputs[0]].shape
            pixels = math.prod(mine[:2]) / math.prod(its[:2])
            return abs(math.log(pixels)), abs(math.log(mine[2] / its[2])), each.name != node.name

        return min((each for each in self.lending if kind(each) == kind(node)), key=distance)

    def _stretched(self, codes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        height, width, channels = codes.shape[1:]
        larger = [(0, max(wanted - had, 0)) for wanted, had in zip(shape[:2], (height, width), strict=True)]
        mirrored = np.pad(codes, ((0, 0), *larger, (0, 0)), mode="symmetric")[:, : shape[0], : shape[1]]
        return np.ascontiguousarray(mirrored[..., self._order(channels, shape[2])])

    def _order(self, channels: int, wanted: int) -> np.ndarray:
        """Which channel stands in for each wanted one: all of them once, then all again in another order."""
        if (channels, wanted) not in self._channels:
            repeats = [np.arange(channels)] + [self.random.permutation(channels) for _ in range(wanted // channels)]
            self._channels[channels, wanted] = np.concatenate(repeats)[:wanted]
        return self._channels[channels, wanted]


def counters_of_flows(
    program: Program, lender: Lender, progress: Callable[[str], object] = lambda text: None
) -> dict[str, np.ndarray]:
    """Counter records [steps, operations] of every execution flow. Each step is like the nearest one that was lent."""
    graph, steps = program.graph, program.graph.steps
    model = CycleModel(program.config, program.descriptors)
    tried: list[dict[Reference, np.ndarray]] = []
    for transition in lender.transitions:
        progress(f"counting digits of {len(graph.linear_nodes)} operators as at step {transition.step}")
        encoded = _encode(program, lender, transition)
        tried.append({reference: _records(program, model, reference, encoded, False) for reference in encoded})
        if len(tried) == 1:
            first = _records(program, model, Reference.ZERO, encoded, True)
    lent = np.array([transition.step for transition in lender.transitions])
    nearest = [int(np.abs(lent - step).argmin()) for step in range(steps)]
    linear = np.array([operation.is_linear for operation in program.operations])

    def like(step: int, reference: Reference) -> np.ndarray:
        return tried[nearest[step]][reference]

    def whole_run(kind: ReferenceKind) -> np.ndarray:
        """Each step like the one that was lent, by one reference; before a run's first step there is no previous one."""
        records = np.array([like(step, kind.reference) for step in range(steps)])
        if kind.adds_kept:
            records[0] = first
        return records

    result = {kind.flow: whole_run(kind) for kind in CHOICE_OF_ALL.candidates}
    for decides in (kind for kind in KINDS.values() if kind.candidates):
        candidates = [candidate.reference for candidate in decides.candidates]
        tries = [like(step, each) for step, each in enumerate(candidates)]
        best = np.stack([records["cycles"] for records in tries]).argmin(axis=0)
        settled = [_chosen(best, [like(step, each) for each in candidates]) for step in range(len(candidates), steps)]
        result[decides.flow] = np.array([first, *tries[1:], *settled])
        result[decides.flow]["reference"][len(candidates) :, linear] = np.array(candidates)[best][linear]
    return result


def _chosen(best: np.ndarray, records: list[np.ndarray]) -> np.ndarray:
    """For each operation the record of the ``best`` candidate."""
    result = records[0].copy()
    for index, each in enumerate(records):
        result[best == index] = each[best == index]
    return result


def _records(
    program: Program,
    model: CycleModel,
    reference: Reference,
    encoded: dict[Reference, list[list[Encoded]]],
    keeps: bool,
) -> np.ndarray:
    """The records of a step in which all operators take ``reference``, and keep what they must, or all if ``keeps``."""
    records, scalars = np.zeros(len(program.operations), COUNTERS), np.zeros(len(program.operations), SCALARS)
    scalars["reference"] = reference
    scalars["keep_state"] = keeps or kind_of(reference).keeps
    scalars["skip"] = [operation.name in program.facts.constant for operation in program.operations]
    model.fill(scalars, encoded[reference], records)
    return records


def _encode(program: Program, lender: Lender, transition: Transition) -> dict[Reference, list[list[Encoded]]]:
    """Digits of every operation's operands, per reference."""
    found: dict[Reference, list[list[Encoded]]] = {
        kind.reference: [[] for _ in program.operations] for kind in CHOICE_OF_ALL.candidates
    }
    counted: dict[int, dict[Reference, list[Encoded]]] = {}  # of each layer: its parts have equal plans
    for operation in program.operations:
        node = operation.first
        if not isinstance(node, LinearNode):
            continue
        if operation.layer not in counted:
            counted[operation.layer] = _count(program, operation.index, node, lender, transition)
        for reference, encoded in counted[operation.layer].items():
            instances = linear_operator_of(node).lent_instances(node, operation.samples)
            found[reference][operation.index] = [_repeated(each, instances) for each in encoded]
    return found


def _count(
    program: Program, index: int, node: LinearNode, lender: Lender, transition: Transition
) -> dict[Reference, list[Encoded]]:
    operator, form = linear_operator_of(node), forms.decode(program.descriptors[index])
    heads = operator.lent_heads(node, program.graph)
    before, now = (
        operator.as_multiplied(node, operands, heads)
        for operands in lender.operands(program.graph, node, transition, heads)
    )
    work = operator.encoded(form, program.config, now, before)
    return {kind.reference: kind.of(work) for kind in CHOICE_OF_ALL.candidates}


def _repeated(encoded: Encoded, instances: int) -> Encoded:
    """What was counted, repeated for as many samples, or samples and heads, as there are."""
    parts = (encoded.classes, encoded.cycles, encoded.used)
    return Encoded(*(np.resize(part, (instances, *part.shape[1:])) for part in parts))
