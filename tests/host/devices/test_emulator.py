"""The emulator chooses the products by the program."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.machine.isa import DESCRIPTOR, Opcode
from ditto_zynq.host.devices.emulator import backend_for


def test_small_programs_take_the_products_whose_threads_sleep():
    """Where the int8 products are exact they are taken for large layers only, unless they were asked for."""
    program = np.zeros(2, DESCRIPTOR)
    program["opcode"], program["layer"], program["batch"] = Opcode.CONVOLUTION, [0, 1], 2
    for field in ("output_height", "output_width", "kernel_height", "kernel_width"):
        program[field] = 3
    for channels, expected in ((512, "int16"), (1024, "vnni")):
        program["channels"] = program["output_channels"] = channels
        assert backend_for(program, "vnni") == expected
        assert backend_for(program, "int16") == "int16" and backend_for(program, "numpy") == "numpy"
    assert backend_for(program[:0], "vnni") == "vnni"
