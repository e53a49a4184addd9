"""Integer products are exact on every backend, at the ends of every range; and an inexact backend is never used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators.convolution import convolve
from ditto_zynq.hls.machine.isa import DESCRIPTOR, Opcode
from ditto_zynq.host.compute import product_loops, products, vector_loops
from ditto_zynq.host.compute.float_products import channel_chunks
from ditto_zynq.host.compute.products import attention_product, choose_backend, convolution_product, vnni_is_exact
from ditto_zynq.host.compute.team import Team
from ditto_zynq.host.devices.emulator import backend_for
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

from tests.cpus import CPUS, WITH_VNNI

TEAM = Team(3)
BACKENDS = ["int16", "numpy"] + (["vnni"] if vnni_is_exact() else [])


def operands(random, shape, extreme, low, high):
    if extreme:
        return random.choice([low, high], shape)
    return random.integers(low, high + 1, shape)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 3, 5, 16, 33])),
    outputs=st.sampled_from([1, 2, 7, 16, 40]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    extreme=st.booleans(),
)
def test_convolutions_equal_the_reference(backend, seed, batch, size, outputs, kernel, stride, padding, extreme):
    height, width, channels = size
    if height + padding[0] + padding[1] < kernel[0] or width + padding[2] + padding[3] < kernel[1]:
        return
    random = np.random.default_rng(seed)
    weight = operands(random, (outputs, *kernel, channels), extreme, -127, 127).astype(np.int8)
    product = convolution_product(weight, stride, padding, backend, TEAM)
    codes = operands(random, (batch, *size), extreme, -128, 127).astype(np.int8)
    expected = convolve(codes, weight, stride, padding).reshape(batch, -1, outputs)
    assert np.array_equal(product(codes), expected)
    difference = operands(random, (batch, *size), extreme, -255, 255).astype(np.int16)
    expected = convolve(difference, weight, stride, padding).reshape(batch, -1, outputs)
    assert np.array_equal(product.of_difference(difference), expected)


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
    product = convolution_product(weight, (1, 1), (0, 0, 0, 0), "int16")
    for value in (-255, 255):
        difference = np.full((1, 4, 4, channels), value, np.int16)
        assert np.array_equal(
            product.of_difference(difference), convolve(difference, weight, (1, 1), (0, 0, 0, 0)).reshape(1, 4, 2)
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("size", "outputs", "kernel", "stride", "padding"),
    [
        ((1, 2, 2, 1), 20, (1, 2), (1, 2), (0, 0, 0, 0)),  # int8: one channel, an output one pixel wide
        ((2, 1, 1, 1), 1, (2, 3), (1, 2), (2, 2, 1, 2)),  # the same, with padding on all sides
        ((2, 8, 1, 3), 16, (3, 1), (1, 3), (2, 2, 1, 1)),  # int8: windows that see only padding
    ],
)
def test_what_onednn_gets_wrong(backend, size, outputs, kernel, stride, padding):
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (outputs, *kernel, size[3])).astype(np.int8)
    codes = random.integers(-128, 128, size).astype(np.int8)
    expected = convolve(codes, weight, stride, padding).reshape(size[0], -1, outputs)
    assert np.array_equal(convolution_product(weight, stride, padding, backend)(codes), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("channels", "kernel"), [(114, 3), (116, 3), (512, 3), (4608, 1), (520, 1), (1033, 1)])
@pytest.mark.parametrize("code", [-128, 127])
def test_the_largest_sums_stay_exact(backend, channels, kernel, code):
    """All operands at the ends of their ranges: sums far beyond 2**24, odd, so that float32 alone would round them."""
    weight = np.full((3, kernel, kernel, channels), 127, np.int8)
    weight[1], weight[2, 0, 0, 0] = -127, 126
    product = convolution_product(weight, (1, 1), (0, 0, 0, 0), backend)
    codes = np.full((1, kernel, kernel + 1, channels), code, np.int8)
    codes[0, 0, 0, 0] = 1
    assert np.array_equal(product(codes), convolve(codes, weight, (1, 1), (0, 0, 0, 0)).reshape(1, -1, 3))
    difference = np.where(codes > 0, 255, -255).astype(np.int16)
    expected = convolve(difference, weight, (1, 1), (0, 0, 0, 0)).reshape(1, -1, 3)
    assert np.array_equal(product.of_difference(difference), expected)


@pytest.mark.parametrize("magnitude", [128, 255])
def test_chunks_keep_every_float32_sum_exact(magnitude):
    weight = np.full((2, 3, 3, 700), 127, np.int8)
    chunks = channel_chunks(weight, magnitude)
    assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]] and chunks[-1].stop == 700
    assert all(magnitude * 127 * 9 * (chunk.stop - chunk.start) < 2**24 for chunk in chunks)


@pytest.mark.parametrize("backend", ["int16", "numpy"])
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.sampled_from([1, 7, 49, 600, 1100])),
    columns=st.integers(1, 9),
    extreme=st.booleans(),
)
def test_attention_products_equal_integers(backend, seed, shape, columns, extreme):
    random = np.random.default_rng(seed)
    left = operands(random, shape, extreme, -255, 255).astype(np.int16)
    right = operands(random, (*shape[:2], shape[3], columns), extreme, -128, 127).astype(np.int8)
    found = attention_product(left, right, backend, TEAM)
    assert np.array_equal(found, left.astype(np.int64) @ right.astype(np.int64))


def test_backends_are_chosen_or_refused(monkeypatch):
    assert choose_backend("numpy") == "numpy" and choose_backend("int16") == "int16"
    assert choose_backend() == ("vnni" if vnni_is_exact() else "int16")
    with pytest.raises(ValueError, match="found backend 'cuda', expected one of vnni, int16, numpy"):
        choose_backend("cuda")
    monkeypatch.setattr(products, "vnni_is_exact", lambda: False)
    assert choose_backend() == "int16"
    with pytest.raises(ValueError, match="gives wrong sums here; use 'int16'"):
        choose_backend("vnni")
    monkeypatch.setattr(products, "int16_is_exact", lambda: False)
    assert choose_backend() == "numpy"
    with pytest.raises(ValueError, match="backend 'int16' gives wrong sums here; use 'numpy'"):
        choose_backend("int16")


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


def test_the_self_test_catches_saturating_sums():
    """Without VNNI instructions oneDNN's int8 sums saturate at 16 bits: made so here, the self-test must notice."""
    code = (
        "import torch; torch.cpu._is_vnni_supported = lambda: True\n"
        "from ditto_zynq.host.compute import products\n"
        "test, ran = products._passes_self_test, []\n"
        "products._passes_self_test = lambda backend: (ran.append(backend), test(backend))[1]\n"
        "print(products.vnni_is_exact(), products.choose_backend(), *ran)"
    )
    environment = {**os.environ, **CPUS["avx2"]}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["False", "int16", "vnni", "int16"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [15, 16, 17])
