"""What a configuration takes of an FPGA: DSP slices, LUTs, 18 Kb block RAMs and UltraRAMs, part by part, before any tool runs.

Method. *Memories* are the kernels' larger arrays, listed below by hand, cut into the shapes that the primitives have
 (UG573, UG473: block RAM and UltraRAM; UG574, UG474: LUTs as memory). *DSPs* are the kernels'
``multiply<A, B>`` and packed products, cut into the slices' multipliers (a test compares the list below with the sources).
*LUTs of cores and encoding units* are Yosys's, of the RTL in ``rtl/`` (``synthesis.py``). *Other LUTs* are arithmetic: one
per bit of an adder, three per bit of a variable shifter (6 levels, two in a LUT), ``(ways - 1) / 3`` per bit of a multiplexer,
and lump sums, marked as such, for state machines and AXI adapters. No AMD tool has checked any of it: how far off it is, nobody
has measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contract import tables as lut
from ..contract.arithmetic import ceil_divide
from ..contract.formats import CODE_BITS, DIGIT_BITS, SUM_BITS, SUM_BYTES, VALUE_BYTES, WEIGHT_BITS
from ..contract.operators.softmax import ROW_RECIPROCAL_BITS
from . import synthesis
from .boards import Board, find_board
from .isa import PORTS
from .primitives import (
    CHAINED_LANES,
    Resources,
    block_ram,
    lut_ram,
    multiplexer,
    multiplier_dsps,
    shifter,
    ultra_ram,
    weight_gap,
)
from .shape import Shape

USABLE = {"dsp": 0.95, "lut": 0.85, "bram18": 0.95, "uram": 1.0}
"""The fraction of a device that a design may take by this estimate; the rest is for what it misses and for routing."""

LABELS = {"dsp": "DSP slices", "lut": "LUTs", "bram18": "18 Kb block RAMs", "uram": "UltraRAMs"}


def available(board: Board) -> Resources:
    """All resources of a board."""
    return Resources(board.dsp, board.lut, 2 * board.bram36, board.uram)


def estimate(config: Shape) -> Resources:
    """The resources that all parts of a configuration take together."""
    return sum(parts(config).values(), Resources())


def excess(used: Resources, board: Board) -> list[str]:
    """What ``used`` has too much of for a board, with the numbers."""
    there = available(board)
    return [
        f"{getattr(used, name):,} of {getattr(there, name):,} {LABELS[name]} (at most {fraction:.0%})"
        for name, fraction in USABLE.items()
        if getattr(used, name) > fraction * getattr(there, name)
    ]


def check_fits(config: Shape) -> None:
    """ValueError, with all numbers that are too large, where a configuration does not fit its board."""
    too_much = excess(estimate(config), find_board(config.board))
    if too_much:
        raise ValueError(
            f"the configuration does not fit {config.board}: it needs {', '.join(too_much)}; "
            "use fewer cores, lanes or output channels, or smaller buffers"
        )


def largest_dense(config: Shape) -> int:
    """Cores that fit the board if the multipliers are a dense array: no digits to queue, and one copy of the weights for all.

    The baseline of equal resources: everything else of ``config`` stays.
    """
    cores, board = 1, find_board(config.board)
    while not excess(sum(dense_parts(config.modelled(cores=cores + 1)).values(), Resources()), board):
        cores += 1
    return cores


def dense_parts(config: Shape) -> dict[str, Resources]:
    """The parts of a dense 8 x 8 array (two weights in a slice too) with this configuration's buffers and vector unit."""
    board, bus = find_board(config.board), config.bus_bytes
    core = synthesis.luts("dense_core", family(board), dense_core_parameters(config, board))
    rows = block_ram(ceil_divide(config.digit_depth, 2), CODE_BITS) * (
        config.lanes * 2
    )  # the operand's codes, in two buffers
    operand = (Resources(lut=2 * STATE_MACHINE) + rows) * config.cores + lut_ram(board, 64, 8 * bus) * 2
    dense = {
        "compute": Resources(config.multiplier_dsps, config.cores * core),
        "operands": operand + Resources(lut=2 * aligner(config) + 2 * STATE_MACHINE),
        "weights": _weights(config.modelled(cores=1), board),
    }
    return {name: part for name, part in parts(config).items() if name != "digit lists"} | dense


def multiplier_size(config: Shape, digits: bool, queues: bool) -> float:
    """LUTs of a multiplier and its sum without slices, and its share of its core's queues and control, relative to those of
    an 8 x 8 multiplier and its sum. ``digits``: of 5 x 8 bits; ``queues``: in a compute core, else in a dense one."""
    board = find_board(config.board)
    core, parameters_of = ("compute_core", core_parameters) if queues else ("dense_core", dense_core_parameters)
    parameters = parameters_of(config, board)
    columns = synthesis.luts("multiplier_column", family(board), parameters) * config.oc_tile // 2
    control = synthesis.luts(core, family(board), parameters) - columns
    digit, code = (synthesis.element_luts(name, family(board)) for name in ("digit_element", "dense_element"))
    return ((digit if digits else code) + control / (config.lanes * config.oc_tile)) / code


