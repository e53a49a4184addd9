"""What diffusers' pipelines must know of quantized denoisers, where diffusers has no place to register it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn

from ...hls.artefact.folder import COMPONENTS


def teach_pipelines(quantized: type[nn.Module]) -> None:
    """Make all pipelines keep a denoiser of class ``quantized`` in ``from_pipe``, which drops components of other classes than
    those of its signature, and refuse ``save_pretrained`` with one before, not after, the first other components are written."""
    save, types = DiffusionPipeline.save_pretrained, DiffusionPipeline._get_signature_types.__func__

    @functools.wraps(save)
    def save_pretrained(self: DiffusionPipeline, save_directory: Path | str, *given: Any, **more: Any) -> None:
        for name in COMPONENTS:
            if isinstance(getattr(self, name, None), quantized):
                raise ValueError(
                    f"the {name} is quantized: copy the folder that it was quantized to, instead of saving to {save_directory}"
                )
        save(self, save_directory, *given, **more)

    @functools.wraps(types)
    def signature_types(cls: type[DiffusionPipeline]) -> dict[str, Any]:
        return {name: (*found, quantized) if name in COMPONENTS else found for name, found in types(cls).items()}

    DiffusionPipeline.save_pretrained = save_pretrained
    DiffusionPipeline._get_signature_types = classmethod(signature_types)
