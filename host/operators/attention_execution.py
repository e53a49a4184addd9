"""How the emulator executes the products of attention."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...hls.contract.references import LinearWork
from ...hls.contract.spatial import TOKENS, with_neighbours
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag
from ..compute import vector
from ..compute.products import attention_product, attention_product_of_one
from ..compute.team import ALONE, Team
from ..counting import digits
from ..counting.digits import Encoded
from .execution import Slice
from .linear import KeptOperand, LinearExecution

LARGE_HEAD = 1 << 16  # logits of a head, from which on it is computed by itself


class AttentionExecution(LinearExecution[forms.Attention]):
    """Common to both: the second operand is K or V, codes [B, tokens, C]."""

    input: Slice
    other: Slice
    output: Slice
    kept_input: KeptOperand
    kept_other: KeptOperand | None

    def set_up(self) -> None:
        form = self.form
        tokens = (form.windows * form.keys, form.depth)
        self.other = self.view(form.other, form.other_pitch, *tokens, True)
        self.kept_input = self.kept(form.state_input, form.state_input_span, self.left_shape)
        if form.has(Flag.CONSTANT_OTHER):
            self.kept_other = None
        else:
            self.kept_other = self.kept(form.state_other, form.state_other_span, tokens)

    @property
    @abstractmethod
    def left_shape(self) -> tuple[int, ...]:
        """How the first operand of a sample is kept."""

    @property
    def operands(self) -> tuple[np.ndarray, ...]:
        return self.input.dense, self.other.dense

    def run(self, scalars: np.void) -> list[Encoded]:
        left_codes, right_codes = self.left_codes(), self.by_window(self.other.dense)
        work = _Heads(self, self.left(left_codes), self.right(right_codes), scalars)
        counts = self.count(scalars, AttentionDigits(self.form, self.means.config, work.left, work.right, work.before))
        if not self.means.differences and self.form.queries * self.form.keys >= LARGE_HEAD:
            backend = self.means.backend
            self.finish_heads(
                work.left, lambda *head: attention_product_of_one(work.left[head], work.right[head], backend), scalars
            )
            self._keep(scalars, left_codes, right_codes)
            return counts
        sums = self.sum(scalars, work)
        self._keep(scalars, left_codes, right_codes)
        self.keep_sums(sums, scalars)
        self.finish(work.left, sums, scalars)
        return counts

    def _keep(self, scalars: np.void, left_codes: np.ndarray, right_codes: np.ndarray) -> None:
        if scalars["keep_state"]:
            kept = self.kept_input.now(scalars)
            kept[...] = left_codes.reshape(kept.shape)
            if self.kept_other is not None:
                self.kept_other.now(scalars)[...] = right_codes

    def finish_heads(self, left: np.ndarray, product: Callable[[int, int], np.ndarray], scalars: np.void) -> None:
        """Requantize ``product`` [rows, columns] of every sample, window and head while it is in the cache."""
        heads = list(np.ndindex(left.shape[:2]))

        def some(first: int, last: int) -> None:
            for sample, instance in heads[first:last]:
                self.finish_one(left[sample, instance], product(sample, instance), scalars, sample, instance)

        self.means.team.share(len(heads), 1, some)

    def by_window(self, codes: np.ndarray) -> np.ndarray:
        """Pixels [B, tokens, C] in the order of their windows."""
        if not self.form.interleaved:
            return codes
        batch, count, channels = codes.shape
        pixels = codes.reshape(batch, count // self.form.windows, self.form.windows, channels)
        return pixels.swapaxes(1, 2).reshape(codes.shape)

    def heads_of(self, codes: np.ndarray) -> np.ndarray:
        """Tokens [B, tokens, C], window by window -> [B, windows * heads, tokens of a window, C / heads]."""
        return split_heads(codes, self.form.heads, self.form.windows)

    @abstractmethod
    def left_codes(self) -> np.ndarray:
        """The first operand, window by window."""

    @abstractmethod
    def left(self, codes: np.ndarray) -> np.ndarray:
        """The first operand, as it is kept -> [B, windows * heads, rows, inner]."""

    @abstractmethod
    def right(self, codes: np.ndarray) -> np.ndarray:
        """The second operand, window by window -> [B, windows * heads, inner, columns]."""

    @abstractmethod
    def finish(self, left: np.ndarray, sums: np.ndarray, scalars: np.void) -> None:
        """Requantize all accumulators [B, windows * heads, rows, columns], whose first operand is ``left``."""

    @abstractmethod
    def finish_one(self, left: np.ndarray, sums: np.ndarray, scalars: np.void, sample: int, instance: int) -> None:
        """Requantize accumulators [rows, columns] of a window and head, whose first operand is ``left``."""


@dataclass(frozen=True)
class _Heads(LinearWork[np.ndarray]):
    """The accumulators of ``left`` [B, windows * heads, rows, inner] times ``right`` [B, windows * heads, inner, columns]."""

    execution: AttentionExecution
    left: np.ndarray
    right: np.ndarray
    scalars: np.void

    def before(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The operands of the step before; None for a second one that never changes."""
        execution = self.execution
        left = execution.left(execution.kept_input.before(self.scalars))
        if execution.kept_other is None:
            return left, None
        return left, execution.right(execution.kept_other.before(self.scalars))

    def _product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return attention_product(left, right, self.execution.means.backend, self.execution.means.team)

    def from_zero(self) -> np.ndarray:
        return self._product(self.left, self.right)

    def from_previous_step(self) -> np.ndarray:
        """Two sub-operations, dA . B_prev + A . dB, or one where B never changes."""
        left_before, right_before = self.before()
        kept, difference = self.execution.accumulators, self.left.astype(np.int16) - left_before
        if right_before is None:
            return kept + self._product(difference, self.right)
        sums = kept + self._product(difference, right_before)
        return sums + self._product(self.left, self.right.astype(np.int16) - right_before)

    def from_neighbour(self) -> np.ndarray:
        rows = np.diff(self.left.astype(np.int16), axis=2, prepend=np.int16(0))
        return self._product(rows, self.right).cumsum(axis=2, dtype=np.int32)


