"""Hardware configurations that tests compile: shipped ones, and odd ones whose buffers force every kind of tiling."""

from __future__ import annotations

from ditto_zynq.hls.machine.config import HardwareConfig, default_config

SHIPPED = default_config("zcu104")
TINY = HardwareConfig(  # chunks, passes that are not resident, blocks of one row
    cores=3,
    lanes=3,
    oc_tile=8,
    bus_bits=64,
    digit_depth=64,
    positions=40,
    accumulator_depth=12,
    weight_depth=20,
    row_bytes=128,
    staging_depth=6,
    gather_bytes=120,
    sample_groups=2,
)
SERIAL = HardwareConfig(  # one multiplier lane, one vector element, 32-bit memory
    cores=1,
    lanes=1,
    oc_tile=16,
    bus_bits=32,
    digit_depth=256,
    positions=64,
    accumulator_depth=30,
    weight_depth=30,
    row_bytes=192,
    staging_depth=20,
    gather_bytes=60,
    sample_groups=1,
)
ODD = HardwareConfig(  # primes wherever they are allowed
    cores=5,
    lanes=7,
    oc_tile=32,
    digit_depth=131,
    positions=127,
    accumulator_depth=61,
    weight_depth=67,
    row_bytes=496,
    staging_depth=31,
    gather_bytes=251,
    sample_groups=3,
)
SMALL_BOARD = default_config("pynq-z2")

CONFIGS = {"zcu104": SHIPPED, "tiny": TINY, "serial": SERIAL, "odd": ODD, "pynq-z2": SMALL_BOARD}
