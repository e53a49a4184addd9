"""Descriptors: what the accelerator is told about each operation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.operators import (
    GELU,
    Add,
    AveragePool,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    SiLU,
    Softmax,
    Upsample,
)
from ...hls.contract.tensor import CODE, Tensor
from ...hls.machine.isa import SCALARS, Flag, Opcode
from .flow import StaticFlow
from .memory_map import Placement, StatePlace
from .operations import ACTIVATIONS, Operation, Plans, chains_of_convolution
from .parameters import ParameterLayout


@dataclass(frozen=True)
class DescriptorEncoder:
    """Fills descriptors of a program whose tensors, weights, parameters and kept operands have their places."""

    graph: Graph
    placements: dict[str, Placement]
    weight_offsets: dict[str, int]
    parameters: ParameterLayout
    state: dict[str, StatePlace]
    plans: Plans
    operations: tuple[Operation, ...]
    flow: StaticFlow

    def encode(self, operation: Operation, record: np.void) -> None:
        node, output = operation.first, self.graph.tensors[operation.name]
        source = self.graph.tensors[node.inputs[0]]
        leader = self._leader(operation)
        record["opcode"], record["flags"] = self._opcode(operation), self._flags(operation, source, output)
        record["flags"] |= Flag.FOLLOWS if leader != operation.index else Flag(0)
        record["batch"], record["node"], record["leader"] = operation.samples, operation.index, leader
        record["scalars"], record["layer"] = operation.index * SCALARS.itemsize, operation.layer
        first = operation.first_sample
        record["input"], record["input_pitch"] = self._place(source, first)
        record["output"], record["output_pitch"] = self._place(output, first)
        record["height"], record["width"], record["channels"] = source.shape
        record["output_height"], record["output_width"], record["output_channels"] = output.shape
        record["sample_stride"] = self.parameters.sample_stride
        if len(node.inputs) > 1:
            record["other"], record["other_pitch"] = self._place(self.graph.tensors[node.inputs[1]], first)
        if isinstance(node, (Convolution, MatMul)):
            self._encode_linear(node, first, record)
        if isinstance(node, Convolution):
            self._encode_convolution(node, record)
        elif isinstance(node, MatMul):
            record["groups"], record["windows"] = node.heads, node.windows
        elif isinstance(node, (GroupNorm, LayerNorm)):
            record["groups"] = node.groups if isinstance(node, GroupNorm) else 1
            record["vector0"] = self.parameters.vectors[f"{node.name}.gain"]
            record["vector1"] = self.parameters.vectors[f"{node.name}.offset"]
        elif isinstance(node, (Upsample, AveragePool)):
            record["stride_height"] = record["stride_width"] = node.factor if isinstance(node, Upsample) else node.size
        for fused in operation.nodes:
            if isinstance(fused, (SiLU, GELU)):
                record["activation_bits"] = fused.fraction_bits
        for name in _vectors_of_samples(node):
            record[name] += first * self.parameters.sample_stride

    def _leader(self, operation: Operation) -> int:
        """The same operation, or that of its leader, of the batch's first samples."""
        if not operation.is_linear:
            return operation.index
        return self._first_parts[self.flow.leaders.get(operation.first.name, operation.first.name)]

    @cached_property
    def _first_parts(self) -> dict[str, int]:
        """Index of the operation of the batch's first samples, by its first node."""
        return {op.first.name: op.index for op in self.operations if op.first_sample == 0}

    def _place(self, tensor: Tensor, first_sample: int) -> tuple[int, int]:
        placement = self.placements[tensor.name]
        height, width, _ = tensor.shape
        of_sample = height * width * placement.pitch * tensor.dtype.itemsize
        return placement.offset + first_sample * of_sample, placement.pitch

    def _encode_linear(self, node: Convolution | MatMul, first_sample: int, record: np.void) -> None:
        place = self.state[node.name]
        record["state_accumulators"] = place.accumulators + 4 * first_sample * self.graph.tensors[node.name].size
        for name, source, offset, span in zip(
            ("state_input", "state_other"), node.inputs, place.operands, place.spans, strict=False
        ):
            record[name] = offset + first_sample * self.graph.tensors[source].size
            record[f"{name}_span"] = span
        for prefix, resident, plan in zip(
            ("", "other_"), (Flag.RESIDENT, Flag.OTHER_RESIDENT), self.plans[node.name], strict=False
        ):
            record[f"{prefix}block_rows"], record[f"{prefix}chunk_channels"] = plan.block_rows, plan.chunk_channels
            record[f"{prefix}pass_tiles"] = plan.pass_tiles
            record["flags"] |= resident if plan.resident else 0
        record["segment_pixels"] = self.plans[node.name][0].segment_pixels

    def _encode_convolution(self, node: Convolution, record: np.void) -> None:
        record["kernel_height"], record["kernel_width"] = node.kernel
        record["stride_height"], record["stride_width"] = node.stride
        record["pad_top"], record["pad_bottom"], record["pad_left"], record["pad_right"] = node.padding
        chains = chains_of_convolution(self.graph, node)
        record["lead_columns"], record["extra_columns"] = chains.lead_columns, chains.extra_columns
        record["weights"] = self.weight_offsets[node.name]
        record["vector0"] = self.parameters.vectors[f"{node.name}.bias"]
        record["vector1"] = self.parameters.vectors[f"{node.name}.multiplier"]

    def _opcode(self, operation: Operation) -> Opcode:
        node = operation.first
        if isinstance(node, MatMul):
            return Opcode.SCORES if node.scores else Opcode.MIX
        opcodes: dict[type[Node], Opcode] = {
            Convolution: Opcode.CONVOLUTION,
            GroupNorm: Opcode.GROUP_NORM,
            LayerNorm: Opcode.LAYER_NORM,
            Add: Opcode.ADD,
            Multiply: Opcode.MULTIPLY,
            **dict.fromkeys(ACTIVATIONS, Opcode.ACTIVATE),
            Quantize: Opcode.ACTIVATE,
            Softmax: Opcode.SOFTMAX,
            AveragePool: Opcode.AVERAGE_POOL,
            Upsample: Opcode.UPSAMPLE,
        }
        return opcodes[type(node)]

    def _flags(self, operation: Operation, source: Tensor, output: Tensor) -> Flag:
        flags = Flag(0)
        for node in operation.nodes:
            flags |= ACTIVATIONS.get(type(node), Flag(0))
            if getattr(node, "relu", False):
                flags |= Flag.RELU
            if isinstance(node, Quantize):
                flags |= Flag.QUANTIZE | (Flag.FINE if node.fine else Flag(0))
            if getattr(node, "conditional", False):
                flags |= Flag.CONDITIONAL
            if getattr(node, "gated", False):
                flags |= Flag.GATED
            if getattr(node, "interleaved", False):
                flags |= Flag.INTERLEAVED
        first = operation.first
        flags |= Flag.PAIRED if operation.paired else Flag(0)
        if first.name in self.flow.leaders:
            flags |= Flag.SHARES_OPERAND
        if isinstance(first, MatMul) and first.inputs[1] in self.flow.constant:
            flags |= Flag.CONSTANT_OTHER
        flags |= Flag.CODE_OUTPUT if output.kind == CODE else Flag(0)
        return flags | (Flag.CODE_INPUT if source.kind == CODE else Flag(0))


def _vectors_of_samples(node: Node) -> tuple[str, ...]:
    """Descriptor fields that point at what is different for every sample."""
    conditional = getattr(node, "conditional", False)
    if isinstance(node, Convolution):
        return ("vector0",) * conditional + ("vector1",) * node.gated
    return ("vector0", "vector1") if conditional else ()
