"""What the RTL in ``rtl/`` takes from Python: the numbers of a hardware configuration, as a generated header.

The RTL are the encoding unit and the compute unit of ``kernels/encoder.hpp`` and ``kernels/compute.hpp``, cycle by cycle.
"""

from __future__ import annotations

from pathlib import Path

from .boards import find_board
from .config import HardwareConfig
from .generate import FOLDER
from .plan import LARGEST_KERNEL
from .resources import CHAINED_LANES

SOURCES = tuple(sorted([*(FOLDER / "rtl").glob("*.sv"), *(FOLDER / "rtl").glob("*.v")]))
HEADER = "ditto_config.svh"


def constants(config: HardwareConfig) -> dict[str, int]:
    """The header's macros without their prefix: ``DITTO_LANES`` and so on."""
    bits = find_board(config.board).multiplier_bits
    names = (
        "cores",
        "lanes",
        "oc_tile",
        "bus_bytes",
        "digit_depth",
        "positions",
        "accumulator_depth",
        "weight_depth",
        "word_bits",
    )
    of_config = {name.upper(): getattr(config, name) for name in (*names, "uram_copies")}
    return of_config | {"GAP": bits - 9, "CHAIN": CHAINED_LANES[bits], "LARGEST_KERNEL": LARGEST_KERNEL}


def core_parameters(config: HardwareConfig) -> dict[str, int]:
    """Of ``compute_core``, by itself: those that ``compute_unit`` gives it."""
    given = constants(config)
    bits = {
        f"{name}_BITS": (given[depth] - 1).bit_length()
        for name, depth in (
            ("POSITION", "POSITIONS"), ("SLOT", "DIGIT_DEPTH"), ("WEIGHT", "WEIGHT_DEPTH"), ("SUM", "ACCUMULATOR_DEPTH")
        )
    }  # fmt: skip
    kept = {name: given[name] for name in ("LANES", "OC_TILE", "WORD_BITS", "GAP", "CHAIN")}
    return kept | bits | {"SEGMENTS": given["LARGEST_KERNEL"]}


def write_header(config: HardwareConfig, folder: Path) -> Path:
    """``ditto_config.svh`` of a configuration, in ``folder``."""
    lines = [f"// Generated for {config.board}: the hardware configuration {config.digest[:8]}."]
    lines += [f"`define DITTO_{name} {value}" for name, value in constants(config).items()]
    path = folder / HEADER
    path.write_text("\n".join(lines) + "\n")
    return path
