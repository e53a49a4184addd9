"""Two devices beside each other: the same steps of one model, all memory compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...hls.machine.isa import Region
from ..common.arguments import integer
from ..common.errors import DeviceError
from .model import Model, check_run
from .schedulers import standard_normal
from .session import DIFFERENCE


def compare(simulated: Model, emulated: Model, steps: int, batch: int, seed: int) -> Iterator[str]:
    """Run the first ``steps`` of a denoising run on both, with differences; yields a line per step.

    DeviceError at the first byte of ACTIVATIONS, where all tensors lie, that differs; ValueError for steps that the schedule does
    not have.
    """
    batch, _, seed = check_run(batch, batch, DIFFERENCE, seed)
    artefact, graph = emulated.artefact, emulated.artefact.graph
    if not 1 <= integer("steps", steps) <= graph.steps:
        raise ValueError(f"found {steps} steps, expected 1 to {graph.steps}")
    sessions = simulated.session(batch), emulated.session(batch)  # before there is noise of a batch that does not fit
    labels = np.arange(batch) % graph.labels
    context = None
    if graph.context is not None and graph.context_shape is not None:
        shape = (batch, *graph.context_shape)
        context = artefact.scales[graph.context][0] * 32 * np.random.default_rng(seed).standard_normal(shape)
    scheduler = emulated.sampler
    sample = scheduler.initial(
        np.stack([standard_normal(seed, index, 0, graph.sample_shape) for index in range(batch)])
    )
    for step in range(steps):
        asked = scheduler.scaled(sample, step)
        outputs = [session.run_step(asked, step, labels, DIFFERENCE, context) for session in sessions]
        found, expected = (session.buffers[Region.ACTIVATIONS].data for session in sessions)
        if not np.array_equal(found, expected):
            byte = int(np.flatnonzero(found != expected)[0])
            raise DeviceError(
                f"step {step}: byte {byte} of ACTIVATIONS is {found[byte]}, in the emulator {expected[byte]}"
            )
        noise = None
        if scheduler.needs_noise(step):
            noise = np.stack([standard_normal(seed, index, step + 1, graph.sample_shape) for index in range(batch)])
        sample = scheduler.step(outputs[1], step, sample, noise)
        yield f"step {step}: {found.size:,} bytes of activations equal"
