"""Integer products are exact on every backend, at the ends of every range; and an inexact backend is never used."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators.convolution import convolve
from ditto_zynq.host.compute import product_loops, products
from ditto_zynq.host.compute.products import attention_product, choose_backend, integer_convolution, vnni_is_exact
from ditto_zynq.host.compute.team import Team
from hypothesis import given, settings
from hypothesis import strategies as st

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
    product = integer_convolution(weight, stride, padding, backend, TEAM)
    codes = operands(random, (batch, *size), extreme, -128, 127).astype(np.int8)
    expected = convolve(codes, weight, stride, padding).reshape(batch, -1, outputs)
    assert np.array_equal(product(codes), expected)
    difference = operands(random, (batch, *size), extreme, -255, 255).astype(np.int16)
    expected = convolve(difference, weight, stride, padding).reshape(batch, -1, outputs)
    assert np.array_equal(product.of_difference(difference), expected)


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
    assert np.array_equal(integer_convolution(weight, stride, padding, backend)(codes), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("channels", "kernel"), [(114, 3), (116, 3), (512, 3), (4608, 1), (520, 1), (1033, 1)])
@pytest.mark.parametrize("code", [-128, 127])
def test_the_largest_sums_stay_exact(backend, channels, kernel, code):
    """All operands at the ends of their ranges: sums far beyond 2**24, odd, so that float32 alone would round them."""
    weight = np.full((3, kernel, kernel, channels), 127, np.int8)
    weight[1], weight[2, 0, 0, 0] = -127, 126
    product = integer_convolution(weight, (1, 1), (0, 0, 0, 0), backend)
    codes = np.full((1, kernel, kernel + 1, channels), code, np.int8)
    codes[0, 0, 0, 0] = 1
    assert np.array_equal(product(codes), convolve(codes, weight, (1, 1), (0, 0, 0, 0)).reshape(1, -1, 3))
    difference = np.where(codes > 0, 255, -255).astype(np.int16)
    expected = convolve(difference, weight, (1, 1), (0, 0, 0, 0)).reshape(1, -1, 3)
    assert np.array_equal(product.of_difference(difference), expected)


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [15, 16, 17])
def test_large_batches_stay_exact(backend, batch):
    """PyTorch chooses its convolution algorithm by the batch too, and Winograd's would not be exact."""
    random = np.random.default_rng(batch)
    weight = random.integers(-127, 128, (24, 3, 3, 32)).astype(np.int8)
    codes = random.integers(-128, 128, (batch, 12, 12, 32)).astype(np.int8)
    expected = convolve(codes, weight, (1, 1), (1, 1, 1, 1)).reshape(batch, -1, 24)
    assert np.array_equal(integer_convolution(weight, (1, 1), (1, 1, 1, 1), backend)(codes), expected)


def test_the_self_test_catches_wrong_sums(monkeypatch):
    def saturating(*arguments):
        convolve_exactly(*arguments)
        np.clip(arguments[-1], -32768, 32767, out=arguments[-1])

    convolve_exactly = product_loops.convolve
    assert products._passes_self_test("int16")
    monkeypatch.setattr(product_loops, "convolve", saturating)
    assert not products._passes_self_test("int16")


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
        product = integer_convolution(weight, (1, 1), (1, 1, 1, 1), backend)
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
        assert integer_convolution(weight, (1, 1), (0, 0, 0, 0), backend)(codes) == 33 * 33 * 2 * 127 * 127
        return
    reach = 33 * 33 * 127 * magnitude
    with pytest.raises(ValueError, match=f"found a 33x33 kernel whose sums over one channel may reach {reach}"):
        integer_convolution(weight, (1, 1), (0, 0, 0, 0), backend)


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
