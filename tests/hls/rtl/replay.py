"""Recorded blocks through the RTL: their sums must be the C simulation's, and their cycles are counted by a clock."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ditto_zynq.hls.config import HardwareConfig
from ditto_zynq.hls.verilog import core_parameters

from .cases import RecordedCase
from .recording import RecordedBlock, Recording
from .simulators import Simulation

SETS_BITS = 20  # of an address in all sets of weights


@dataclass(frozen=True)
class Replayed:
    """``cycles`` of the compute unit: of every run its slowest core's, blocks following each other."""

    cycles: int
    predicted: int
    sums: int


def build(config: HardwareConfig, folder: Path, **queues: int) -> Simulation:
    """bench_layer.sv under Verilator. ``queues``: depths of the core's, by their parameters' names."""
    return Simulation("verilator", "bench_layer", folder, core_parameters(config) | {"WEIGHT_BITS": SETS_BITS} | queues)


def replay(simulation: Simulation, config: HardwareConfig, recording: Recording) -> Replayed:
    """AssertionError where a sum differs."""
    blocks = sorted(recording.blocks, key=lambda each: (each.core, each.run))
    folder = simulation.folder / "case"
    folder.mkdir(exist_ok=True)
    _write(folder, config, recording.weights, blocks)
    simulation.run("layer_bench", [f"+folder={folder}"])
    taken, sums = _check((folder / "results.txt").read_text().splitlines(), config, blocks)
    slowest: dict[int, int] = {}
    for each, cycles in zip(blocks, taken, strict=True):
        slowest[each.run] = max(slowest.get(each.run, 0), cycles)
    return Replayed(sum(slowest.values()), recording.predicted(), sums)


def check_cycles(recorded: RecordedCase, replayed: Replayed) -> None:
    """AssertionError where the clock and the cycle model, or the recording and ``profile``, do not agree."""
    blocks = recorded.recording.blocks
    assert sum(block.cycles for block in blocks) == recorded.compute_cycles
    assert sum(block.taps for block in blocks) == recorded.tap_cycles
    assert abs(replayed.cycles - replayed.predicted) <= max(0.02 * replayed.predicted, 20), replayed


def _write(folder: Path, config: HardwareConfig, weights: list[np.ndarray], blocks: list[RecordedBlock]) -> None:
    kept: dict[bytes, tuple[int, int]] = {}
    lines, counts, entries = [], [], []
    depth = 1 << (config.weight_depth - 1).bit_length()
    phases = _phases(blocks)
    for each, phase, following in zip(blocks, phases, [*phases[1:], None], strict=True):
        lists = each.lists
        key = b"".join(np.ascontiguousarray(part).tobytes() for part in (lists.counts, lists.digits, lists.words))
        if key not in kept:
            kept[key] = len(counts), len(entries)
            counts += _words(lists.counts, config.word_bits + 1)
            entries += _words((lists.digits & 31) | (lists.words << 5), config.word_bits + 5)
        fields = each.block.fields()
        fields["first_weight"] += each.weights * depth
        lines.append(_hexadecimal([*kept[key], *fields.values(), phase, phase != following], 32))
    (folder / "block_count.hex").write_text(f"{len(blocks):x}\n")
    (folder / "blocks.hex").write_text("\n".join(lines) + "\n")
    (folder / "counts.hex").write_text("\n".join(counts) + "\n")
    (folder / "entries.hex").write_text("\n".join(entries) + "\n")
    with (folder / "weights.hex").open("w") as file:
        for index, codes in enumerate(weights):
            file.write(f"@{index * depth:x}\n")
            for address in range(codes.shape[1]):
                file.write(codes[::-1, address, ::-1].tobytes().hex() + "\n")


def _phases(blocks: list[RecordedBlock]) -> list[int]:
    """Of each block, counted over all cores."""
    starts = [(before.core, before.phase) != (each.core, each.phase) for before, each in itertools.pairwise(blocks)]
    return np.cumsum([0, *starts]).tolist()


def _words(lists: np.ndarray, bits: int) -> list[str]:
    """[lanes, 2, N] as N words of all lanes' fields, the first one lowest."""
    return [_hexadecimal(lists[:, :, index].ravel(), bits) for index in range(lists.shape[2])]


def _hexadecimal(fields: list[int] | np.ndarray, bits: int) -> str:
    mask, word = (1 << bits) - 1, 0
    for field in reversed([int(field) for field in fields]):
        word = word << bits | (field & mask)
    return f"{word:x}"


def _check(lines: list[str], config: HardwareConfig, blocks: list[RecordedBlock]) -> tuple[list[int], int]:
    """Of each block the cycles since the one before it; and how many sums were compared."""
    found, ends = iter(lines), []
    address_bits = (config.accumulator_depth - 1).bit_length()
    compared = 0
    for index, (each, phase) in enumerate(zip(blocks, _phases(blocks), strict=True)):
        for pixel, wanted in enumerate(each.sums):
            address, word = next(found).split()
            assert int(address, 16) == (phase % 2) << address_bits | (each.block.first_sum + pixel), (index, pixel)
            values = np.frombuffer(bytes.fromhex(word)[::-1], "<i4")
            assert np.array_equal(values, wanted), f"block {index}, pixel {pixel}"
            compared += len(values)
        ended = next(found).split()
        assert ended[0] == "done", f"block {index} gives more sums than {len(each.sums)}"
        ends.append(int(ended[1]))
    return np.diff([0, *ends]).tolist(), compared
