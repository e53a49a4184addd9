"""Convolutions and fully connected layers on the host."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from ...hls.contract.arithmetic import requantize
from ...hls.contract.graph import Graph
from ...hls.contract.operators import Convolution
from ...hls.contract.references import LinearWork, kind_of
from ...hls.contract.spatial import Chains, chains_of, with_neighbours
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode, Region
from ...hls.machine.packing import packed_size, unpack_weights
from ...hls.machine.plan import ProductShape
from ..compute import vector
from ..compute.products import CompiledConvolution, IntegerConvolution, integer_convolution
from ..counting import digits
from ..counting.digits import Encoded
from ..counting.product_cycles import PACKED, Product
from .execution import ImageExecution
from .linear import KeptOperand, LinearExecution, LinearOperator, Operands, kept_offsets
from .operator import SampleView, Table, Vector
from .places import Places


class ConvolutionExecution(ImageExecution[forms.Convolution], LinearExecution[forms.Convolution]):
    """CONVOLUTION: codes [B, H, W, I] -> [B, H' * W', O]."""

    kept_input: KeptOperand

    def set_up(self) -> None:
        super().set_up()
        form, config = self.form, self.means.config
        self.image = (form.height, form.width, form.channels)
        shape = (form.output_channels, *form.kernel, form.channels)
        size = packed_size(config, shape, form.weight_bits)
        packed = self.memory.view(Region.WEIGHTS, form.weights, np.uint8, (size,))
        self.weight = unpack_weights(config, packed, shape, form.chunk_channels, form.weight_bits)
        self.product = self.product_of(form.padding)
        self.kept_input = self.kept(form.state_input, form.state_input_span, self.image)
        self.sums_shape = (form.output_pixels, form.output_channels)

    def product_of(self, padding: tuple[int, int, int, int]) -> IntegerConvolution:
        return integer_convolution(self.weight, self.form.stride, padding, self.means.backend, self.means.team)

    @functools.cached_property
    def chain_product(self) -> IntegerConvolution:
        """The product of differences to neighbours, with the windows left of the first one."""
        top, bottom, left, right = self.form.padding
        lead = self.form.chains.lead_columns * self.form.stride[1]
        return self.product_of((top, bottom, left + lead, right))

    def run(self, scalars: np.void) -> list[Encoded]:
        form, codes = self.form, self.input.dense.reshape(-1, *self.image)
        kept = functools.partial(self.kept_input.before, scalars)
        counts = self.count(scalars, _Digits(form, self.means.config, codes, kept))
        bias = self.vector(form.bias, np.int32, form.output_channels, form.has(Flag.CONDITIONAL))
        multiplier = self.vector(form.multiplier, np.int32, form.output_channels, form.has(Flag.GATED))
        shift, relu = int(scalars["shift"]), form.has(Flag.RELU)
        if not self.means.differences and isinstance(self.product, CompiledConvolution):
            self._keep(codes, scalars)
            limits = vector.limits_of(self.output.buffer.dtype, relu)
            self.product.to_codes(codes, bias, multiplier, shift, limits, self.output.buffer)
            return counts
        sums = self.sum(scalars, _Sums(self, codes, scalars))
        self._keep(codes, scalars)
        self.keep_sums(sums, scalars)
        vector.requantize_rows(sums, bias, multiplier, shift, self.output.buffer, relu, self.means.team)
        return counts

    def _keep(self, codes: np.ndarray, scalars: np.void) -> None:
        if scalars["keep_state"]:
            self.kept_input.now(scalars)[...] = codes


@dataclass(frozen=True)
class _Sums(LinearWork[np.ndarray]):
    """The accumulators of ``codes`` int8 [B, H, W, I]: [B, H' * W', O]."""

    execution: ConvolutionExecution
    codes: np.ndarray
    scalars: np.void

    def from_zero(self) -> np.ndarray:
        return self.execution.product(self.codes)

    def from_previous_step(self) -> np.ndarray:
        difference = self.codes.astype(np.int16) - self.execution.kept_input.before(self.scalars)
        return self.execution.accumulators + self.execution.product.of_difference(difference)

    def from_neighbour(self) -> np.ndarray:
        """Every output pixel from the one before it in its row: a block's chains, and those of rows, give the same sums."""
        form, batch, chains = self.execution.form, len(self.codes), self.execution.form.chains
        wide, before = with_neighbours(self.codes, dataclasses.replace(chains, whole_block=False), 1)
        sums = self.execution.chain_product.of_difference(wide.astype(np.int16) - before)
        rows = sums.reshape(batch, form.output_height, -1, form.output_channels)
        walked = rows[:, :, : chains.lead_columns + form.output_width].cumsum(axis=2, dtype=np.int32)
        return np.ascontiguousarray(walked[:, :, chains.lead_columns :]).reshape(batch, *self.execution.sums_shape)