# ------------------------------------------------------------------------------------------------------ multipliers


@dataclass(frozen=True)
class Multiplier:
    """A ``multiply<a, b>`` or ``multiply_unsigned<a - 1, b - 1>`` of a header of the kernels; ``per_lane`` of the vector unit,
    else once."""

    header: str
    a: int
    b: int
    per_lane: bool
    use: str


MULTIPLIERS = (
    Multiplier("result", 33, 32, True, "requantize"),
    Multiplier("result", 32, 32, False, "a row's multiplier"),
    Multiplier("vector_unit/activation", 21, 7, True, "activations"),
    Multiplier("vector_unit/norm", 21, 23, False, "reciprocal square root"),
    Multiplier("vector_unit/quantize", 17, 32, True, "quantizer"),
    Multiplier("vector_unit/line", 16, 32, True, "second operand of ADD and MULTIPLY"),
    Multiplier("vector_unit/line", 16, 48, True, "first operand of ADD and MULTIPLY, normalized value"),
    Multiplier("vector_unit/softmax", 17, 32, True, "softmax: exponent"),
    Multiplier("vector_unit/softmax", 21, 5, True, "softmax: power of two"),
    Multiplier("vector_unit/pool", 26, 32, True, "mean of a pool"),
    Multiplier("vector_unit/norm", 16, 16, True, "square"),
    Multiplier("vector_unit/norm", 18, 48, False, "variance: N times squares"),
    Multiplier("vector_unit/norm", 33, 33, False, "variance: sum squared"),
    Multiplier("vector_unit/norm", 33, 44, False, "mean"),
    Multiplier("vector_unit/norm", 18, 25, False, "N times root"),
    Multiplier("vector_unit/norm", 41, 23, True, "slope"),
    Multiplier("vector_unit/norm", 36, 29, True, "intercept"),
)
ADDRESS_DSPS = (60, 4)  # a lump sum for processes that compute addresses (a 32-bit multiplier in 20), and per core
STATE_MACHINE = 150  # LUTs of a process's loop counters and handshakes: a lump sum
LIST_LOGIC = 6  # LUTs that decode a list's addresses, by the synthesis of rtl/digit_memory.sv
DIVIDER = 350  # LUTs of a sequential 32-bit divider: a lump sum
ROW_DIVIDER = ROW_RECIPROCAL_BITS * 24  # LUTs of a pipeline that divides by a row's sum: a subtraction for every bit


# ------------------------------------------------------------------------------------------------------ parts


def parts(config: Shape) -> dict[str, Resources]:
    """The resources of the design's parts, as the kernels' headers name them."""
    board = find_board(config.board)
    return {
        "compute": _compute(config, board),
        "digit lists": _digit_lists(config, board),
        "operands": _operands(config, board),
        "weights": _weights(config, board),
        "results": _results(config, board),
        "vector unit": _vector_unit(config, board),
        "memory ports": Resources(lut=1500, bram18=8) * PORTS,  # lump sums: AXI adapters with their burst buffers
        "controller": Resources(ADDRESS_DSPS[0] + ADDRESS_DSPS[1] * config.cores, 3000 + 12 * DIVIDER),
    }


def family(board: Board) -> str:
    """What Yosys calls the board's family."""
    return "xcup" if board.zynq_ultrascale else "xc7"


def core_parameters(config: Shape, board: Board) -> dict[str, int]:
    """The parameters of rtl/compute_core.sv, but for the depths of its queues."""
    depths = {
        "POSITION_BITS": config.positions,
        "SLOT_BITS": config.digit_depth,
        "WEIGHT_BITS": config.weight_depth,
        "SUM_BITS": config.accumulator_depth,
    }
    gap, chain = weight_gap(board.multiplier_bits), CHAINED_LANES[board.multiplier_bits]
    shape = {
        "LANES": config.lanes,
        "OC_TILE": config.oc_tile,
        "WORD_BITS": config.word_bits,
        "GAP": gap,
        "CHAIN": chain,
    }
    return shape | {name: (depth - 1).bit_length() for name, depth in depths.items()}


def dense_core_parameters(config: Shape, board: Board) -> dict[str, int]:
    """The parameters of rtl/dense_core.sv: products of codes are half as large as those of high digits, so chains are twice as
    long."""
    return core_parameters(config, board) | {"CHAIN": 2 * CHAINED_LANES[board.multiplier_bits]}


def _compute(config: Shape, board: Board) -> Resources:
    core = synthesis.luts("compute_core", family(board), core_parameters(config, board))
    return Resources(config.multiplier_dsps, config.cores * core)


def _digit_lists(config: Shape, board: Board) -> Resources:
    """The lists' entries and counts, low and high, in two buffers: written by the encoder, read by the compute unit."""
    entries = block_ram(config.digit_depth, DIGIT_BITS + config.word_bits)
    counts = lut_ram(board, config.positions, config.word_bits + 1) + Resources(lut=LIST_LOGIC)
    return (entries + counts) * (config.cores * config.lanes * 2 * 2)


