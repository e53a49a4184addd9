"""The cycle and traffic model: what each descriptor costs, from its shape, the configuration and the digits counted.

A descriptor's units overlap: it takes the longest of compute, vector and memory time, and a fixed start-up.

- Compute: the cores share the pixel cycles (:mod:`.counting`) of all output-channel tiles evenly.
- Vector: ``vector_width`` elements per cycle and pass; GroupNorm and softmax read their operand twice or three times.
- Memory: bytes over the bandwidth of ports and DRAM. Weights are fetched once per sample group; operands and results are
  streamed once.

A first model: figures made with it are *emulated* cycles of a design that has not been built.
"""

from __future__ import annotations

import numpy as np

from ..hls.config import HardwareConfig
from ..hls.isa import Flag, Opcode, Reference

START_CYCLES = 64  # fetch and decode a descriptor, fill the pipelines
VECTOR_PASSES = {
    Opcode.CONVOLUTION: 1,
    Opcode.SCORES: 1,
    Opcode.MIX: 1,
    Opcode.GROUP_NORM: 2,
    Opcode.ADD: 1,
    Opcode.ACTIVATE: 1,
    Opcode.SOFTMAX: 3,
    Opcode.AVERAGE_POOL: 1,
    Opcode.UPSAMPLE: 1,
}
LINEAR = (Opcode.CONVOLUTION, Opcode.SCORES, Opcode.MIX)


def fill_cycles(config: HardwareConfig, descriptors: np.ndarray, scalars: np.ndarray, records: np.ndarray) -> None:
    """Complete counter records whose ``compute_cycles`` hold the pixel cycles of all tiles, summed over pixels."""
    for descriptor, scalar, record in zip(descriptors, scalars, records, strict=True):
        read, written = traffic(config, descriptor, scalar)
        compute = -(-int(record["compute_cycles"]) // config.cores)
        vector = vector_cycles(config, descriptor)
        memory = int(np.ceil((read + written) / config.bytes_per_cycle))
        record["bytes_read"], record["bytes_written"] = read, written
        record["compute_cycles"], record["vector_cycles"], record["memory_cycles"] = compute, vector, memory
        record["cycles"] = START_CYCLES + max(compute, vector, memory)


def vector_cycles(config: HardwareConfig, descriptor: np.void) -> int:
    """Cycles of the vector unit: results of linear operators and upsampling, operands of all others."""
    opcode = Opcode(int(descriptor["opcode"]))
    prefix = "output_" if opcode in (*LINEAR, Opcode.UPSAMPLE) else ""
    return VECTOR_PASSES[opcode] * -(-_elements(descriptor, prefix) // config.vector_width)


def traffic(config: HardwareConfig, descriptor: np.void, scalar: np.void) -> tuple[int, int]:
    """DRAM bytes (read, written) of one descriptor in one step."""
    opcode, flags = Opcode(int(descriptor["opcode"])), Flag(int(descriptor["flags"]))
    operand = _elements(descriptor) * (1 if flags & Flag.CODE_INPUT else 2)
    result = _elements(descriptor, "output_") * (1 if flags & Flag.CODE_OUTPUT else 2)
    other = 0
    if opcode == Opcode.ADD:
        other = operand
    elif opcode == Opcode.SCORES:
        other = int(descriptor["batch"]) * int(descriptor["output_channels"]) * int(descriptor["channels"])
    elif opcode == Opcode.MIX:
        other = int(descriptor["batch"]) * int(descriptor["channels"]) * int(descriptor["output_channels"])
    read, written = operand + other + _parameter_bytes(descriptor, opcode, flags), result
    if opcode == Opcode.CONVOLUTION:
        read += _weight_bytes(config, descriptor)
    if opcode in LINEAR:
        accumulators = 4 * _elements(descriptor, "output_")
        if int(scalar["reference"]) == Reference.PREVIOUS_STEP:
            read += operand + other + accumulators
        if int(scalar["keep_state"]):
            written += operand + other + accumulators
    return read, written


def _weight_bytes(config: HardwareConfig, descriptor: np.void) -> int:
    """Weights are fetched once for every group of samples in lockstep."""
    taps = int(descriptor["kernel_height"]) * int(descriptor["kernel_width"])
    weights = taps * int(descriptor["channels"]) * int(descriptor["output_channels"])
    return weights * -(-int(descriptor["batch"]) // config.sample_groups)


def _parameter_bytes(descriptor: np.void, opcode: Opcode, flags: Flag) -> int:
    rows = int(descriptor["batch"]) if flags & Flag.CONDITIONAL else 1
    if opcode == Opcode.CONVOLUTION:
        return 4 * int(descriptor["output_channels"]) * (rows + 1)
    return 12 * int(descriptor["channels"]) * rows if opcode == Opcode.GROUP_NORM else 0


def _elements(descriptor: np.void, prefix: str = "") -> int:
    sides = (int(descriptor[f"{prefix}{side}"]) for side in ("height", "width", "channels"))
    return int(descriptor["batch"]) * int(np.prod([*sides]))
