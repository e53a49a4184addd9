"""Recorded blocks through the RTL: their sums must be the C simulation's, and their cycles are counted by a clock."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ditto_zynq.hls.build.verilog import core_parameters
from ditto_zynq.hls.machine.config import HardwareConfig

from .cases import RecordedCase
from .recording import RecordedBlock, Recording
from .simulators import Simulation

SETS_BITS = 20  # of an address in all sets of weights


@dataclass(frozen=True)
class Replayed:
    """``cycles`` from the start to the last sum, of all cores; ``predicted`` by the cycle model; ``sums`` that were compared."""

    cycles: int
    predicted: int
    sums: int


def build(config: HardwareConfig, folder: Path, **queues: int) -> Simulation:
    """bench_layer.sv under Verilator. ``queues``: depths of the cores', by their parameters' names."""
    parameters = core_parameters(config) | {"CORES": config.cores, "WEIGHT_BITS": SETS_BITS}
    return Simulation("verilator", "bench_layer", folder, parameters | queues)


def replay(simulation: Simulation, config: HardwareConfig, recording: Recording, free: bool = False) -> Replayed:
    """AssertionError where a sum differs. ``free``: a core does not wait for the others before it begins a phase."""
    folder = simulation.folder / "case"
    folder.mkdir(exist_ok=True)
    of_cores = [
        sorted((each for each in recording.blocks if each.core == core), key=lambda each: (each.phase, each.tile))
        for core in range(config.cores)
    ]
    _write(folder, config, recording.weights, of_cores)
    simulation.run("layer_bench", [f"+folder={folder}"] + ["+free"] * free)
    checked = [
        _check((folder / f"results_{core}.txt").read_text().splitlines(), config, blocks)
        for core, blocks in enumerate(of_cores)
    ]
    ends, sums = zip(*checked, strict=True)
    return Replayed(max(ends), recording.predicted(config), sum(sums))


def check_cycles(recorded: RecordedCase, replayed: Replayed) -> None:
    """AssertionError where the clock and the cycle model, or the recording and ``profile``, do not agree."""
    blocks = recorded.recording.blocks
    assert sum(block.cycles for block in blocks) == recorded.compute_cycles
    assert sum(block.taps for block in blocks) == recorded.tap_cycles
    assert abs(replayed.cycles - replayed.predicted) <= max(0.02 * replayed.predicted, 20), replayed


def _write(
    folder: Path, config: HardwareConfig, weights: list[np.ndarray], of_cores: list[list[RecordedBlock]]
) -> None:
    kept: dict[bytes, tuple[int, int]] = {}
    lines, counts, entries = [], [], []
    depth = 1 << (config.weight_depth - 1).bit_length()
    for each in itertools.chain.from_iterable(of_cores):
        lists = each.lists
        key = b"".join(np.ascontiguousarray(part).tobytes() for part in (lists.counts, lists.digits, lists.words))
        if key not in kept:
            kept[key] = len(counts), len(entries)
            counts += _words(lists.counts, config.word_bits + 1)
            entries += _words((lists.digits & 31) | (lists.words << 5), config.word_bits + 5)
        fields = each.block.fields()
        fields["first_weight"] += each.weights * depth
        lines.append(_hexadecimal([*kept[key], *fields.values(), each.phase], 32))
    firsts = np.cumsum([0, *map(len, of_cores)]).tolist()
    (folder / "first_blocks.hex").write_text("\n".join(f"{first:x}" for first in firsts) + "\n")
    (folder / "blocks.hex").write_text("\n".join(lines) + "\n")
    (folder / "counts.hex").write_text("\n".join(counts) + "\n")
    (folder / "entries.hex").write_text("\n".join(entries) + "\n")
    with (folder / "weights.hex").open("w") as file:
        for index, codes in enumerate(weights):
            file.write(f"@{index * depth:x}\n")
            for address in range(codes.shape[1]):
                file.write(codes[::-1, address, ::-1].tobytes().hex() + "\n")


def _words(lists: np.ndarray, bits: int) -> list[str]:
    """[lanes, 2, N] as N words of all lanes' fields, the first one lowest."""
    return [_hexadecimal(lists[:, :, index].ravel(), bits) for index in range(lists.shape[2])]


def _hexadecimal(fields: list[int] | np.ndarray, bits: int) -> str:
    mask, word = (1 << bits) - 1, 0
    for field in reversed([int(field) for field in fields]):
        word = word << bits | (field & mask)
    return f"{word:x}"


def _check(lines: list[str], config: HardwareConfig, blocks: list[RecordedBlock]) -> tuple[int, int]:
    """When a core's last block is done, and how many sums were compared."""
    found, address_bits = iter(lines), (config.accumulator_depth - 1).bit_length()
    end, compared = 0, 0
    for index, each in enumerate(blocks):
        for pixel, wanted in enumerate(each.sums):
            address, word = next(found).split()
            assert int(address, 16) == (each.phase % 2) << address_bits | (each.block.first_sum + pixel), (index, pixel)
            values = np.frombuffer(bytes.fromhex(word)[::-1], "<i4")
            assert np.array_equal(values, wanted), f"block {index}, pixel {pixel}"
            compared += len(values)
        word, cycle = next(found).split()
        assert word == "done", f"block {index} gives more sums than {len(each.sums)}"
        end = int(cycle)
    return end, compared
