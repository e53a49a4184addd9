"""How the emulator executes one descriptor. One class per kind of operation.

A descriptor is decoded once into views of device memory; ``run`` reads the step's scalars and vectors from the
parameter block, computes, and returns what it counted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.contract.references import Reference
from ...hls.contract.spatial import TOKENS, with_neighbours
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode, Region
from ...hls.machine.packing import packed_size, unpack_weights
from ..compute import vector
from ..compute.products import (
    CompiledConvolution,
    ConvolutionProduct,
    attention_product,
    attention_product_of_one,
    convolution_product,
)
from ..compute.team import Team
from ..costs import counting
from ..costs.counting import Encoded
from ..costs.cycles import convolution_chains
from .memory import Memory

LARGE_HEAD = 1 << 16  # logits of a head, from which on it is computed by itself


@dataclass(frozen=True)
class Slice:
    """A tensor inside a buffer: the first ``channels`` of ``buffer`` [B, P, pitch]."""

    buffer: np.ndarray
    channels: int

    @property
    def dense(self) -> np.ndarray:
        """[B, P, C], a copy where the tensor is part of a wider buffer."""
        return np.ascontiguousarray(self.buffer[:, :, : self.channels])


@dataclass(frozen=True)
class Means:
    """What a program's operations compute with: the accelerator's ``config``, whether they are ``counting`` and really execute
    ``differences``, the ``backend`` of products, and the threads that share a layer."""

    config: HardwareConfig
    counting: bool
    differences: bool
    backend: str
    team: Team


class Execution:
    """Base: decoded fields (``d``) and views of the operands."""

    def __init__(self, descriptor: np.void, memory: Memory, means: Means):
        self.d: dict[str, int] = {name: int(descriptor[name]) for name in descriptor.dtype.names or ()}
        self.flags = Flag(self.d["flags"])
        self.memory, self.means = memory, means
        self.input = self.operand("input", ("height", "width", "channels"), bool(self.flags & Flag.CODE_INPUT))
        self.output = self.operand(
            "output", ("output_height", "output_width", "output_channels"), bool(self.flags & Flag.CODE_OUTPUT)
        )
        self.set_up()

    @property
    def operands(self) -> tuple[np.ndarray, ...]:
        """Codes [B, pixels, C] of a linear operation's operands."""
        return (self.input.dense,)

    def set_up(self) -> None:
        """Decode what this kind of operation needs besides its first operand and its result."""

    def run(self, scalars: np.void) -> list[Encoded]:
        raise NotImplementedError

    def operand(self, name: str, shape: tuple[str, str, str], is_code: bool) -> Slice:
        height, width, channels = (self.d[field] for field in shape)
        return self.slice_of(name, height * width, channels, is_code)

    def slice_of(self, name: str, pixels: int, channels: int, is_code: bool) -> Slice:
        dtype = np.int8 if is_code else np.int16
        pitch = self.d[f"{name}_pitch"]
        shape = (self.d["batch"], pixels, pitch)
        buffer = self.memory.view(Region.ACTIVATIONS, self.d[name], dtype, shape, unused=pitch - channels)
        return Slice(buffer, channels)

    def quantizer(self, scalars: np.void) -> vector.Quantizer:
        """The fused quantizer with the step's scale."""
        multiplier, shift = int(scalars["quantize_multiplier"]), int(scalars["quantize_shift"])
        return vector.Quantizer(multiplier, shift, bool(self.flags & Flag.FINE))

    @property
    def activation(self) -> vector.Activation | None:
        """The fused activation, if there is one."""
        for flag, kind in ((Flag.SILU, "silu"), (Flag.GELU, "gelu"), (Flag.RELU, "relu")):
            if self.flags & flag:
                return vector.Activation(kind, self.d["activation_bits"])
        return None

    def vector(self, field: str, dtype: Any, count: int, conditional: bool) -> np.ndarray:
        """[1 or B, count] from the parameter block."""
        if not conditional:
            return self.memory.view(Region.PARAMETERS, self.d[field], dtype, (1, count))
        stride, first = self.d["sample_stride"], self.d[field]
        width = count * np.dtype(dtype).itemsize
        raw = self.memory.regions[Region.PARAMETERS][first : first + (self.d["batch"] - 1) * stride + width]
        rows = np.lib.stride_tricks.as_strided(raw, (self.d["batch"], width), (stride, 1))
        return np.ascontiguousarray(rows).view(dtype)


