"""What the plans in descriptors must be, so that blocks, chunks and passes fit the buffers: the limits of :mod:`.plan`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..contract.arithmetic import ceil_divide
from .accesses import Sizes, times
from .config import HardwareConfig
from .isa import Flag
from .refusal import Rules


def check_plans(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    """A convolution has one plan, an attention product one for each of its two sub-operations."""
    one, never, c = np.ones_like(s.opcode), np.zeros_like(s.is_linear), s.convolution
    convolution = _Planned(
        prefix="",
        here=s.is_convolution,
        rows=c["output_height"],
        width=c["output_width"],
        input_rows=c["height"],
        encoded_width=c["width"] + c["extra_columns"],
        kernel_height=c["kernel_height"],
        stride=c["stride_height"],
        taps=s.taps,
        channels=c["channels"],
        outputs=c["output_channels"],
        staged=never,
        gathered=never,
    )
    first = _Planned(
        prefix="",
        here=s.is_attention,
        rows=s.queries,
        width=one,
        input_rows=s.queries,
        encoded_width=one,
        kernel_height=one,
        stride=one,
        taps=one,
        channels=s.inner,
        outputs=s.columns,
        staged=s.is_scores,
        gathered=never,
    )
    second = replace(first, prefix="other_", rows=s.columns, input_rows=s.columns, outputs=s.queries)
    second = replace(second, staged=~never, gathered=s.is_mix)
    for planned in (convolution, first, second):
        _check_plan(rules, s, config, planned)


@dataclass(frozen=True)
class _Planned:
    """What the plan in the fields that begin with ``prefix`` is of, where it is ``here``; arrays [n], bool or int64.

    ``rows`` x ``width`` results of ``outputs`` channels, by windows of ``kernel_height`` rows and ``taps`` taps, ``stride`` rows
    apart, over ``input_rows`` x ``encoded_width`` operands of ``channels``; ``staged``, ``gathered``: through which buffers.
    """

    prefix: str
    here: np.ndarray
    rows: np.ndarray
    width: np.ndarray
    input_rows: np.ndarray
    encoded_width: np.ndarray
    kernel_height: np.ndarray
    stride: np.ndarray
    taps: np.ndarray
    channels: np.ndarray
    outputs: np.ndarray
    staged: np.ndarray
    gathered: np.ndarray


def _check_plan(rules: Rules, s: Sizes, config: HardwareConfig, p: _Planned) -> None:
    block, chunk, tiles = s[f"{p.prefix}block_rows"], s[f"{p.prefix}chunk_channels"], s[f"{p.prefix}pass_tiles"]
    resident = s.has(Flag.OTHER_RESIDENT if p.prefix else Flag.RESIDENT)
    lanes, bus = config.lanes, config.bus_bytes
    whole = (block >= 1) & (block <= p.rows) & (tiles >= 1) & (tiles <= ceil_divide(p.outputs, config.oc_tile))
    whole &= (chunk >= 1) & (chunk <= p.channels) & ((chunk % lanes == 0) | (chunk == p.channels))
    rules.require(~p.here | whole, f"{p.prefix}blocks, chunks and passes of the operator")
    words, all_words = ceil_divide(chunk, lanes), ceil_divide(p.channels, lanes)
    positions = times(np.minimum((block - 1) * p.stride + p.kernel_height, p.input_rows), p.encoded_width)
    legal = (positions <= config.positions) & (times(positions, words) <= config.digit_depth)
    legal &= times(block, p.width, tiles) <= config.accumulator_depth
    legal &= times(tiles, p.taps, np.where(resident, all_words, words)) <= config.weight_depth
    legal &= ~p.staged | (words * lanes <= config.staging_depth)
    legal &= ~p.gathered | (ceil_divide(chunk, bus) * block <= config.gather_bytes // bus)
    rules.require(~p.here | legal, f"{p.prefix}blocks, chunks and passes that fit the buffers")