@dataclass(frozen=True)
class AttentionDigits(LinearWork[list[Encoded]]):
    """The digits of rows of ``left`` [..., rows, inner], which meet columns of ``right`` [..., inner, columns] as weights; with
    differences also the reverse."""

    form: forms.Attention
    config: HardwareConfig
    left: np.ndarray
    right: np.ndarray
    before: Callable[[], tuple[np.ndarray, np.ndarray | None]]

    def from_zero(self) -> list[Encoded]:
        return [self._rows(self.left, None, self.form.chunk_channels)]

    def from_previous_step(self) -> list[Encoded]:
        left_before, right_before = self.before()
        counted = [self._rows(self.left, left_before, self.form.chunk_channels)]
        if right_before is not None:
            columns, columns_before = self.right.swapaxes(-1, -2), right_before.swapaxes(-1, -2)
            counted.append(self._rows(columns, columns_before, self.form.other_chunk_channels))
        return counted

    def from_neighbour(self) -> list[Encoded]:
        """Each token of a block after the one before it; nothing before a block's first."""
        tokens = self.left.reshape(-1, self.left.shape[-2], 1, self.left.shape[-1])
        before = with_neighbours(tokens, TOKENS, self.form.block_rows)[1]
        return [self._rows(self.left, before, self.form.chunk_channels)]

    def _rows(self, rows: np.ndarray, previous: np.ndarray | None, chunk: int) -> Encoded:
        flat = rows.reshape(-1, *rows.shape[-2:])
        return digits.count_rows(
            flat, None if previous is None else previous.reshape(flat.shape), self.config.lanes, chunk
        )


