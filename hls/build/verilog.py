"""What the RTL in ``rtl/`` takes from Python: a hardware configuration's numbers, as a generated header; and the multipliers
as an RTL blackbox of Vitis HLS.

The RTL are the encoding unit and the compute unit of ``kernels/encoder.hpp`` and ``kernels/compute.hpp``, cycle by cycle.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ..contract.arithmetic import ceil_divide
from ..machine import resources
from ..machine.boards import find_board
from ..machine.config import HardwareConfig
from ..machine.plan import QUEUES
from ..machine.primitives import CHAINED_LANES, weight_gap
from ..machine.synthesis import luts
from .generate import FOLDER, environment, format_constants

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
    return of_config | {"GAP": weight_gap(bits), "CHAIN": CHAINED_LANES[bits]} | queue_parameters()


def core_parameters(config: HardwareConfig) -> dict[str, int]:
    """Parameters of ``compute_core`` by itself, as ``compute_unit`` gives them."""
    return resources.core_parameters(config, find_board(config.board)) | queue_parameters()


def queue_parameters() -> dict[str, int]:
    """Depths of a lane's queues, as parameters of ``compute_core``."""
    return {name.upper(): depth for name, depth in QUEUES.items()}


def write_header(config: HardwareConfig, folder: Path) -> Path:
    """``ditto_config.svh`` of a configuration, in ``folder``."""
    lines = [f"// Generated for {config.board}: the hardware configuration {config.digest[:8]}."]
    lines += [f"`define DITTO_{name} {value}" for name, value in constants(config).items()]
    path = folder / HEADER
    path.write_text("\n".join(lines) + "\n")
    return path


BLACKBOX = "ditto_multiplier_columns"
DEFINES = ("-DDITTO_BLACKBOX", "-DAP_INT_MAX_W=4096")
"""For the compiler: that the kernels call the blackbox, and that its arguments are wider than ap_int is by default."""


def write_blackbox(config: HardwareConfig, folder: Path) -> list[Path]:
    """The multiplier columns of a core as an RTL blackbox (UG1399): in ``folder/rtl`` the Verilog, in ``folder/src`` its C model,
    and ``folder/multiplier_columns.json``, whose paths begin at ``folder``. Returns all paths.

    The kernels call it when they are compiled with :data:`DEFINES`; else it is not needed.
    """
    given = constants(config)
    numbers = given | format_constants()
    context = {"config": config} | {name.lower(): value for name, value in numbers.items()}
    places = {"rtl": ["v"], "src": ["hpp", "cpp"]}
    paths = []
    for place, suffixes in places.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for suffix in suffixes:
            name = f"{BLACKBOX}.v" if suffix == "v" else f"multiplier_columns.{suffix}"
            paths.append(folder / place / name)
            template = environment().get_template(f"multiplier_columns.{suffix}.j2")
            paths[-1].write_text(template.render(context))
    paths.append(Path(shutil.copy(FOLDER / "rtl" / "multiplier_column.v", folder / "rtl")))
    paths.append(folder / "multiplier_columns.json")
    paths[-1].write_text(json.dumps(_description(config, given["CHAIN"]), indent=1) + "\n")
    return paths


def latency(config: HardwareConfig) -> int:
    """Cycles from digits to sums: packing, product, a chain of slices, taking apart, and the sum."""
    return constants(config)["CHAIN"] + 5


def _description(config: HardwareConfig, chain: int) -> dict[str, Any]:
    dsp = ceil_divide(config.lanes, chain) * chain * config.oc_tile // 2
    board = find_board(config.board)
    column = luts("multiplier_column", resources.family(board), {"LANES": config.lanes, "CHAIN": chain})
    unused = {f"ap_ctrl_chain_protocol_{name}": "" for name in ("idle", "start", "ready", "done", "continue")}
    return {
        "c_function_name": BLACKBOX,
        "rtl_top_module_name": BLACKBOX,
        "c_files": [{"c_file": "src/multiplier_columns.cpp", "cflag": " ".join(("-Isrc -std=c++14", *DEFINES))}],
        "rtl_files": [f"rtl/{BLACKBOX}.v", "rtl/multiplier_column.v"],
        "c_parameters": [
            {"c_name": name, "c_port_direction": "in", "rtl_ports": {"data_read_in": name}}
            for name in ("digits", "weights")
        ],
        "c_return": {"c_port_direction": "out", "rtl_ports": {"data_write_out": "ap_return"}},
        "rtl_common_signal": {"module_clock": "ap_clk", "module_reset": "ap_rst", "module_clock_enable": "ap_ce"}
        | unused,
        "rtl_performance": {"latency": str(latency(config)), "II": "1"},
        "rtl_resource_usage": {
            "FF": "0",
            "LUT": str(column * config.oc_tile // 2),
            "BRAM": "0",
            "URAM": "0",
            "DSP": str(dsp),
        },
    }
