"""The resource model: multipliers are the kernels', shipped boards fit."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from ditto_zynq.hls.build.generate import KERNELS, kernel_headers
from ditto_zynq.hls.machine.boards import BOARDS
from ditto_zynq.hls.machine.config import HardwareConfig, default_config
from ditto_zynq.hls.machine.resources import MULTIPLIERS, USABLE, available, estimate, parts


@pytest.mark.parametrize("board", BOARDS)
def test_shipped_configurations_fit_and_use_their_boards(board):
    """At least 60 % of the DSPs, or block RAM is as good as used up."""
    used, there = estimate(default_config(board)), available(BOARDS[board])
    fractions = {name: getattr(used, name) / max(getattr(there, name), 1) for name in USABLE}
    assert all(fractions[name] <= USABLE[name] for name in USABLE), fractions
    assert fractions["dsp"] >= 0.6 or fractions["bram18"] > 0.8 * USABLE["bram18"], fractions


def test_the_list_of_multipliers_is_that_of_the_kernels():
    """``multiply<A, B>`` as written, and ``scale<A>``, which is ``multiply<A, 32>``; unsigned operands have no bit
    for a sign; an expression stands for a table's step."""
    steps = {"STEP_BITS + 1": None}
    found: Counter[tuple[str, int, int]] = Counter()
    for path in kernel_headers():
        header, text = path.relative_to(KERNELS).with_suffix("").as_posix(), path.read_text()
        if header != "result" and not header.startswith("vector_unit/"):
            continue
        for a, b in re.findall(r"template multiply<(\d+), ([^>]+)>", text):
            if b not in steps:
                found[header, int(a), int(b)] += 1
        for a, b in re.findall(r"template multiply_unsigned<(\d+), (\d+)>", text):
            found[header, int(a) + 1, int(b) + 1] += 1
        for a in re.findall(r"template scale<(\d+)>", text):
            found[header, int(a), 32] += 1
        for table in re.findall(r"interpolate<tables::(\w+)_STEP_BITS>", text):
            bits = {"ACTIVATION": 6, "EXP": 4, "RSQRT": 22}[table]
            found[header, 21, bits + 1] += 1
    assert found == Counter((each.header, each.a, each.b) for each in MULTIPLIERS)


def test_parts_grow_with_what_they_hold():
    small, config = HardwareConfig(cores=2), HardwareConfig(cores=4)
    for name, part in parts(config).items():
        assert all(getattr(part, field) >= getattr(parts(small)[name], field) for field in USABLE), name
    assert estimate(config).uram == 2 * estimate(small).uram, "a copy of the weights for every two cores"
    assert parts(config)["digit lists"].bram18 == 2 * parts(small)["digit lists"].bram18
