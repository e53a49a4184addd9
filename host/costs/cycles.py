"""The cycle and traffic model: what each descriptor costs, loop by loop as in ``hls/kernels``.

The C simulation counts the iterations of every loop and every beat of memory traffic; this model predicts the same counts
from a descriptor, the configuration and the digits of the operands (:mod:`..counting.digits`), and the tests hold the two equal.
``cycles`` puts the loops together as the kernels overlap them (dataflow). Figures made with it are *emulated* cycles of a
design that has not been built: loops are taken to start an iteration every cycle, every port to move a beat every cycle, and
DRAM to reach its peak bandwidth. Loops that only move bytes on chip (``turn_rows``, ``transpose_words``, ``realign_beats`` of
kept operands) are not counted on either side: they are taken to hide behind the transfers that they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...hls.contract.references import Reference
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.forms import Form
from ...hls.machine.isa import COUNTER_NAMES, COUNTERS, DEFO, DESCRIPTOR, SCALARS, START_CYCLES, Flag, Opcode
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts, ProductModel
from ..counting.traffic import Array, beats, dram_beats
from ..operators import BY_OPCODE, LINEAR_OPCODES
from ..operators.linear import LinearOperator
from ..operators.norm import norm_parts


class CycleModel:
    """The model of a program: fills the counter records of its steps. What no digits change is kept from step to step."""

    def __init__(self, config: HardwareConfig, descriptors: np.ndarray):
        self.config = config
        self.forms = [forms.decode(record) for record in descriptors]
        descriptor_offsets = np.arange(len(descriptors)) * DESCRIPTOR.itemsize
        scalar_offsets = descriptors["scalars"].astype(np.int64)
        fetch = beats(descriptor_offsets, DESCRIPTOR.itemsize, config.bus_bytes)
        is_linear = np.isin(descriptors["opcode"], LINEAR_OPCODES)
        self.entry = np.where(is_linear, DEFO.itemsize // config.bus_bytes, 0)
        self.fetch = fetch + beats(scalar_offsets, SCALARS.itemsize, config.bus_bytes)
        self._norm_parts: dict[int, list[Counts]] = {}  # of norms that follow the convolution before them part by part
        for index, form in enumerate(self.forms):
            norm = self.forms[index + 1] if channel_groups(form) > 1 else None
            if isinstance(norm, forms.Norm):
                self._norm_parts[index + 1] = norm_parts(config, norm, channel_groups(form))
        self._models: dict[tuple[int, ...], list[ProductModel]] = {}
        self._vector: dict[int, Counts] = {}

    def fill(self, scalars: np.ndarray, encoded: list[list[Encoded]], records: np.ndarray) -> Array:
        """``encoded[i]``: the digits of operation i's operands, none for one of the vector unit.

        Returns the cycles int64 [operations] that the step would take if operators that refer to no previous step kept nothing.
        """
        self._fill(scalars, encoded, records)
        keeping = (scalars["reference"] != Reference.PREVIOUS_STEP) & (scalars["keep_state"] != 0)
        if not np.any(keeping):
            return records["cycles"].astype(np.int64)
        lean_scalars, lean = scalars.copy(), np.zeros_like(records)
        lean_scalars["keep_state"][keeping] = 0
        self._fill(lean_scalars, encoded, lean)
        return lean["cycles"].astype(np.int64)

    def _fill(
        self,
        scalars: np.ndarray,
        encoded: list[list[Encoded]],
        records: np.ndarray,
        dense: Mapping[int, list[ProductModel]] | None = None,
    ) -> None:
        rows: list[list[int]] = []
        for index in range(len(self.forms)):
            if scalars[index]["skip"]:
                counts: Counts = {}
            elif encoded[index]:
                models = dense[index] if dense else self._product_models(index, scalars[index])
                counts = self._linear(index, scalars[index], models, encoded[index])
            else:
                counts = self._vector_counts(index)
            rows.append([counts.get(name, 0) for name in COUNTER_NAMES])
        for name, column in zip(COUNTER_NAMES, np.array(rows, np.int64).T, strict=True):
            records[name] = column
        fetch = self.fetch + np.where(scalars["skip"], 0, self.entry)
        records["parameter_beats"] += fetch.astype(np.uint64)
        records["cycles"] = self._total_cycles(records, fetch)

    def dense(self, sign_mask: bool = False) -> np.ndarray:
        """Counter records of a step on a dense array with the same multipliers, buffers and ports: no digits, no history.

        ``sign_mask``: of a step on Cambricon-D (ISCA 2024). Its array is dense too, of narrow multipliers with a few wide ones
        for outliers, which are taken never to hold it up. Convolutions get differences and pass them on through approximate
        non-linear functions, which need the signs of the last step's values; these cost nothing here. The values themselves are
        brought up to date near its memory; a Zynq has nothing there, so accumulators are read and written. Attention products
        take the codes themselves. It is not exact, and only its costs are modelled.
        """
        records, scalars = np.zeros(len(self.forms), COUNTERS), np.zeros(len(self.forms), SCALARS)
        dense: dict[int, list[ProductModel]] = {}
        for index, form in enumerate(self.forms):
            if form.opcode not in LINEAR_OPCODES:
                continue
            models = self._product_models(index, scalars[index])
            if sign_mask and form.opcode == Opcode.CONVOLUTION:
                product = replace(models[0].product, add_accumulators=True, keep_accumulators=True)
                models = [ProductModel(self.config, product, max(channel_groups(form), 1))]
            dense[index] = models
        encoded = [[model.dense() for model in dense.get(index, [])] for index in range(len(records))]
        self._fill(scalars, encoded, records, dense)
        return records

    def _product_models(self, index: int, scalars: np.void) -> list[ProductModel]:
        key = (index, *(int(scalars[name]) for name in ("reference", "keep_state", "parity")))
        if key not in self._models:
            form, groups = self.forms[index], max(channel_groups(self.forms[index]), 1)
            products = _linear_operator(form).products(form, scalars)
            self._models[key] = [ProductModel(self.config, product, groups) for product in products]
        return self._models[key]

    def _total_cycles(self, records: np.ndarray, fetch: Array) -> Array:
        """With the fetching of descriptors and DRAM's bandwidth, which operations that overlap share."""
        cycles = records["cycles"].astype(np.int64) + fetch
        traffic = dram_beats(records)
        last = np.zeros_like(cycles)
        for index in range(len(self.forms)):
            if index + 1 in self._norm_parts:
                last[index] = self._norm_parts[index + 1][-1]["cycles"]
                cycles[index] += fetch[index + 1] + last[index]
                traffic[index] += traffic[index + 1]
                cycles[index + 1] = traffic[index + 1] = 0
        total = np.maximum(cycles, self._dram_cycles(traffic)) - last + START_CYCLES
        total[1:] += last[:-1]
        for index, form in enumerate(self.forms):
            if form.has(Flag.PAIRED):  # the second one's cycles are those that it adds
                own = (records["cycles"][pair := slice(index, index + 2)]).astype(np.int64)
                both = np.array([own.max() + fetch[pair].sum()])
                whole = np.maximum(both, self._dram_cycles(traffic[pair].sum(keepdims=True)))[0] + START_CYCLES
                total[index + 1] = whole - total[index]
        return total

    def _dram_cycles(self, traffic: Array) -> Array:
        """Cycles that DRAM needs at least for the beats of all ports."""
        return -(-(traffic * self.config.bus_bytes * 1000) // self.config.dram_bytes_per_kilocycle)

    def _vector_counts(self, index: int) -> Counts:
        if index not in self._vector:
            form = self.forms[index]
            parts = self._norm_parts.get(index) or [BY_OPCODE[Opcode(form.opcode)].counts(self.config, form)]
            self._vector[index] = {name: sum(part[name] for part in parts) for name in parts[0]}
        return self._vector[index]

    def _overlap(self, index: int, convolution: list[int]) -> int:
        """Cycles of a convolution in channel groups, each normalized while the next one is computed (``Controller::overlap``)."""
        norm = [part["cycles"] for part in self._norm_parts[index + 1]]
        return sum(max(pair) for pair in zip(convolution, [0, *norm[:-1]], strict=True))

    def _linear(self, index: int, scalars: np.void, models: list[ProductModel], encoded: list[Encoded]) -> Counts:
        form = self.forms[index]
        counted = [model.count(part) for model, part in zip(models, encoded, strict=True)]
        if channel_groups(form) > 1:
            counted[0]["cycles"] = self._overlap(index, models[0].group_cycles)
        if scalars["keep_state"] and len(counted) == 1:
            copied = _linear_operator(form).keep_other_counts(self.config, form, scalars)
            if copied is not None:
                counted.append(copied)
        if len(counted) == 1:
            return counted[0]
        return {name: sum(counts.get(name, 0) for counts in counted) for name in COUNTER_NAMES}


def channel_groups(form: Form) -> int:
    """In how many parts an operation overlaps with the one after it; 0 for one that does not."""
    return form.channel_groups if isinstance(form, forms.Convolution) else 0


def _linear_operator(form: Form) -> LinearOperator[Any, Any]:
    operator = BY_OPCODE[Opcode(form.opcode)]
    assert isinstance(operator, LinearOperator)
    return operator
