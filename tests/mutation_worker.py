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
from ditto_zynq.hls.artefact import ArtefactError, QuantizedModel, load
from ditto_zynq.hls.config import default_config
from ditto_zynq.hls.model_folder import INDEX
from ditto_zynq.hls.reference import Reference
from ditto_zynq.host.csim import CSimDevice
from ditto_zynq.host.device import Device
from ditto_zynq.host.emulator import EmulatorDevice
from ditto_zynq.host.operations import fitting
from ditto_zynq.host.runtime import Model
from ditto_zynq.host.schedulers import KINDS, standard_normal
from ditto_zynq.host.session import DIFFERENCE, reference_of

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
        text = str(error)
        return (
            ("refused", text[-200:])
            if "\n" not in text and len(text) < 1500
            else ("FAILED", f"message: {text[:1500]!r}")
        )
    except BaseException:
        return "FAILED", f"load: {traceback.format_exc()}"
    try:
        device = _device(artefact, name, cache)
        drop_in(folder, artefact, device) if in_diffusers else run(artefact, device)
    except Different as error:
        return "FAILED", f"differs: {error}"
    except ValueError as error:
        text = str(error)
        is_word = "\n" not in text and ("expected" in text or ";" in text)  # what was expected, or what to do
        return ("refused", text[:300]) if is_word else ("FAILED", traceback.format_exc())
    except BaseException:
        return "FAILED", f"run: {traceback.format_exc()}"
    return "runs", ""


def _device(artefact: QuantizedModel, name: str, cache: Path) -> Device:
    config = default_config("zcu104")
    if name == "csim":  # one library for all
        return CSimDevice(config, cache=cache)
    return EmulatorDevice(fitting(config, artefact.graph), counting=False, differences=True)


def drop_in(folder: Path, artefact: QuantizedModel, device: Device) -> None:
    """A step of the denoiser, in its pipeline where the folder is one."""
    import torch
    from ditto_zynq.host.diffusers import load_pipeline, wrap

    denoiser = load_pipeline(folder, device).unet if (folder / INDEX).is_file() else wrap(artefact, device)
    graph = artefact.graph
    context = None
    if graph.context is not None:
        tokens, _, channels = graph.tensors[graph.context].shape
        context = torch.zeros(BATCH, tokens, channels)
    labels = [artefact.labels[0]] * BATCH if graph.labels > 1 else None
    swallowed = {name: artefact.quantization.get(name) for name in ("timestep_cond", "added_cond_kwargs")}
    output = denoiser(
        torch.zeros(BATCH, *graph.sample_shape), artefact.timesteps[0], context, class_labels=labels, **swallowed
    ).sample
    if not torch.isfinite(output).all():
        raise Different(f"output {output.ravel()[:3]}")


def run(artefact: QuantizedModel, device: Device) -> None:
    """The first steps of a run on ``device``; Different where an output is not the reference's or a sample is not finite."""
    graph, model = artefact.graph, Model(artefact, device)
    reference = Reference(graph, artefact.tables)
    rows = np.arange(BATCH) % graph.labels
    codes = context = None
    if graph.context is not None:
        codes = np.random.default_rng(0).integers(-128, 128, (BATCH, *graph.tensors[graph.context].shape))
        context = codes * artefact.scales[graph.context][0]
    sample = np.stack([standard_normal(0, index, 0, graph.sample_shape) for index in range(BATCH)])
    with model:
        session = model.session(BATCH)
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
            sample = _advanced(model, sample, found, step)


def _advanced(model: Model, sample: np.ndarray, output: np.ndarray, step: int) -> np.ndarray:
    """The next sample, where the model's scheduler runs here and its output is of the sample's shape."""
    if model.artefact.quantization["scheduler"] not in KINDS or output.shape[2:] != sample.shape[2:]:
        return sample
    if output.shape[1] < sample.shape[1]:
        return sample
    noise = np.stack([standard_normal(0, index, step + 1, sample.shape[1:]) for index in range(BATCH)])
    following = model.scheduler.step(output[:, : sample.shape[1]], step, sample, noise)
    if not np.isfinite(following).all():
        raise Different(f"step {step}: sample {following.ravel()[:3]}")
    return following


if __name__ == "__main__":
    main()