@dataclass(frozen=True)
class _Digits(LinearWork[list[Encoded]]):
    """The digits of ``codes`` int8 [B, H, W, I]; ``before()``: those of the step before."""

    form: forms.Convolution
    config: HardwareConfig
    codes: np.ndarray
    before: functools.partial[np.ndarray]

    def from_zero(self) -> list[Encoded]:
        return [self._counted(None)]

    def from_previous_step(self) -> list[Encoded]:
        return [self._counted(self.before())]

    def _counted(self, previous: np.ndarray | None) -> Encoded:
        form = self.form
        shape = (form.kernel, form.stride, form.padding)
        return digits.count_convolution(self.codes, previous, *shape, self.config.lanes, form.chunk_channels)

    def from_neighbour(self) -> list[Encoded]:
        form = self.form
        counted = digits.count_chains(
            self.codes,
            form.chains,
            form.block_rows,
            form.kernel,
            form.stride,
            form.padding,
            columns=form.output_width,
            lanes=self.config.lanes,
            chunk=form.chunk_channels,
        )
        return [counted]


class ConvolutionOperator(LinearOperator[Convolution, forms.Convolution]):
    """A convolution, or a fully connected layer."""

    opcodes = (Opcode.CONVOLUTION,)
    form = forms.Convolution
    execution = ConvolutionExecution
    shares_operand = True

    def opcode(self, node: Convolution) -> Opcode:
        return Opcode.CONVOLUTION

    def flags(self, node: Convolution, constant: frozenset[str]) -> Flag:
        chosen = {Flag.CONDITIONAL: node.conditional, Flag.GATED: node.gated, Flag.RELU: node.relu}
        return Flag(sum(flag for flag, is_set in chosen.items() if is_set))

    def fields(self, node: Convolution, places: Places) -> dict[str, int]:
        chains = self._chains(node, places.graph)
        return super().fields(node, places) | {
            "kernel_height": node.kernel[0],
            "kernel_width": node.kernel[1],
            "stride_height": node.stride[0],
            "stride_width": node.stride[1],
            **dict(zip(("pad_top", "pad_bottom", "pad_left", "pad_right"), node.padding, strict=True)),
            "lead_columns": chains.lead_columns,
            "extra_columns": chains.extra_columns,
            "weights": places.weights[node.name],
            "weight_bits": node.weight_bits,
            "bias": places.vector(f"{node.name}.bias", node.conditional),
            "multiplier": places.vector(f"{node.name}.multiplier", node.gated),
        }

    def _chains(self, node: Convolution, graph: Graph) -> Chains:
        width, output_width = graph.tensors[node.inputs[0]].shape[1], graph.tensors[node.name].shape[1]
        return chains_of(node.kernel, node.stride, node.padding, width, output_width)

    def vectors(self, node: Convolution) -> tuple[Vector, ...]:
        return Vector("bias", node.conditional), Vector("multiplier", node.gated)

    def scalars(self, node: Convolution, table: Table) -> dict[str, np.ndarray]:
        return {"shift": table(node, "shift")}

    def product_shapes(self, node: Convolution, graph: Graph, samples: int, dense: bool) -> tuple[ProductShape, ...]:
        source, result = graph.tensors[node.inputs[0]].shape, graph.tensors[node.name].shape
        extra = self._chains(node, graph).extra_columns
        shape = ProductShape(samples, *source, *result, node.kernel, node.stride[0], dense=dense, extra_columns=extra)
        return (dataclasses.replace(shape, weight_bits=node.weight_bits),)

    def instances(self, node: Convolution, samples: int) -> int:
        return 1

    def products(self, form: forms.Convolution, scalars: np.void) -> list[Product]:
        kept, previous = kept_offsets(form.state_input, form.state_input_span, scalars, np.zeros(1, np.int64))
        reference, keeps = kind_of(int(scalars["reference"])), bool(scalars["keep_state"])
        product = Product(
            form.plan,
            samples=form.batch,
            height=form.height,
            width=form.width,
            channels=form.channels,
            output_height=form.output_height,
            output_width=form.output_width,
            outputs=form.output_channels,
            kernel=form.kernel,
            stride=form.stride,
            pad_top=form.pad_top,
            input=np.array([form.input]),
            input_pitch=form.input_pitch,
            kept=kept,
            previous=previous,
            kept_pitch=form.channels,
            difference=reference.adds_kept,
            keep_input=keeps and not form.has(Flag.SHARES_OPERAND),
            layout=PACKED,
            weights=np.array([form.weights]),
            weight_pitch=0,
            accumulators=np.array([form.state_accumulators]),
            accumulator_pixel=form.output_channels,
            accumulator_channel=1,
            add_accumulators=reference.adds_kept,
            keep_accumulators=keeps,
            output=np.array([form.output]),
            output_pitch=form.output_pitch,
            output_bytes=form.output_bytes,
            bias=form.bias,
            bias_stride=form.sample_stride if form.has(Flag.CONDITIONAL) else 0,
            multipliers=form.multiplier,
            multiplier_stride=form.sample_stride if form.has(Flag.GATED) else 0,
            chains=form.chains if reference.in_chains else None,
            weight_bits=form.weight_bits,
        )
        return [product]

    def encoded(
        self, form: forms.Convolution, config: HardwareConfig, now: Operands, before: Operands
    ) -> LinearWork[list[Encoded]]:
        return _Digits(form, config, now[0], functools.partial(lambda codes: codes, before[0]))

    def alike(self, node: Convolution) -> tuple[bool, ...]:
        return True, node.kernel != (1, 1)

    def sample(self, view: SampleView, node: Convolution) -> tuple[np.ndarray, np.ndarray]:
        """The dot products of one window."""
        (x,), (row, column) = view.inputs, view.random_pixel()
        top, left = row * node.stride[0] - node.padding[0], column * node.stride[1] - node.padding[2]
        window = np.zeros((*node.kernel, x.shape[2]), np.int64)
        for ky, kx in np.ndindex(*node.kernel):
            if 0 <= top + ky < x.shape[0] and 0 <= left + kx < x.shape[1]:
                window[ky, kx] = x[top + ky, left + kx]
        outputs = view.random.integers(view.result.shape[2], size=4)
        weight = view.tables[f"{node.name}.weight"][outputs].astype(np.int64)
        sums = (weight * window).sum(axis=(1, 2, 3)) + view.table(node, "bias", node.conditional)[outputs]
        multiplier = view.table(node, "multiplier", node.gated)[outputs]
        low, high = view.graph.tensors[node.name].limits
        expected = requantize(sums, multiplier, view.table(node, "shift"), (0 if node.relu else low, high))
        return view.result[row, column, outputs].astype(np.int64), expected


OPERATORS = {Convolution: ConvolutionOperator()}
