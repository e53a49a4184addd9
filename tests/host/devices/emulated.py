"""Boards that are emulated, sound or faulty, and real pynq that drives them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.hls.machine.isa import DESCRIPTOR_COUNT
from ditto_zynq.host.devices.board import BoardDevice, Clock
from ditto_zynq.host.devices.emulated_board import EmulatedBoard, placeholder_bitstream
from ditto_zynq.host.devices.emulator import EmulatorDevice

CONFIG = default_config("zcu104")


def opened(board: EmulatedBoard, folder: Path, **options) -> BoardDevice:
    bitstream = placeholder_bitstream(board.fabric.config, folder)
    return BoardDevice(bitstream, board, counting=board.fabric.counting, cache=folder, locks=folder, **options)


def emulated(counting: bool = False, **options) -> EmulatedBoard:
    return EmulatedBoard(EmulatorDevice(CONFIG, counting=counting), **options)


class FaultyBoard(EmulatedBoard):
    """Does something else at its ``fault``-th run of a program. Time passes for its host only while it ``hangs``."""

    def __init__(self, fault: int, does, **options):
        super().__init__(EmulatorDevice(CONFIG, counting=False), **options)
        self.fault, self.does, self.runs = fault, does, 0
        self.hangs, self.seconds = False, 0.0
        self.clock = Clock(lambda: self.seconds, self.pause)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
        self.seconds += 1000.0 if self.hangs else 0.0

    def run(self) -> None:
        if self.fabric.read_register(DESCRIPTOR_COUNT):
            self.runs += 1
            if self.runs == self.fault and self.does(self):
                return
        super().run()

    def _reset_accelerator(self) -> None:
        super()._reset_accelerator()
        self.hangs = False


def never_finish(board: FaultyBoard) -> bool:
    super(FaultyBoard, board).run()
    board.fabric.registers[0x30] = 7  # PROGRESS
    board.hangs = True
    threading.Event().wait()
    return True
