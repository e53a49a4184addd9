"""Compiled loops of integer products: squares, tiles of one instruction, and a cache that is never stale."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from ditto_zynq.hls.contract.arithmetic import digits_of
from ditto_zynq.hls.contract.operators.convolution import convolve
from ditto_zynq.host.compute import product_loops, vector_loops
from ditto_zynq.host.compute.products import integer_convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

from tests.cpus import CPUS, WITH_VNNI


def operands(random, shape, extreme, low, high):
    if extreme:
        return random.choice([low, high], shape)
    return random.integers(low, high + 1, shape)


@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([7, 8, 9, 16, 17, 40])),
    batch=st.integers(1, 3),
    outputs=st.sampled_from([1, 2, 15, 16, 17, 40]),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    extreme=st.booleans(),
)
def test_convolutions_in_squares(seed, size, batch, outputs, padding, extreme):
    """Odd images, parts of bands and of threads that begin at odd rows, sums at the ends of their ranges."""
    height, width, channels = size
    if height + padding[0] + padding[1] < 3 or width + padding[2] + padding[3] < 3:
        return
    random = np.random.default_rng(seed)
    weight = operands(random, (outputs, 3, 3, channels), extreme, -128, 127).astype(np.int8)
    difference = operands(random, (batch, *size), extreme, -255, 255).astype(np.int16)
    expected = convolve(difference, weight, (1, 1), padding)
    packed = product_loops.pack(weight)
    assert (packed.shape[1] == product_loops.SQUARE) == (channels >= 8)
    found = np.zeros(expected.shape, np.int32)
    rows = batch * expected.shape[1]
    middle = int(random.integers(0, rows + 1))
    for first, last in ((0, middle), (middle, rows)):
        product_loops.convolve(difference, packed, (3, 3), (1, 1), (padding[0], padding[2]), first, last, found)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("channels", "in_squares"), [(1841, True), (1842, False)])
def test_squares_are_taken_where_their_fourfold_sums_hold(channels, in_squares):
    """255 * 9 * 1841 * 127 is the last one below 2**29."""
    weight = np.full((2, 3, 3, channels), -127, np.int8)
    weight[1] = 127
    assert (product_loops.pack(weight).shape[1] == product_loops.SQUARE) == in_squares
    product = integer_convolution(weight, (1, 1), (0, 0, 0, 0), "int16")
    for value in (-255, 255):
        difference = np.full((1, 4, 4, channels), value, np.int16)
        assert np.array_equal(
            product.of_difference(difference), convolve(difference, weight, (1, 1), (0, 0, 0, 0)).reshape(1, 4, 2)
        )


@pytest.mark.parametrize("module", [vector_loops, product_loops])
def test_no_compiled_loop_calls_one_of_another_file(module):
    """numba's cache on disk would keep what it compiled in when only that file changes; the digit rule is as final as widths."""
    loops = {each.py_func for each in vars(module).values() if isinstance(each, Dispatcher)} - {digits_of}
    assert loops and {loop.__module__ for loop in loops} == {module.__name__}


ASSEMBLY = """
from ditto_zynq.host.compute.product_loops import _multiply
_multiply.compile("void(int64, int64[::1], int64[::1], int64, int16[:, :, :, :, ::1], int64, int32[:, ::1])")
print(*_multiply.inspect_asm().values())
"""


@pytest.mark.parametrize(
    ("cpu", "instruction", "sums"),
    [(CPUS["avx2"], "vpmaddwd", 12), (CPUS["avx512"], "vpmaddwd", 6), (WITH_VNNI, "vpdpwssd", 6)],
    ids=["avx2", "avx512", "vnni"],
)
def test_a_pair_of_products_is_one_instruction(cpu, instruction, sums, tmp_path):
    """What LLVM makes of a tile for other CPUs, whichever this one is: no products of 32 bits, and all sums in registers."""
    if platform.machine() != "x86_64":
        pytest.skip("these are instructions of x86-64")
    environment = {**os.environ, **cpu, "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", ASSEMBLY], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    found = [line for line in lines if line and line[0] == instruction]
    assert len(found) == sums and not any(line and line[0] == "vpmulld" for line in lines)
