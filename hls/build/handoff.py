"""The block design around the accelerator, and its hardware handoff (.hwh) as PYNQ's metadata parser reads it.

Vivado writes the handoff of a built design itself. This one describes the same design for boards that are emulated: the cells,
registers, addresses, clocks and interrupts that ``run_vivado.tcl`` asks for, without the interconnect between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..machine.boards import find_board
from ..machine.config import HardwareConfig
from ..machine.isa import CONFIG_HASH, CONTROL, ERROR, POINTERS, PORTS, PROGRESS, registers
from .generate import environment

VENDOR, LIBRARY, IP, VERSION = "ditto-zynq", "accelerator", "ditto_top", "1.0"
VLNV = f"{VENDOR}:{LIBRARY}:{IP}:{VERSION}"  # which the board's driver binds to
ACCELERATOR = f"{IP}_0"
INTERRUPTS = "interrupts"  # an AXI interrupt controller: PYNQ sees no other interrupts
RESET = "accelerator_reset"  # an AXI GPIO whose bit 0 resets the accelerator alone
ADDRESS_RANGE = 0x1_0000
GLOBAL_INTERRUPTS, INTERRUPT_ENABLE, INTERRUPT_STATUS = 0x04, 0x08, 0x0C  # of every ap_ctrl_hs kernel
CONTROL_BITS = (("AP_START", 0), ("AP_DONE", 1), ("AP_IDLE", 2), ("AP_READY", 3), ("AUTO_RESTART", 7))
READ_ONLY = (CONFIG_HASH, ERROR, PROGRESS)


@dataclass(frozen=True)
class Cell:
    """An IP with an AXI-Lite interface at ``address``; ``registers``: (name, offset, bits, access)."""

    name: str
    vlnv: str
    interface: str
    address: int
    registers: tuple[tuple[str, int, tuple[tuple[str, int], ...], str], ...]

    @property
    def last_address(self) -> int:
        return self.address + ADDRESS_RANGE - 1


def bitstream_name(config: HardwareConfig) -> str:
    return f"ditto-{config.board}-{config.digest[:8]}"


def cells(config: HardwareConfig) -> tuple[Cell, ...]:
    """What the processing system can address: the accelerator, its interrupt controller and its reset."""
    base = 0xA000_0000 if find_board(config.board).zynq_ultrascale else 0x4000_0000
    words: list[tuple[str, int, tuple[tuple[str, int], ...], str]] = [
        ("CTRL", CONTROL, CONTROL_BITS, "read-write"),
        ("GIER", GLOBAL_INTERRUPTS, (("Enable", 0),), "read-write"),
        ("IP_IER", INTERRUPT_ENABLE, (("CHAN0_INT_EN", 0), ("CHAN1_INT_EN", 1)), "read-write"),
        ("IP_ISR", INTERRUPT_STATUS, (("CHAN0_INT_ST", 0), ("CHAN1_INT_ST", 1)), "read-write"),
    ]
    pointers = {pointer.name for pointer in POINTERS}
    for name, offset in registers().items():
        if name in pointers:  # 64 bits, which Vitis HLS numbers
            words += [(f"{name}_1", offset, (), "write-only"), (f"{name}_2", offset + 4, (), "write-only")]
        else:
            words.append((name, offset, (), "read-only" if offset in READ_ONLY else "read-write"))
    return (
        Cell(ACCELERATOR, VLNV, "s_axi_control", base, tuple(words)),
        Cell(
            INTERRUPTS,
            "xilinx.com:ip:axi_intc:4.1",
            "s_axi",
            base + ADDRESS_RANGE,
            tuple((name, 4 * index, (), "read-write") for index, name in enumerate(("ISR", "IPR", "IER", "IAR"))),
        ),
        Cell(
            RESET,
            "xilinx.com:ip:axi_gpio:2.0",
            "S_AXI",
            base + 2 * ADDRESS_RANGE,
            (("GPIO_DATA", 0, (), "read-write"), ("GPIO_TRI", 4, (), "read-write")),
        ),
    )


def design_context(config: HardwareConfig) -> dict[str, Any]:
    """What the templates of the block design and of its handoff are filled with."""
    board = find_board(config.board)
    return {
        "config": config,
        "board": board,
        "name": bitstream_name(config),
        "ports": PORTS,
        "zynq_ultrascale": board.zynq_ultrascale,
        "vendor": VENDOR,
        "library": LIBRARY,
        "ip": IP,
        "version": VERSION,
        "cells": cells(config),
        "accelerator": ACCELERATOR,
        "interrupts": INTERRUPTS,
        "reset": RESET,
        "address_range": ADDRESS_RANGE,
    }


def handoff(config: HardwareConfig) -> str:
    """The .hwh of ``config``'s block design."""
    return environment().get_template("design.hwh.j2").render(design_context(config))