def test_large_batches_stay_exact(backend, batch):
    """PyTorch chooses its convolution algorithm by the batch too, and Winograd's would not be exact."""
    random = np.random.default_rng(batch)
    weight = random.integers(-127, 128, (24, 3, 3, 32)).astype(np.int8)
    codes = random.integers(-128, 128, (batch, 12, 12, 32)).astype(np.int8)
    expected = convolve(codes, weight, (1, 1), (1, 1, 1, 1)).reshape(batch, -1, 24)
    assert np.array_equal(convolution_product(weight, (1, 1), (1, 1, 1, 1), backend)(codes), expected)


def test_the_self_test_catches_wrong_sums(monkeypatch):
    def saturating(*arguments):
        convolve_exactly(*arguments)
        np.clip(arguments[-1], -32768, 32767, out=arguments[-1])

    convolve_exactly = product_loops.convolve
    assert products._passes_self_test("int16")
    monkeypatch.setattr(product_loops, "convolve", saturating)
    assert not products._passes_self_test("int16")


@pytest.mark.parametrize("module", [vector_loops, product_loops])
def test_no_compiled_loop_calls_one_of_another_file(module):
    """numba's cache on disk would keep what it compiled in when only that file changes."""
    loops = {name: each for name, each in vars(module).items() if isinstance(each, Dispatcher)}
    assert loops and {each.py_func.__module__ for each in loops.values()} == {module.__name__}


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


@pytest.mark.parametrize("backend", BACKENDS)
def test_settings_of_the_caller_change_no_sum(backend):
    """Automatic mixed precision, default dtype and default device belong to the caller's own model."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (8, 3, 3, 64)).astype(np.int8)
    codes = random.integers(-128, 128, (2, 6, 6, 64)).astype(np.int8)
    left = random.integers(-255, 256, (2, 3, 7, 600)).astype(np.int16)
    right = random.integers(-128, 128, (2, 3, 600, 5)).astype(np.int8)
    expected = convolve(codes, weight, (1, 1), (1, 1, 1, 1)).reshape(2, -1, 8)
    mixed = left.astype(np.int64) @ right.astype(np.int64)

    def check() -> None:
        product = convolution_product(weight, (1, 1), (1, 1, 1, 1), backend)
        assert np.array_equal(product(codes), expected)
        assert np.array_equal(attention_product(left, right, backend), mixed)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        check()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        check()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize(("backend", "magnitude"), [("vnni", 128), ("int16", None), ("numpy", 255)])
def test_a_kernel_too_large_to_be_exact_is_refused(backend, magnitude):
    if backend not in BACKENDS:
        pytest.skip("this CPU has no VNNI")
    weight = np.full((1, 33, 33, 2), 127, np.int8)
    if magnitude is None:
        codes = np.full((1, 33, 33, 2), 127, np.int8)
        assert convolution_product(weight, (1, 1), (0, 0, 0, 0), backend)(codes) == 33 * 33 * 2 * 127 * 127
        return
    reach = 33 * 33 * 127 * magnitude
    with pytest.raises(ValueError, match=f"found a 33x33 kernel whose sums over one channel may reach {reach}"):
        convolution_product(weight, (1, 1), (0, 0, 0, 0), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keys", [512, 513, 1030, 4608])
@pytest.mark.parametrize("difference", [-255, 255])
def test_the_largest_attention_sums_stay_exact(backend, keys, difference):
    """All products of one sign, and an odd sum: more than 512 of them would be rounded in float32."""
    left, right = np.full((1, 2, 3, keys), difference, np.int16), np.full((1, 2, keys, 4), -128, np.int8)
    left[..., 0], right[..., 0, :] = 1, 1
    expected = np.full((1, 2, 3, 4), 1 - 128 * difference * (keys - 1))
    assert np.array_equal(attention_product(left, right, backend), expected)
    swapped = attention_product(right.swapaxes(2, 3).copy(), left.swapaxes(2, 3).copy(), backend)
    assert np.array_equal(swapped, expected.swapaxes(2, 3))
