"""The vector unit's functions equal the reference in every bit, compiled or not, on slices of wider buffers."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract import operators
from ditto_zynq.hls.contract.arithmetic import CODE_RANGE, VALUE_RANGE, requantize, round_shift, saturate
from ditto_zynq.host.compute import vector
from ditto_zynq.host.compute.team import Team
from hypothesis import given, settings
from hypothesis import strategies as st

TEAM = Team(2)
FUZZ = settings(max_examples=80)
SEED = st.integers(0, 2**32 - 1)
SHAPE = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 35))  # samples, pixels, channels
SHIFT = st.sampled_from([0, 1, 2, 15, 31, 47, 62])
KINDS = st.sampled_from([(np.int8, CODE_RANGE), (np.int16, VALUE_RANGE)])
UNTOUCHED = 77


@pytest.fixture(params=["compiled", "NumPy"], autouse=True)
def implementation(request, monkeypatch):
    if request.param == "compiled" and not vector.ACCELERATED:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(vector, "ACCELERATED", request.param == "compiled")


def values(random: np.random.Generator, shape: tuple[int, ...], dtype: type = np.int16) -> np.ndarray:
    """Any values, or only those at the ends and around zero, where rounding and saturation go wrong."""
    limits = np.iinfo(dtype)
    if random.random() < 0.3:
        return random.choice(np.array([limits.min, limits.min + 1, -1, 0, 1, limits.max], dtype), shape)
    return random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def embed(random: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """``x`` as the first channels of a wider buffer full of other values."""
    wide = values(random, (*x.shape[:2], x.shape[2] + int(random.integers(0, 9))), x.dtype.type)
    wide[:, :, : x.shape[2]] = x
    return wide


def target(random: np.random.Generator, shape: tuple[int, int, int], dtype: type) -> np.ndarray:
    return np.full((*shape[:2], shape[2] + int(random.integers(0, 9))), UNTOUCHED, dtype)


def assert_written(out: np.ndarray, expected: np.ndarray) -> None:
    """The tensor's channels hold ``expected``; the rest of the buffer was left alone."""
    channels = expected.shape[2]
    assert np.array_equal(out[:, :, :channels], expected)
    assert np.all(out[:, :, channels:] == UNTOUCHED)


def multiplier_of(random: np.random.Generator, shift: int, reach: float, shape: tuple[int, ...] = ()) -> np.ndarray:
    """31-bit multipliers: such that results use the range and leave it, or any at all."""
    if random.random() < 0.3:
        return random.integers(-(2**31) + 1, 2**31, shape).astype(np.int32)
    return np.clip(np.rint(random.normal(0, 2.0**shift * reach, shape)), -(2**31) + 1, 2**31 - 1).astype(np.int32)


@FUZZ
@given(
    seed=SEED,
    shape=SHAPE,
    shift=SHIFT,
    kind=KINDS,
    conditional=st.booleans(),
    single=st.booleans(),
    gated=st.booleans(),
)
@pytest.mark.parametrize("accumulators", [np.int32, np.float32])
def test_requantize_rows(accumulators, seed, shape, shift, kind, conditional, single, gated):
    random = np.random.default_rng(seed)
    batch, _, channels = shape
    reach = 2**24 if accumulators is np.float32 else 2**30
    acc = (
        random.choice([-reach, reach, 0, 1, -1], shape) if seed % 3 == 0 else random.integers(-reach, reach + 1, shape)
    )
    bias = random.integers(-(2**30), 2**30, (batch if conditional else 1, channels)).astype(np.int32)
    rows = batch if gated else 1
    multiplier = multiplier_of(random, shift, kind[1][1] / 2**30, (rows, 1 if single else channels))
    out = target(random, shape, kind[0])
    vector.requantize_rows(acc.astype(accumulators), bias, multiplier, shift, out)
    total = acc.astype(np.int64) + bias[:, None].astype(np.int64)
    assert_written(out, requantize(total, multiplier[:, None], shift, kind[1]))