@dataclass(frozen=True)
class KeptOperand:
    """An operand's codes in STATE, of even and of odd steps; ``view(parity)`` is not called where nothing is kept."""

    view: Callable[[int], np.ndarray]

    def now(self, scalars: np.void) -> np.ndarray:
        """Where this step's operand is kept."""
        return self.view(int(scalars["parity"]))

    def before(self, scalars: np.void) -> np.ndarray:
        """The operand of the step before."""
        return self.view(1 - int(scalars["parity"]))


class _Linear(Execution):
    """Common to convolutions and attention products: references, state, counting."""

    sums_shape: tuple[int, ...]  # of a sample's accumulators

    def state(self, offset: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        return self.memory.view(Region.STATE, offset, dtype, (self.d["batch"], *shape))

    def kept(self, name: str, shape: tuple[int, ...]) -> KeptOperand:
        """The two places of an operand in STATE."""
        return KeptOperand(lambda parity: self.state(self.d[name] + parity * self.d[f"{name}_span"], np.int8, shape))

    @property
    def accumulators(self) -> np.ndarray:
        """Those kept in STATE."""
        return self.state(self.d["state_accumulators"], np.int32, self.sums_shape)

    def requantize(self, accumulators: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, scalars: np.void) -> None:
        relu = bool(self.flags & Flag.RELU)
        vector.requantize_rows(
            accumulators, bias, multiplier, int(scalars["shift"]), self.output.buffer, relu, self.means.team
        )


class ConvolutionExecution(_Linear):
    """CONVOLUTION: codes [B, H, W, I] -> [B, H' * W', O]."""

    def set_up(self) -> None:
        d = self.d
        self.image = (d["height"], d["width"], d["channels"])
        self.kernel = (d["kernel_height"], d["kernel_width"])
        self.stride = (d["stride_height"], d["stride_width"])
        self.padding = (d["pad_top"], d["pad_bottom"], d["pad_left"], d["pad_right"])
        shape = (d["output_channels"], *self.kernel, d["channels"])
        packed = self.memory.view(Region.WEIGHTS, d["weights"], np.int8, (packed_size(self.means.config, shape),))
        self.weight = unpack_weights(self.means.config, packed, shape, d["chunk_channels"])
        self.product = self._product_of(self.padding)
        self.chains = convolution_chains(d)
        self.kept_input = self.kept("state_input", self.image)
        pixels = d["output_height"] * d["output_width"]
        self.sums_shape = (pixels, d["output_channels"])

    def run(self, scalars: np.void) -> list[Encoded]:
        codes = self.input.dense.reshape(-1, *self.image)
        temporal = scalars["reference"] == Reference.PREVIOUS_STEP
        spatial = scalars["reference"] == Reference.NEIGHBOUR
        previous = self.kept_input.before(scalars) if temporal else None
        counts = self._count(codes, previous, spatial) if self.means.counting else []
        channels = self.d["output_channels"]
        bias = self.vector("vector0", np.int32, channels, bool(self.flags & Flag.CONDITIONAL))
        multiplier = self.vector("vector1", np.int32, channels, bool(self.flags & Flag.GATED))
        if not self.means.differences and isinstance(self.product, CompiledConvolution):
            self._keep(codes, scalars)
            limits = vector.limits_of(self.output.buffer.dtype, bool(self.flags & Flag.RELU))
            self.product.to_codes(codes, bias, multiplier, int(scalars["shift"]), limits, self.output.buffer)
            return counts
        if previous is not None and self.means.differences:
            difference = codes.astype(np.int16) - previous
            accumulators = self.accumulators + self.product.of_difference(difference)
        elif spatial and self.means.differences:
            accumulators = self._in_chains(codes)
        else:
            accumulators = self.product(codes)
        self._keep(codes, scalars)
        if scalars["keep_state"] and self.means.differences:
            self.accumulators[...] = accumulators
        self.requantize(accumulators, bias, multiplier, scalars)
        return counts

    def _keep(self, codes: np.ndarray, scalars: np.void) -> None:
        if scalars["keep_state"]:
            self.kept_input.now(scalars)[...] = codes

    def _product_of(self, padding: tuple[int, int, int, int]) -> ConvolutionProduct:
        return convolution_product(self.weight, self.stride, padding, self.means.backend, self.means.team)

    @functools.cached_property
    def chain_product(self) -> ConvolutionProduct:
        """Of differences to neighbours, with the windows left of the first one."""
        top, bottom, left, right = self.padding
        lead = self.chains.lead_columns * self.stride[1]
        return self._product_of((top, bottom, left + lead, right))

    def _in_chains(self, codes: np.ndarray) -> np.ndarray:
        """Every output pixel from the one before it in its row: a block's chains, and those of rows, give the same sums."""
        wide, before = with_neighbours(codes, dataclasses.replace(self.chains, whole_block=False), 1)
        sums = self.chain_product.of_difference(wide.astype(np.int16) - before)
        rows = sums.reshape(len(codes), self.d["output_height"], -1, self.d["output_channels"])
        walked = rows[:, :, : self.chains.lead_columns + self.d["output_width"]].cumsum(axis=2, dtype=np.int32)
        return np.ascontiguousarray(walked[:, :, self.chains.lead_columns :]).reshape(len(codes), *self.sums_shape)

    def _count(self, codes: np.ndarray, previous: np.ndarray | None, spatial: bool) -> list[Encoded]:
        d, lanes, chunk = self.d, self.means.config.lanes, self.d["chunk_channels"]
        shape = (self.kernel, self.stride, self.padding)
        if spatial:
            return [counting.count_chains(codes, self.chains, d["block_rows"], *shape, d["output_width"], lanes, chunk)]
        return [counting.count_convolution(codes, previous, *shape, lanes, chunk)]


class ScoresExecution(_Linear):
    """SCORES: Q, K codes [B, tokens, C] -> logits [B, windows * heads, queries, keys]."""

    def set_up(self) -> None:
        d = self.d
        self.windows, self.heads, self.queries, self.keys = (
            d["windows"],
            d["groups"],
            d["output_width"],
            d["output_channels"],
        )
        self.other = self.slice_of("other", self.windows * self.keys, d["channels"], True)
        self.kept_input = self.kept("state_input", (self.windows * self.queries, d["channels"]))
        self.kept_other = self._kept_other((self.windows * self.keys, d["channels"]))
        self.sums_shape = (self.windows * self.heads, self.queries, self.keys)

    @property
    def operands(self) -> tuple[np.ndarray, ...]:
        return self.input.dense, self.other.dense

    def run(self, scalars: np.void) -> list[Encoded]:
        left_codes, right_codes = self._left_codes(), self._by_window(self.other.dense)
        left, right = self._left(left_codes), self._right(right_codes)
        temporal = scalars["reference"] == Reference.PREVIOUS_STEP
        spatial = scalars["reference"] == Reference.NEIGHBOUR
        left_before = self._left(self.kept_input.before(scalars)) if temporal else None
        right_before = self._right(self.kept_other.before(scalars)) if temporal and self.kept_other else None
        counts = self._count(left, right, left_before, right_before, spatial) if self.means.counting else []
        if not self.means.differences and self.queries * self.keys >= LARGE_HEAD:
            backend = self.means.backend
            self._finish_heads(left, lambda *head: attention_product_of_one(left[head], right[head], backend), scalars)
            self._keep(scalars, left_codes, right_codes)
            return counts
        if left_before is not None and self.means.differences:
            accumulators = self.accumulators + self._difference_product(left, right, left_before, right_before)
        elif spatial and self.means.differences:
            rows = np.diff(left.astype(np.int16), axis=2, prepend=np.int16(0))
            accumulators = attention_product(rows, right, self.means.backend, self.means.team).cumsum(
                axis=2, dtype=np.int32
            )
        else:
            accumulators = attention_product(left, right, self.means.backend, self.means.team)
        self._keep(scalars, left_codes, right_codes)
        if scalars["keep_state"] and self.means.differences:
            self.accumulators[...] = accumulators
        self._finish(left, accumulators, scalars)
        return counts

    def _keep(self, scalars: np.void, left_codes: np.ndarray, right_codes: np.ndarray) -> None:
        if scalars["keep_state"]:
            kept = self.kept_input.now(scalars)
            kept[...] = left_codes.reshape(kept.shape)
            if self.kept_other is not None:
                self.kept_other.now(scalars)[...] = right_codes

    def _finish_heads(self, left: np.ndarray, product: Callable[[int, int], np.ndarray], scalars: np.void) -> None:
        """``product`` [rows, columns] of every sample, window and head, each requantized while it is in the cache."""
        heads = list(np.ndindex(left.shape[:2]))

        def some(first: int, last: int) -> None:
            for sample, instance in heads[first:last]:
                self._finish_one(sample, instance, left[sample, instance], product(sample, instance), scalars)

        self.means.team.share(len(heads), 1, some)

    def _finish_one(self, sample: int, instance: int, left: np.ndarray, product: np.ndarray, scalars: np.void) -> None:
        """Requantize accumulators [rows, columns] of a window and head, whose first operand is ``left``."""
        bias = np.zeros((1, product.shape[1]), np.int32)
        multiplier = np.array([[scalars["multiplier0"]]], np.int32)
        target = self._result_of(sample, instance)[None]
        vector.requantize_rows(product[None], bias, multiplier, int(scalars["shift"]), target)

    def _result_of(self, sample: int, instance: int) -> np.ndarray:
        """Where the results of a window and head go, a view [rows, columns]."""
        rows = slice(instance * self.queries, (instance + 1) * self.queries)
        return self.output.buffer[sample, rows, : self.keys]

    def _left_codes(self) -> np.ndarray:
        """The first operand, window by window."""
        return self._by_window(self.input.dense)

    def _by_window(self, codes: np.ndarray) -> np.ndarray:
        """Pixels [B, tokens, C] in the order of their windows."""
        if not self.flags & Flag.INTERLEAVED:
            return codes
        return _swapped(codes, self.windows)

    def _kept_other(self, shape: tuple[int, ...]) -> KeptOperand | None:
        """Of the second operand, unless it never changes."""
        return None if self.flags & Flag.CONSTANT_OTHER else self.kept("state_other", shape)

    def _difference_product(
        self, left: np.ndarray, right: np.ndarray, left_before: np.ndarray, right_before: np.ndarray | None
    ) -> np.ndarray:
        """Two sub-operations, dA . B_prev + A . dB, or one where B never changes."""
        backend, team = self.means.backend, self.means.team
        difference = left.astype(np.int16) - left_before
        if right_before is None:
            return attention_product(difference, right, backend, team)
        first = attention_product(difference, right_before, backend, team)
        return first + attention_product(left, right.astype(np.int16) - right_before, backend, team)

    def _finish(self, left: np.ndarray, accumulators: np.ndarray, scalars: np.void) -> None:
        """Requantize all accumulators [B, windows * heads, rows, columns], whose first operand is ``left``."""
        rows = accumulators.reshape(len(accumulators), -1, self.keys)
        bias = np.zeros((1, self.keys), np.int32)
        self.requantize(rows, bias, np.array([[scalars["multiplier0"]]], np.int32), scalars)

    def _left(self, codes: np.ndarray) -> np.ndarray:
        """[B, tokens, C], window by window -> [B, windows * heads, tokens of a window, depth]."""
        return split_heads(codes, self.heads, self.windows)

    def _right(self, codes: np.ndarray) -> np.ndarray:
        """[B, tokens, C], window by window -> [B, windows * heads, depth, tokens of a window]."""
        return np.ascontiguousarray(split_heads(codes, self.heads, self.windows).swapaxes(2, 3))

    def _count(
        self, left: np.ndarray, right: np.ndarray, left_before: np.ndarray | None, right_before: np.ndarray | None,
        spatial: bool,
    ) -> list[Encoded]:  # fmt: skip
        """Rows of the left operand meet the columns of the right one as weights; with differences also the reverse."""
        referred = self._tokens_before(left) if spatial else left_before
        counted = [self._count_rows(left, referred, self.d["chunk_channels"])]
        if right_before is not None:
            columns, columns_before = right.swapaxes(2, 3), right_before.swapaxes(2, 3)
            counted.append(self._count_rows(columns, columns_before, self.d["other_chunk_channels"]))
        return counted

    def _tokens_before(self, rows: np.ndarray) -> np.ndarray:
        """Of each token of a block, [B, windows * heads, tokens, C], the one before it; nothing before a block's first."""
        tokens = rows.reshape(-1, rows.shape[2], 1, rows.shape[3])
        return with_neighbours(tokens, TOKENS, self.d["block_rows"])[1].reshape(rows.shape)

    def _count_rows(self, rows: np.ndarray, previous: np.ndarray | None, chunk: int) -> Encoded:
        flat = rows.reshape(-1, *rows.shape[2:])
        return counting.count_rows(
            flat, None if previous is None else previous.reshape(flat.shape), self.means.config.lanes, chunk
        )


class MixExecution(ScoresExecution):
    """MIX: P codes [B, windows * heads, queries, keys], V codes [B, tokens, C] -> [B, queries of all windows, C]."""

    def set_up(self) -> None:
        d = self.d
        self.windows, self.heads, self.queries, self.keys = d["windows"], d["groups"], d["width"], d["channels"]
        self.depth = d["output_channels"]
        self.other = self.slice_of("other", self.windows * self.keys, self.depth, True)
        self.kept_input = self.kept("state_input", (self.windows * self.heads, self.queries, self.keys))
        self.kept_other = self._kept_other((self.windows * self.keys, self.depth))
        self.sums_shape = (self.windows * self.heads, self.queries, self.depth // self.heads)

    def _left_codes(self) -> np.ndarray:
        return self.input.dense

    def _left(self, codes: np.ndarray) -> np.ndarray:
        return codes.reshape(-1, self.windows * self.heads, self.queries, self.keys)

    def _right(self, codes: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(split_heads(codes, self.heads, self.windows))

    def _result_of(self, sample: int, instance: int) -> np.ndarray:
        window, head = divmod(instance, self.heads)
        depth = self.depth // self.heads
        tokens = self.output.buffer[sample, : self.windows * self.queries, head * depth : (head + 1) * depth]
        if self.flags & Flag.INTERLEAVED:
            return tokens[window :: self.windows]
        return tokens[window * self.queries : (window + 1) * self.queries]

    def _finish(self, left: np.ndarray, accumulators: np.ndarray, scalars: np.void) -> None:
        """Each row divided by the sum of its codes."""
        vector.requantize_mix(
            accumulators,
            left,
            int(scalars["multiplier0"]),
            int(scalars["shift"]),
            self.heads,
            self.windows,
            bool(self.flags & Flag.INTERLEAVED),
            self.output.buffer,
            self.means.team,
        )

    def _finish_one(self, sample: int, instance: int, left: np.ndarray, product: np.ndarray, scalars: np.void) -> None:
        multiplier, shift = int(scalars["multiplier0"]), int(scalars["shift"])
        target = self._result_of(sample, instance)[None]
        vector.requantize_mix(product[None, None], left[None, None], multiplier, shift, 1, 1, False, target)


class NormExecution(Execution):
    """GROUP_NORM or LAYER_NORM, with fused activation and quantizer."""

    def run(self, scalars: np.void) -> list[Encoded]:
        conditional = bool(self.flags & Flag.CONDITIONAL)
        channels, groups = self.d["channels"], self.d["groups"]
        gain = self.vector("vector0", np.int32, channels, conditional)
        offset = self.vector("vector1", np.int64, channels, conditional)
        source, target = self.input.buffer, self.output.buffer
        if self.d["opcode"] == Opcode.LAYER_NORM:
            samples, pixels, _ = source.shape
            source, target = (buffer.reshape(samples * pixels, 1, -1) for buffer in (source, target))
            groups = 1
            if conditional:
                gain, offset = gain.repeat(pixels, axis=0), offset.repeat(pixels, axis=0)
        vector.group_norm(
            source,
            channels,
            groups,
            gain,
            offset,
            int(scalars["gain_bits"]),
            int(scalars["epsilon"]),
            self.activation,
            self.quantizer(scalars) if self.flags & Flag.QUANTIZE else None,
            target,
            self.means.team,
        )
        return []


class PairExecution(Execution):
    """ADD or MULTIPLY of two values, with a fused quantizer."""

    def set_up(self) -> None:
        self.other = self.slice_of("other", self.d["height"] * self.d["width"], self.d["channels"], False)

    def run(self, scalars: np.void) -> list[Encoded]:
        channels, quantizes = self.d["channels"], bool(self.flags & Flag.QUANTIZE)
        target = np.empty((*self.input.buffer.shape[:2], channels), np.int16) if quantizes else self.output.buffer
        operands, shift = (self.input.buffer, self.other.buffer), int(scalars["shift"])
        if self.d["opcode"] == Opcode.MULTIPLY:
            vector.multiply(*operands, channels, int(scalars["multiplier1"]), shift, target, self.means.team)
        else:
            multipliers = (int(scalars["multiplier0"]), int(scalars["multiplier1"]))
            vector.add(*operands, channels, multipliers, shift, target, self.means.team)
        if quantizes:
            vector.quantize(target, channels, self.quantizer(scalars), self.output.buffer, self.means.team)
        return []


class ActivateExecution(Execution):
    """ACTIVATE: an activation and/or quantizer on a value."""

    def run(self, scalars: np.void) -> list[Encoded]:
        source, channels = self.input.buffer, self.d["channels"]
        if self.activation is not None:
            quantizes = bool(self.flags & Flag.QUANTIZE)
            target = np.empty((*source.shape[:2], channels), np.int16) if quantizes else self.output.buffer
            vector.activate(source, channels, self.activation, target, self.means.team)
            source = target
        if self.flags & Flag.QUANTIZE:
            vector.quantize(source, channels, self.quantizer(scalars), self.output.buffer, self.means.team)
        return []


class SoftmaxExecution(Execution):
    """SOFTMAX of logits rows."""

    def run(self, scalars: np.void) -> list[Encoded]:
        logits, target = self.input.dense, self.output.buffer
        whole = target.shape == logits.shape
        codes = target if whole else np.empty(logits.shape, np.int8)
        multiplier, shift = int(scalars["multiplier0"]), int(scalars["shift"])
        vector.softmax(logits, multiplier, shift, codes, self.means.team)
        if not whole:  # a part of a wider buffer
            target[:, :, : logits.shape[2]] = codes
        return []


class AveragePoolExecution(Execution):
    """AVERAGE_POOL: windowed sums, requantized."""

    def run(self, scalars: np.void) -> list[Encoded]:
        d, size = self.d, self.d["stride_height"]
        rows, columns = d["output_height"], d["output_width"]
        image = self.input.dense.reshape(-1, d["height"], d["width"], d["channels"])[:, : rows * size, : columns * size]
        windows = image.reshape(-1, rows, size, columns, size, d["channels"])
        total = windows.sum(axis=(2, 4), dtype=np.int32).reshape(len(image), -1, d["channels"])
        bias = np.zeros((1, d["channels"]), np.int32)
        multiplier = np.array([[scalars["multiplier0"]]], np.int32)
        vector.requantize_rows(total, bias, multiplier, int(scalars["shift"]), self.output.buffer, team=self.means.team)
        return []


class UpsampleExecution(Execution):
    """UPSAMPLE: every pixel repeated ``factor`` x ``factor`` times, as far as the result goes."""

    def run(self, scalars: np.void) -> list[Encoded]:
        d, factor = self.d, self.d["stride_height"]
        image = self.input.dense.reshape(-1, d["height"], d["width"], d["channels"])
        rows, columns = np.arange(d["output_height"]) // factor, np.arange(d["output_width"]) // factor
        self.output.buffer[:, :, : d["channels"]] = image[:, rows[:, None], columns].reshape(
            len(image), -1, d["channels"]
        )
        return []


EXECUTIONS: dict[int, type[Execution]] = {
    Opcode.CONVOLUTION: ConvolutionExecution,
    Opcode.SCORES: ScoresExecution,
    Opcode.MIX: MixExecution,
    Opcode.GROUP_NORM: NormExecution,
    Opcode.LAYER_NORM: NormExecution,
    Opcode.ADD: PairExecution,
    Opcode.MULTIPLY: PairExecution,
    Opcode.ACTIVATE: ActivateExecution,
    Opcode.SOFTMAX: SoftmaxExecution,
    Opcode.AVERAGE_POOL: AveragePoolExecution,
    Opcode.UPSAMPLE: UpsampleExecution,
}


def split_heads(codes: np.ndarray, heads: int, windows: int = 1) -> np.ndarray:
    """[B, tokens, C], window by window -> [B, windows * heads, tokens of a window, C / heads]."""
    batch, tokens, channels = codes.shape
    split = codes.reshape(batch, windows, tokens // windows, heads, channels // heads).transpose(0, 1, 3, 2, 4)
    return split.reshape(batch, windows * heads, tokens // windows, channels // heads)


def _swapped(pixels: np.ndarray, windows: int) -> np.ndarray:
    """Pixels [B, tokens * windows, C] of interleaved windows, window by window."""
    batch, count, channels = pixels.shape
    return pixels.reshape(batch, count // windows, windows, channels).swapaxes(1, 2).reshape(pixels.shape)
