"""Descriptors: what the accelerator is told about each operation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...hls.contract.tensor import CODE, Tensor
from ...hls.machine.forms import Form, Image
from ...hls.machine.isa import SCALARS, Flag
from ..operators import operator_of
from ..operators.operator import merged
from ..operators.places import Places
from .operations import Operation
from .static_facts import StaticFacts


@dataclass(frozen=True)
class DescriptorEncoder:
    """Makes the descriptors of a program whose tensors, weights, parameters and kept operands have their ``places``.

    ``overlaps``: channel groups of the convolutions that have some, by their index.
    """

    places: Places
    operations: tuple[Operation, ...]
    facts: StaticFacts
    overlaps: dict[int, int]

    def encode(self, operation: Operation) -> np.ndarray:
        """The record of the ISA, []."""
        return self._form(operation).encode()

    def _form(self, operation: Operation) -> Form:
        places = dataclasses.replace(self.places, first_sample=operation.first_sample)
        node, tensors = operation.first, places.graph.tensors
        source, result = tensors[node.inputs[0]], tensors[operation.name]
        operator = operator_of(node)
        operand_place, result_place = places.tensor(source), places.tensor(result)
        fields = merged([operator_of(each).fields(each, places) for each in operation.nodes])
        if operation.index in self.overlaps:
            fields["channel_groups"] = self.overlaps[operation.index]
        if issubclass(operator.form, Image):
            fields |= _image_fields(source, result)
        return operator.form(
            opcode=operator.opcode(node),
            flags=self._flags(operation, source, result),
            batch=operation.samples,
            node=operation.index,
            leader=self._leader(operation),
            layer=operation.layer,
            scalars=operation.index * SCALARS.itemsize,
            sample_stride=places.sample_stride,
            input=operand_place.offset,
            input_pitch=operand_place.pitch,
            output=result_place.offset,
            output_pitch=result_place.pitch,
            **fields,
        )

    def _leader(self, operation: Operation) -> int:
        """Index of the operation itself, or of its leader's for the batch's first samples."""
        if not operation.is_linear:
            return operation.index
        return self._first_parts[self.facts.leaders.get(operation.first.name, operation.first.name)]

    @cached_property
    def _first_parts(self) -> dict[str, int]:
        """Index of the operation of the batch's first samples, by its first node."""
        return {op.first.name: op.index for op in self.operations if op.first_sample == 0}

    def _flags(self, operation: Operation, source: Tensor, result: Tensor) -> Flag:
        first = operation.first
        plans = self.places.plans.get(first.name, ())
        chosen = {
            Flag.PAIRED: operation.paired,
            Flag.FOLLOWS: self._leader(operation) != operation.index,
            Flag.SHARES_OPERAND: first.name in self.facts.leaders,
            Flag.CODE_INPUT: source.kind == CODE,
            Flag.CODE_OUTPUT: result.kind == CODE,
            Flag.RESIDENT: len(plans) > 0 and plans[0].resident,
            Flag.OTHER_RESIDENT: len(plans) > 1 and plans[1].resident,
        }
        flags = Flag(sum(flag for flag, is_set in chosen.items() if is_set))
        for node in operation.nodes:
            flags |= operator_of(node).flags(node, self.facts.constant)
        return flags


def _image_fields(source: Tensor, result: Tensor) -> dict[str, int]:
    names = ("height", "width", "channels", "output_height", "output_width", "output_channels")
    return dict(zip(names, (*source.shape, *result.shape), strict=True))