def two_parts(x: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Written out: codes, then what they leave of ``x * multiplier / 2**shift``, in 16ths."""
    codes = requantize(x, multiplier, shift, CODE_RANGE)
    sixteenths = round_shift(16 * x.astype(np.int64) * multiplier, shift)
    return np.concatenate([codes, saturate(sixteenths - 16 * codes, CODE_RANGE)], axis=2)


def quantized(x: np.ndarray, quantizer: vector.Quantizer) -> np.ndarray:
    parameters = (quantizer.multiplier, quantizer.shift)
    return two_parts(x, *parameters) if quantizer.fine else requantize(x, *parameters, CODE_RANGE)


@FUZZ
@given(seed=SEED, shape=SHAPE, shift=SHIFT, fine=st.booleans())
def test_quantize(seed, shape, shift, fine):
    random = np.random.default_rng(seed)
    x, multiplier = values(random, shape), int(multiplier_of(random, shift, CODE_RANGE[1] / 2**14))
    quantizer = vector.Quantizer(multiplier, shift, fine)
    out = target(random, (*shape[:2], 2 * shape[2] if fine else shape[2]), np.int8)
    vector.quantize(embed(random, x), shape[2], quantizer, out)
    assert_written(out, quantized(x, quantizer))


@FUZZ
@given(seed=SEED, shape=SHAPE, shift=SHIFT)
def test_add(seed, shape, shift):
    random = np.random.default_rng(seed)
    a, b = values(random, shape), values(random, shape)
    first, second = (int(multiplier_of(random, shift, 1.0)) for _ in range(2))
    out = target(random, shape, np.int16)
    vector.add(embed(random, a), embed(random, b), shape[2], (first, second), shift, out)
    total = a.astype(np.int64) * first + b.astype(np.int64) * second
    assert_written(out, saturate(round_shift(total, shift), VALUE_RANGE))


@pytest.mark.parametrize("bits", range(1, 12))
def test_activations_of_every_int16(bits):
    x = np.arange(-(2**15), 2**15).astype(np.int16).reshape(4, 128, 128)
    random = np.random.default_rng(bits)
    out = target(random, x.shape, np.int16)
    for kind in operators.activation.OPERATORS:
        vector.activate(embed(random, x), 128, vector.Activation(kind, bits), out)
        assert_written(out, kind.function(x, bits))


@FUZZ
@given(
    seed=SEED,
    shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 4, 49, 300]), st.integers(1, 4), st.integers(1, 9)),
    constant=st.booleans(),
    conditional=st.booleans(),
    activation=st.sampled_from(
        [
            None,
            vector.Activation(operators.SiLU, 6),
            vector.Activation(operators.GELU, 8),
            vector.Activation(operators.SiLU, 11),
            vector.Activation(operators.ReLU, 0),
        ]
    ),
    quantizes=st.sampled_from(["not", "coarse", "fine"]),
)
def test_group_norm(seed, shape, constant, conditional, activation, quantizes):
    """As composed of the reference's normalization, SiLU and quantizer; ``constant``: no variance but epsilon."""
    random = np.random.default_rng(seed)
    batch, pixels, groups, per_group = shape
    channels = groups * per_group
    x = values(random, (batch, pixels, channels))
    x = np.broadcast_to(x[:1, :1, :1], x.shape).copy() if constant else x
    rows = batch if conditional else 1
    gain = random.integers(-(2**21) + 1, 2**21, (rows, channels)).astype(np.int32)
    offset = random.integers(-(2**36), 2**36, (rows, channels)).astype(np.int64)
    gain_bits = int(random.integers(0, 29))
    epsilon = int(random.choice([1, 2**20, 2**40]))
    shift = int(random.choice([0, 8, 30]))
    fine = quantizes == "fine"
    multiplier = int(multiplier_of(random, shift, 2.0**-8))
    quantizer = None if quantizes == "not" else vector.Quantizer(multiplier, shift, fine)

    out = target(random, (batch, pixels, 2 * channels if fine else channels), np.int8 if quantizer else np.int16)
    numbers = (gain_bits, epsilon)
    vector.group_norm(embed(random, x), channels, groups, gain, offset, *numbers, activation, quantizer, out)
    wide = [np.broadcast_to(table, (batch, channels)) for table in (gain, offset)]
    expected = operators.norm.group_norm(x[:, :, None], groups, *wide, *numbers)[:, :, 0]
    expected = expected if activation is None else activation(expected)
    assert_written(out, quantized(expected, quantizer) if quantizer else expected)


@pytest.mark.parametrize("pixels", [1 << 12, (1 << 12) + 1, 7680, (1 << 13) - 1])
@pytest.mark.parametrize("kind", ["ends", "lowest", "random"])
def test_group_norm_of_the_largest_groups_keeps_64_bits(pixels, kind):
    """2**16 members and up to nearly 2**17, at the ends of the range, with the largest gain: the longest sums there are."""
    x = np.full((1, pixels, 16), -32768, np.int16)
    if kind == "ends":
        x[:, ::2] = 32767
    elif kind == "random":
        x[...] = values(np.random.default_rng(pixels), x.shape)
    gain, offset = np.full((1, 16), 2**21 - 1, np.int32), np.zeros((1, 16), np.int64)
    gain_bits, epsilon = 6, 1 << 60
    out = np.zeros_like(x)
    vector.group_norm(x, 16, 1, gain, offset, gain_bits, epsilon, None, None, out)
    assert np.array_equal(out, operators.norm.group_norm(x[:, :, None], 1, gain, offset, gain_bits, epsilon)[:, :, 0])
    members = [int(value) for value in x.ravel()]
    count, total = len(members), sum(members)
    spread = count * sum(value * value for value in members) - total * total + epsilon  # exact: Python's integers
    exact = (x.astype(float) - total / count) * ((2**21 - 1) / 2**6 * count / np.sqrt(float(spread)))
    assert np.abs(out - np.clip(exact, -32768, 32767)).max() <= 1.0


@FUZZ
@given(
    seed=SEED,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from([1, 2, 49, 200])),
    shift=st.sampled_from([0, 1, 14, 20, 31]),
)
def test_softmax(seed, shape, shift):
    random = np.random.default_rng(seed)
    x = values(random, shape)
    if seed % 2:
        x[:, 0] = x[:, 0, :1]  # a row of equal logits
    multiplier = int(random.integers(0, max(2, min(2**31, 2**shift * 16))))
    out = np.full(shape, UNTOUCHED, np.int8)
    vector.softmax(x, multiplier, shift, out)
    assert np.array_equal(out, operators.softmax.softmax(x, multiplier, shift))
    assert np.all(out.max(axis=2) == 127)