def aligner(config: Shape) -> int:
    """LUTs that bring a run from its place in a beat to the first byte of a word, or back."""
    return multiplexer(config.bus_bits, config.bus_bytes)


def _operands(config: Shape, board: Board) -> Resources:
    bus = config.bus_bytes
    unit = synthesis.luts(
        "encoding_unit", family(board), {"LANES": config.lanes, "BUS_BYTES": bus, "WORD_BITS": config.word_bits}
    )
    core = (
        Resources(lut=unit) + block_ram(config.digit_depth, CODE_BITS * config.lanes) + lut_ram(board, 32, 8 * bus) * 2
    )
    turn = lut_ram(board, ceil_divide(config.gather_bytes, bus), 8) * bus + Resources(
        lut=2 * aligner(config) + STATE_MACHINE
    )
    row_sum = 10 * bus + SUM_BITS  # an adder for every code of a word, and one for the sum
    memory = Resources(lut=5 * STATE_MACHINE + 4 * aligner(config) + row_sum) + lut_ram(board, 64, 8 * bus) * 8
    return core * config.cores + turn * 2 + memory


def _weights(config: Shape, board: Board) -> Resources:
    width, in_uram = WEIGHT_BITS * config.oc_tile, config.uram_copies
    banks = ultra_ram(config.weight_depth, width) * in_uram
    banks += block_ram(config.weight_depth, width, two_reads=config.cores > 1) * (config.weight_copies - in_uram)
    row = lut_ram(board, ceil_divide(config.staging_depth, config.bus_bytes), config.bus_bits)
    ways = ceil_divide(config.bus_bytes, config.lanes) if config.bus_bytes % config.lanes == 0 else config.bus_bytes
    turned = Resources(lut=multiplexer(width * config.lanes, max(ways, 2)))
    return banks * config.lanes + row * config.oc_tile + turned + Resources(lut=4 * STATE_MACHINE + 2 * aligner(config))


def _results(config: Shape, board: Board) -> Resources:
    """Sums in two buffers and those of earlier chunks, per core; complete and exchanged tiles, in two buffers each.

    Of rows that are divided by their sums: those in a queue, those of earlier chunks, and multipliers in two buffers.
    """
    width, word = SUM_BITS * config.oc_tile, config.bus_bits
    sums = lut_ram(board, config.accumulator_depth, width) * (3 * config.cores + 4)
    adders = (
        width
        + 2 * multiplexer(width, config.cores)
        + word
        + multiplexer(word, SUM_BYTES * config.oc_tile // config.bus_bytes)
    )
    requantizer = multiplexer(64, ceil_divide(config.oc_tile, config.vector_width)) + 33 + shifter(64) + 64
    fifos = lut_ram(board, 64, word) * 4
    depth = config.cores * config.accumulator_depth
    rows = (
        block_ram(3 * depth, SUM_BITS)
        + lut_ram(board, depth, SUM_BITS) * 3
        + Resources(lut=ROW_DIVIDER + STATE_MACHINE)
    )
    fixed = Resources(lut=adders + requantizer * config.vector_width + 9 * STATE_MACHINE + 4 * aligner(config))
    return sums + fifos + rows + fixed + _multipliers(config, board, "result")


def _vector_unit(config: Shape, board: Board) -> Resources:
    lanes, depth = config.vector_width, ceil_divide(config.row_bytes // VALUE_BYTES, config.vector_width)
    line = (
        64 + shifter(53) + 40 + 17 + shifter(16) + 40 + shifter(49) + shifter(53) + 60
    )  # with an activation, quantizer, residue
    norm = 32 + 48 + 2 * 64 + shifter(64) + 64  # sums, squares; slope, intercept
    softmax_and_pool = 17 + shifter(49) + 28 + shifter(28) + 12 + 32 + shifter(58) + 40
    activations = block_ram(lut.DEFICIT_KNOTS * len(lut.DEFICITS), 17, two_reads=True)
    tables = activations + block_ram(257, 21, two_reads=True)  # exp
    buffers = block_ram(depth, 32) * 3 + block_ram(depth, 64) * 3 + block_ram(depth, 36)
    of_lane = Resources(lut=line + norm + softmax_and_pool) + tables + buffers
    rows = block_ram(ceil_divide(config.row_bytes, config.bus_bytes), config.bus_bits) * 2  # of softmax, of upsampling
    root = block_ram(769, 24, two_reads=True) + Resources(lut=3 * shifter(64))
    fifos = lut_ram(board, 64, config.bus_bits) * 4
    control = Resources(lut=4 * DIVIDER + 9 * STATE_MACHINE + 5 * aligner(config))  # a 64-bit divider
    return of_lane * lanes + rows + root + fifos + control + _multipliers(config, board, "vector_unit/")


def _multipliers(config: Shape, board: Board, unit: str) -> Resources:
    counts = [
        multiplier_dsps(board, each.a, each.b) * (config.vector_width if each.per_lane else 1)
        for each in MULTIPLIERS
        if each.header.startswith(unit)
    ]
    return Resources(dsp=sum(counts))