class ScoresExecution(AttentionExecution):
    """SCORES: Q, K codes [B, tokens, C] -> logits [B, windows * heads * queries, keys]."""

    def set_up(self) -> None:
        super().set_up()
        form = self.form
        self.input = self.view(form.input, form.input_pitch, form.input_pixels, form.depth, True)
        rows = form.instances * form.queries
        self.output = self.view(form.output, form.output_pitch, rows, form.keys, form.has(Flag.CODE_OUTPUT))
        self.sums_shape = (form.instances, form.queries, form.keys)

    @property
    def left_shape(self) -> tuple[int, ...]:
        return self.form.windows * self.form.queries, self.form.depth

    def left_codes(self) -> np.ndarray:
        return self.by_window(self.input.dense)

    def left(self, codes: np.ndarray) -> np.ndarray:
        return self.heads_of(codes)

    def right(self, codes: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.heads_of(codes).swapaxes(2, 3))

    def finish(self, left: np.ndarray, sums: np.ndarray, scalars: np.void) -> None:
        rows = sums.reshape(len(sums), -1, self.form.keys)
        self._requantize(rows, scalars, self.output.buffer, self.means.team)

    def finish_one(self, left: np.ndarray, sums: np.ndarray, scalars: np.void, sample: int, instance: int) -> None:
        rows = slice(instance * self.form.queries, (instance + 1) * self.form.queries)
        self._requantize(sums[None], scalars, self.output.buffer[sample, rows, : self.form.keys][None], ALONE)

    def _requantize(self, rows: np.ndarray, scalars: np.void, out: np.ndarray, team: Team) -> None:
        bias = np.zeros((1, self.form.keys), np.int32)
        multiplier = np.array([[scalars["multiplier0"]]], np.int32)
        vector.requantize_rows(rows, bias, multiplier, int(scalars["shift"]), out, team=team)


class MixExecution(AttentionExecution):
    """MIX: P codes [B, windows * heads * queries, keys], V codes [B, tokens, C] -> [B, queries of all windows, C]."""

    def set_up(self) -> None:
        super().set_up()
        form = self.form
        self.input = self.view(form.input, form.input_pitch, form.input_pixels, form.keys, True)
        pixels = form.windows * form.queries
        self.output = self.view(form.output, form.output_pitch, pixels, form.depth, form.has(Flag.CODE_OUTPUT))
        self.sums_shape = (form.instances, form.queries, form.head_depth)

    @property
    def left_shape(self) -> tuple[int, ...]:
        return self.form.instances, self.form.queries, self.form.keys

    def left_codes(self) -> np.ndarray:
        return self.input.dense

    def left(self, codes: np.ndarray) -> np.ndarray:
        return codes.reshape(-1, *self.left_shape)

    def right(self, codes: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.heads_of(codes))

    def finish(self, left: np.ndarray, sums: np.ndarray, scalars: np.void) -> None:
        """Each row is divided by the sum of its codes."""
        vector.requantize_mix(
            sums,
            left,
            multiplier=int(scalars["multiplier0"]),
            shift=int(scalars["shift"]),
            heads=self.form.heads,
            windows=self.form.windows,
            interleaved=self.form.interleaved,
            out=self.output.buffer,
            team=self.means.team,
        )

    def finish_one(self, left: np.ndarray, sums: np.ndarray, scalars: np.void, sample: int, instance: int) -> None:
        vector.requantize_mix(
            sums[None, None],
            left[None, None],
            multiplier=int(scalars["multiplier0"]),
            shift=int(scalars["shift"]),
            heads=1,
            windows=1,
            interleaved=False,
            out=self._result_of(sample, instance)[None],
        )

    def _result_of(self, sample: int, instance: int) -> np.ndarray:
        """Where the results of a window and head go, a view [rows, columns]."""
        form, (window, head) = self.form, divmod(instance, self.form.heads)
        columns = slice(head * form.head_depth, (head + 1) * form.head_depth)
        tokens = self.output.buffer[sample, : form.windows * form.queries, columns]
        if form.interleaved:
            return tokens[window :: form.windows]
        return tokens[window * form.queries : (window + 1) * form.queries]


def split_heads(codes: np.ndarray, heads: int, windows: int = 1) -> np.ndarray:
    """[B, tokens, C], window by window -> [B, windows * heads, tokens of a window, C / heads]."""
    batch, tokens, channels = codes.shape
    split = codes.reshape(batch, windows, tokens // windows, heads, channels // heads).transpose(0, 1, 3, 2, 4)
    return split.reshape(batch, windows * heads, tokens // windows, channels // heads)
