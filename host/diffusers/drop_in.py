"""The drop-in: a quantized denoiser in a stock diffusers pipeline. Needs torch and diffusers.

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.unet = wrap("quantized/")            # pipe.transformer for DiTPipeline and LattePipeline

The pipeline's own code, callbacks, generators and output types stay as they are; VAE and text encoder run on the host.
"""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline

from ...hls.artefact.model import INDEX, ArtefactError, QuantizedModel
from ...hls.artefact.model import load as load_artefact
from ...hls.common.explained import explained
from ...hls.machine.boards import DEFAULT_BOARD
from ...hls.machine.config import default_config
from ..devices.device import Device
from ..devices.emulator import EmulatorDevice
from ..program.operations import fitting
from ..runtime.diffusers_scheduler import load_scheduler
from .denoiser import QuantizedDenoiser


def wrap(
    model: QuantizedModel | Path | str,
    device: Device | None = None,
    flow: str | None = None,
    deadline_s: float = 600.0,
    memory_mib: int | None = None,
) -> QuantizedDenoiser:
    """What takes the place of a pipeline's ``unet`` or ``transformer``: a quantized model, or its folder, on a ``device``
    (default: the emulator of the default board).

    ``flow``: an execution flow (default: the device's fastest); ``deadline_s``: how long a step may take; ``memory_mib``: the
    board's contiguous memory (default: PYNQ's). Set the pipeline's scheduler to the schedule that the model is quantized for; for
    any other timestep it says so. ValueError where diffusers steps in another way than when it was quantized.
    """
    artefact = model if isinstance(model, QuantizedModel) else load_artefact(model)
    load_scheduler(artefact)  # the rule is that of this release
    return _wrap(artefact, device, flow, deadline_s, memory_mib)


def load_pipeline(
    folder: Path | str,
    device: Device | None = None,
    flow: str | None = None,
    deadline_s: float = 600.0,
    memory_mib: int | None = None,
    artefact: QuantizedModel | None = None,
) -> DiffusionPipeline:
    """The whole pipeline of a quantized folder: its class, VAE, text encoder and scheduler, with the quantized denoiser.

    ``artefact``: the folder's, where it was loaded before. Raises ArtefactError where a part is missing, ValueError where
    diffusers cannot read one.
    """
    folder = Path(folder)
    artefact = load_artefact(folder) if artefact is None else artefact
    if not (folder / INDEX).is_file():
        raise ArtefactError(
            f"{folder} has no {INDEX}: its other parts were not there when it was quantized; quantize it again"
        )
    config = DiffusionPipeline.load_config(folder)
    missing = [
        name
        for name, value in config.items()
        if isinstance(value, (list, tuple)) and value[0] is not None and not (folder / name).is_dir()
    ]
    if missing:
        raise ArtefactError(f"{folder} has no {' and no '.join(missing)}; copy or quantize the whole pipeline again")
    scheduler = load_scheduler(artefact)
    denoiser = _wrap(artefact, device, flow, deadline_s, memory_mib)
    what = f"diffusers {diffusers.__version__} makes no {config.get('_class_name')} of {folder}"
    with explained(what, "copy or quantize the whole pipeline again"):
        return DiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, **{artefact.component: denoiser, "scheduler": scheduler}
        )


def _wrap(
    artefact: QuantizedModel, device: Device | None, flow: str | None, deadline_s: float, memory_mib: int | None
) -> QuantizedDenoiser:
    config = fitting(default_config(DEFAULT_BOARD), artefact.graph)
    chosen = EmulatorDevice(config, counting=False) if device is None else device
    return QuantizedDenoiser(artefact, chosen, flow, deadline_s, memory_mib)
