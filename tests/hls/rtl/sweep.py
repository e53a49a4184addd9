"""Which configurations of the RTL are synthesized for hls/machine/synthesis.json."""

from __future__ import annotations

from ditto_zynq.hls.build.verilog import queue_parameters
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.primitives import CHAINED_LANES

from .synthesis import Job

BITS = {"POSITION_BITS": 8, "SLOT_BITS": 10, "WEIGHT_BITS": 10, "WORD_BITS": 10, "SUM_BITS": 6}
SMALL = {"POSITION_BITS": 6, "SLOT_BITS": 8, "WEIGHT_BITS": 8, "WORD_BITS": 8, "SUM_BITS": 5}
LARGE = {"POSITION_BITS": 10, "SLOT_BITS": 12, "WEIGHT_BITS": 12, "WORD_BITS": 12, "SUM_BITS": 8}
DENSE = ("POSITION_BITS", "SLOT_BITS", "WEIGHT_BITS", "SUM_BITS")  # that a dense core has
CORES = ((2, 8, BITS), (4, 8, BITS), (8, 8, BITS), (8, 32, BITS), (16, 8, BITS), (8, 8, SMALL), (4, 16, LARGE))
CORES_HELD_OUT = ((6, 16, BITS), (12, 4, SMALL), (8, 32, LARGE))
ENCODERS = (
    (2, 4, 1024, 256, 10),
    (4, 4, 512, 128, 9),
    (4, 8, 1024, 256, 10),
    (8, 8, 2048, 512, 11),
    (8, 16, 1024, 256, 10),
    (16, 16, 1024, 256, 10),
)
ENCODERS_HELD_OUT = ((4, 16, 1024, 256, 10), (6, 8, 512, 128, 9))
MEMORIES = ((8, 1024, 256, 10), (4, 2048, 512, 11), (4, 512, 64, 9))


ELEMENTS = (Job("digit_element", {}, True), Job("dense_element", {}, True))
"""Without DSP slices."""


def jobs(family: str) -> list[Job]:
    """Of a family, whose DSP slices take as many lanes one after the other as they have bits for."""
    bits = next(board.multiplier_bits for board in BOARDS.values() if board.zynq_ultrascale == (family == "xcup"))
    gap, chain = bits - 9, CHAINED_LANES[bits]
    found = []
    for held_out, cores, encoders in ((False, CORES, ENCODERS), (True, CORES_HELD_OUT, ENCODERS_HELD_OUT)):
        for lanes, oc_tile, widths in cores:
            shape = {"LANES": lanes, "OC_TILE": oc_tile, "GAP": gap}
            found.append(Job("compute_core", shape | widths | {"CHAIN": chain} | queue_parameters(), held_out))
            dense = {name: widths[name] for name in DENSE}
            found.append(Job("dense_core", shape | dense | {"CHAIN": 2 * chain}, held_out))
        for lanes, bus_bytes, digit_depth, positions, word_bits in encoders:
            parameters = {"LANES": lanes, "BUS_BYTES": bus_bytes, "DIGIT_DEPTH": digit_depth, "POSITIONS": positions}
            found.append(Job("encoding_unit", parameters | {"WORD_BITS": word_bits}, held_out))
    for lanes, held_out in ((4, False), (8, False), (16, False), (12, True)):
        found.append(Job("multiplier_column", {"LANES": lanes, "GAP": gap, "CHAIN": chain}, held_out))
    for lanes, digit_depth, positions, word_bits in MEMORIES:
        parameters = {"LANES": lanes, "DIGIT_DEPTH": digit_depth, "POSITIONS": positions, "WORD_BITS": word_bits}
        found.append(Job("digit_memory", parameters, True))
    found.append(Job("operand_memory", {"LANES": 8, "DEPTH": 1024}, True))
    styles = ('"block"', '"ultra"') if family == "xcup" else ('"block"',)
    found += [
        Job("weight_memory", {"LANES": 4, "OC_TILE": 32, "WEIGHT_DEPTH": 1024, "STYLE": style}, True)
        for style in styles
    ]
    return found
