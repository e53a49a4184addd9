"""Real layers at several timesteps and references: what the C simulation's compute unit does there, and its counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.schedulers import standard_normal
from ditto_zynq.host.runtime.session import DIFFERENCE, ORIGINAL, SPATIAL

from tests.hls.rtl.recording import Recorder, Recording, RecordingDevice

LAYERS = (  # of the bundled model: every kind of convolution, fully connected layers, both products of attention
    "conv_in",
    "down_blocks.0.downsamplers.0.conv",
    "down_blocks.1.resnets.0.conv2",
    "down_blocks.2.attentions.0.to_q",
    "mid_block.attentions.0.scores",
    "up_blocks.0.attentions.0.mix",
    "up_blocks.1.resnets.0.conv_shortcut",
    "up_blocks.2.resnets.1.conv1",
    "conv_out",
)


COUNTED = ("compute_cycles", "tap_cycles", "products")


@dataclass(frozen=True)
class Case:
    """A linear layer in a denoising step, whose flow says what its operands refer to."""

    layer: str
    step: int
    flow: str


@dataclass(frozen=True)
class RecordedCase:
    """``compute_cycles``, ``tap_cycles`` and ``products`` as ``profile`` has them, of all cores."""

    case: Case
    recording: Recording
    compute_cycles: int
    tap_cycles: int
    products: int

    def used(self, config: HardwareConfig) -> dict[str, float]:
        """How much of the time multipliers multiply, as a product: lanes of a core that wait for the fullest one (and for taps),
        cores that wait for the slowest one, and the pipeline's fill."""
        digits, slowest = self.products / config.oc_tile, sum(self.recording.phases())
        return {
            "lanes": digits / (self.compute_cycles * config.lanes),
            "cores": self.compute_cycles / (slowest * config.cores),
            "fill": slowest / self.recording.predicted(config),
        }


def cases_of(steps: int) -> tuple[Case, ...]:
    """Of a schedule of so many steps: early, in the middle, at the end; the neighbour or nothing as reference in the middle."""
    places = {DIFFERENCE: (1, steps // 2, steps - 1), ORIGINAL: (steps // 2,), SPATIAL: (steps // 2,)}
    return tuple(Case(layer, step, flow) for flow, at in places.items() for layer in LAYERS for step in at)


def record_cases(
    recorder: Recorder, config: HardwareConfig, artefact: QuantizedModel, cases: Sequence[Case], seed: int = 0
) -> Iterator[RecordedCase]:
    """Runs of one sample, one for every flow, in the C simulation; each case is recorded from the memory before its step."""
    for flow in dict.fromkeys(case.flow for case in cases):
        wanted = [case for case in cases if case.flow == flow]
        device = RecordingDevice(config, {case.step for case in wanted})
        model = Model(artefact, device)
        session = model.session(1)
        names = [operation.first.name for operation in session.program.operations]
        sample, counted = standard_normal(seed, 0, 0, artefact.graph.sample_shape)[None], {}
        for step in range(max(case.step for case in wanted) + 1):
            output = session.run_step(sample, step, np.array([0]), flow, None)
            counted[step] = session.counters()
            sample = model.scheduler.step(output[:, : sample.shape[1]], step, sample, None)
        for case in wanted:
            memory, count = device.before[case.step]
            index = names.index(case.layer)
            record = counted[case.step][index]
            recording = recorder.record(memory, count, index)
            yield RecordedCase(case, recording, *(int(record[name]) for name in COUNTED))