@FUZZ
@given(
    seed=SEED,
    shape=st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 49, 4096])),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    windows=st.integers(1, 3),
    interleaved=st.booleans(),
    depth=st.sampled_from([1, 5, 16]),
    low=st.sampled_from([-128, 0, 127]),
    shift=st.sampled_from([0, 1, 20, 31]),
    dtype=st.sampled_from([np.int8, np.int16]),
    extra=st.integers(0, 2),
)
def test_means_of_values(seed, shape, batch, heads, windows, interleaved, depth, low, shift, dtype, extra):
    """Also of codes that no softmax gives, whose sums are not positive."""
    random = np.random.default_rng(seed)
    codes = random.integers(low, 128, (batch, windows * heads, *shape)).astype(np.int8)
    sums = random.integers(-(2**31), 2**31, (*codes.shape[:3], depth)).astype(np.int32)
    multiplier = int(random.integers(-(2**31), 2**31))
    out = np.full((batch, windows * shape[0], heads * depth + extra), UNTOUCHED, dtype)
    expected = out.copy()
    vector.requantize_mix(sums, codes, multiplier, shift, heads, windows, interleaved, out, TEAM)
    rows = operators.softmax.row_multipliers(codes, multiplier)
    means = requantize(sums.astype(np.int64), rows, shift, (np.iinfo(dtype).min, np.iinfo(dtype).max))
    expected[:, :, : heads * depth] = operators.attention.join_heads(means, heads, windows, interleaved)
    assert np.array_equal(out, expected)
