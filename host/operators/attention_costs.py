"""What the products of attention read, write and multiply, as ``kernels/steps.hpp`` runs them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.contract.references import kind_of
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag
from ...hls.machine.plan import Plan
from ..counting.product_cycles import COLUMNS, ROWS, Counts, Product
from ..counting.traffic import Array, beats, merged_beats
from .linear import kept_offsets


def first_pixel(form: forms.Attention, window: Array, tokens: int) -> Array:
    """The pixel of the first token of each window, of all samples (``first_pixel`` of kernels/steps.hpp)."""
    if not form.interleaved:
        return window * tokens
    return window // form.windows * (tokens * form.windows) + window % form.windows


def token_pixels(form: forms.Attention) -> int:
    """How many pixels it is from one token of a window to the next."""
    return form.windows if form.interleaved else 1


@dataclass(frozen=True)
class _Side:
    """Where the codes of one operand begin, of every window and head, and how far it is from token to token; in ACTIVATIONS, and
    kept in STATE, window by window."""

    first: Array
    pitch: int
    kept: Array
    kept_pitch: int


class AttentionProducts:
    """The one or two products of a descriptor: left . right, or d(left) . right_prev and left . d(right), transposed."""

    def __init__(self, form: forms.Attention, scalars: np.void):
        self.form, self.scalars = form, scalars
        self.window, self.head = (index.ravel() for index in np.indices((form.batch * form.windows, form.heads)))
        self.reference, self.keeps = kind_of(int(scalars["reference"])), bool(scalars["keep_state"])
        self.rows = form.queries
        self.inner, self.columns = (form.head_depth, form.keys) if form.is_scores else (form.keys, form.head_depth)
        self.left, self.right = self._left(), self._right()
        self.accumulators = (
            form.state_accumulators + 4 * (self.window * form.heads + self.head) * self.rows * self.columns
        )

    def all(self) -> list[Product]:
        """The product that is written first."""
        both = self.reference.adds_kept and not self.form.has(Flag.CONSTANT_OTHER)
        return [self._first(both), self._second()] if both else [self._first(both)]

    def _left(self) -> _Side:
        form, window, head = self.form, self.window, self.head
        if form.is_scores:
            return _Side(
                form.input + first_pixel(form, window, self.rows) * form.input_pitch + head * self.inner,
                token_pixels(form) * form.input_pitch,
                window * self.rows * form.depth + head * self.inner,
                form.depth,
            )
        row = (window * form.heads + head) * self.rows
        return _Side(form.input + row * form.input_pitch, form.input_pitch, row * self.inner, self.inner)

    def _right(self) -> _Side:
        form, window, head = self.form, self.window, self.head
        tokens, width = form.keys, form.head_depth
        return _Side(
            form.other + first_pixel(form, window, tokens) * form.other_pitch + head * width,
            token_pixels(form) * form.other_pitch,
            (window * tokens * form.heads + head) * width,
            width * form.heads,
        )

    def _output(self) -> tuple[Array, int]:
        """Where the results of every window and head begin, and how far it is from row to row."""
        form, window, head = self.form, self.window, self.head
        if form.is_scores:
            return form.output + 2 * (window * form.heads + head) * self.rows * form.output_pitch, form.output_pitch
        pixel = first_pixel(form, window, self.rows)
        first = form.output + (pixel * form.output_pitch + head * self.columns) * form.output_bytes
        return first, token_pixels(form) * form.output_pitch

    def _first(self, both: bool) -> Product:
        form, left, right = self.form, self.left, self.right
        _, right_old = kept_offsets(form.state_other, form.state_other_span, self.scalars, right.kept)
        output, output_pitch = self._output()
        return self._product(
            dataclasses.replace(form.plan, segment_pixels=1),
            left,
            kept_offsets(form.state_input, form.state_input_span, self.scalars, left.kept),
            rows=self.rows,
            outputs=self.columns,
            difference=self.reference.adds_kept,
            layout=ROWS if form.is_scores else COLUMNS,
            weights=right_old if both else right.first,
            weight_pitch=right.kept_pitch if both else right.pitch,
            accumulator_pixel=self.columns,
            accumulator_channel=1,
            add_accumulators=self.reference.adds_kept,
            keep_accumulators=self.keeps,
            output=output,
            output_pitch=output_pitch,
        )

    def _second(self) -> Product:
        form, left, right = self.form, self.left, self.right
        return self._product(
            form.other_plan,
            right,
            kept_offsets(form.state_other, form.state_other_span, self.scalars, right.kept),
            rows=self.columns,
            outputs=self.rows,
            difference=True,
            layout=ROWS,
            weights=left.first,
            weight_pitch=left.pitch,
            accumulator_pixel=1,
            accumulator_channel=self.columns,
            add_accumulators=True,
            keep_accumulators=True,
            output=self._output()[0],
            output_pitch=0,
            gathered=not form.is_scores,
            finish=False,
        )

    def _product(self, plan: Plan, operand: _Side, kept: tuple[Array, Array], rows: int, **others: Any) -> Product:
        """One product of matrices, whose differences are those of ``operand``: ``rows`` pixels, one below the other."""
        new, old = kept
        return Product(
            plan,
            samples=1,
            height=rows,
            width=1,
            channels=self.inner,
            output_height=rows,
            output_width=1,
            kernel=(1, 1),
            stride=(1, 1),
            pad_top=0,
            input=operand.first,
            input_pitch=operand.pitch,
            kept=new,
            previous=old,
            kept_pitch=operand.kept_pitch,
            keep_input=self.keeps,
            accumulators=self.accumulators,
            output_bytes=self.form.output_bytes,
            **others,
        )


def counts_of_copying(config: HardwareConfig, form: forms.Attention, scalars: np.void) -> Counts:
    """Counters of a product without a second half, which copies its right operand into STATE in a step of its own."""
    tokens, bus, width = form.keys, config.bus_bytes, form.head_depth
    window, token, head = np.indices((form.batch * form.windows, tokens, form.heads))
    pixel = first_pixel(form, window, tokens) + token * token_pixels(form)
    read = beats(form.other + pixel * form.other_pitch + head * width, width, bus).sum(axis=1)  # [windows, heads]
    kept_at = ((window * tokens + token) * form.heads + head) * width
    kept, _ = kept_offsets(form.state_other, form.state_other_span, scalars, kept_at)
    written = beats(kept, width, bus).sum(axis=1)
    return {
        "cycles": int(np.maximum(read, written).sum()),
        "input_beats": int(read.sum()),
        "kept_beats": int(written.sum()),
        "merged_beats": int(merged_beats(kept, width, bus).sum()),
    }
