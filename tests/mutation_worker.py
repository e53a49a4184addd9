"""Runs mutated model folders in a process of their own, for some of them might end it:

    python -m tests.mutation_worker FOLDER_OF_MODELS DEVICE FIRST COUNT CACHE_OF_SIMULATIONS

One case in DROP_IN runs in diffusers instead, as a pipeline where the folder is one. Prints a line of JSON per case: its number,
what was changed, "refused", "runs" or "FAILED", and why.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
from ditto_zynq.hls.artefact.folder import INDEX
from ditto_zynq.hls.artefact.model import ArtefactError, QuantizedModel, load
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.machine.config import default_config
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.device import Device
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.program.operations import fitting
from ditto_zynq.host.runtime.model import Model
from ditto_zynq.host.runtime.schedulers import KINDS, Scheduler, standard_normal
from ditto_zynq.host.runtime.session import DIFFERENCE, Session, reference_of

from tests.mutations import mutate

BATCH = 2
STEPS = 2
DROP_IN = 4


class Different(AssertionError):
    """A result that is not the reference's, or not finite."""


def main() -> None:
    models, name, first, count, cache = (
        Path(sys.argv[1]),
        sys.argv[2],
        int(sys.argv[3]),
        int(sys.argv[4]),
        Path(sys.argv[5]),
    )
    sources = sorted(path for path in models.iterdir() if path.is_dir())
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's words for what is not finite
    with tempfile.TemporaryDirectory() as temporary:
        for case in range(first, first + count):
            source = sources[case % len(sources)]
            print(json.dumps({"case": case, "begins": source.name}), flush=True)
            changed = mutate(source, Path(temporary) / "model", case)
            outcome, why = outcome_of(Path(temporary) / "model", name, cache, case % DROP_IN == 0)
            print(json.dumps({"case": case, "changed": changed[:300], "outcome": outcome, "why": why}), flush=True)


def outcome_of(folder: Path, name: str, cache: Path, in_diffusers: bool = False) -> tuple[str, str]:
    try:
        artefact = load(folder)
    except ArtefactError as error:
        text = str(error).replace(f"{folder.parent}/", "")
        return (
            ("refused", text[-200:])
            if "\n" not in text and len(text) < 1500
            else ("FAILED", f"message: {text[:1500]!r}")
        )
    except BaseException:
        return "FAILED", f"load: {traceback.format_exc()}"
    try:
        model = Model(artefact, _device(artefact, name, cache))
        scheduler = model.scheduler if artefact.quantization["scheduler"] in KINDS else None
        session = model.session(BATCH)
        denoiser = _drop_in(folder, artefact, model.device) if in_diffusers else None
    except ValueError as error:  # of what it is put into: device, sampler, pipeline
        text = str(error)
        is_word = "\n" not in text and ("expected" in text or ";" in text)  # what was expected, or what to do
        return ("refused", text[:300]) if is_word else ("FAILED", traceback.format_exc())
    except BaseException:
        return "FAILED", f"compiled: {traceback.format_exc()}"
    try:
        with model:
            run(session, scheduler) if denoiser is None else run_in_diffusers(denoiser, artefact)
    except Different as error:
        return "FAILED", f"differs: {error}"
    except BaseException:  # whatever a step raises is too late
        return "FAILED", f"run: {traceback.format_exc()}"
    return "runs", ""


def _device(artefact: QuantizedModel, name: str, cache: Path) -> Device:
    config = default_config("zcu104")
    if name == "csim":  # one library for all
        return CSimDevice(config, cache=cache)
    return EmulatorDevice(fitting(config, artefact.graph), counting=False, differences=True)


def _drop_in(folder: Path, artefact: QuantizedModel, device: Device):
    """The denoiser of a diffusers pipeline, in its pipeline where the folder is one."""
    from ditto_zynq.host.diffusers.drop_in import load_pipeline, wrap

    if not (folder / INDEX).is_file():
        return wrap(artefact, device)
    return getattr(load_pipeline(folder, device), artefact.component)


def run_in_diffusers(denoiser, artefact: QuantizedModel) -> None:
    """A step of the denoiser; Different where its output is not finite."""
    import torch

    graph = artefact.graph
    context = None if graph.context_shape is None else torch.zeros(BATCH, *graph.context_shape)
    labels = [artefact.labels[0]] * BATCH if graph.labels > 1 else None
    given = {name: artefact.quantization.get(name) for name in ("timestep_cond", "added_cond_kwargs")}
    sample = torch.zeros(BATCH, *graph.sample_shape)
    output = denoiser(sample, artefact.timesteps[0], context, class_labels=labels, **given).sample
    if not torch.isfinite(output).all():
        raise Different(f"output {output.ravel()[:3]}")


def run(session: Session, scheduler: Scheduler | None) -> None:
    """The first steps of a run; Different where an output is not the reference's or a sample is not finite."""
    artefact = session.artefact
    graph, reference = artefact.graph, Interpreter(artefact.graph, artefact.tables)
    rows = np.arange(BATCH) % graph.labels
    codes = context = None
    if graph.context is not None:
        scale = artefact.scales[graph.context][0]
        context = 40 * scale * np.random.default_rng(0).normal(size=(BATCH, *graph.context_shape))
        codes = graph.encode_context(context, scale)
    sample = np.stack([standard_normal(0, index, 0, graph.sample_shape) for index in range(BATCH)])
    for step in range(min(STEPS, graph.steps)):
        found = session.run_step(sample, step, rows, DIFFERENCE, context)
        group = graph.group_of_step[step]
        encoded = graph.encode(sample, artefact.scales[graph.input][group])
        values = reference.step(encoded, step, rows, reference_of(DIFFERENCE, step), codes)[graph.output]
        expected = graph.decode(
            values.reshape(BATCH, *graph.tensors[graph.output].shape), artefact.scales[graph.output][group]
        )
        if not np.array_equal(found, expected):
            raise Different(f"step {step}: {np.count_nonzero(found != expected)} of {found.size} outputs")
        if not np.isfinite(found).all():
            raise Different(f"step {step}: output {found.ravel()[:3]}")
        if scheduler is not None:
            sample = _advanced(scheduler, sample, found, step)


def _advanced(scheduler: Scheduler, sample: np.ndarray, output: np.ndarray, step: int) -> np.ndarray:
    """The next sample, where the model's output is of the sample's shape."""
    if output.shape[2:] != sample.shape[2:] or output.shape[1] < sample.shape[1]:
        return sample
    noise = np.stack([standard_normal(0, index, step + 1, sample.shape[1:]) for index in range(BATCH)])
    following = scheduler.step(output[:, : sample.shape[1]], step, sample, noise)
    if not np.isfinite(following).all():
        raise Different(f"step {step}: sample {following.ravel()[:3]}")
    return following


if __name__ == "__main__":
    main()
