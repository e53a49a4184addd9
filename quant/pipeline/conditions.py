"""What a model is quantized for beside its schedule: class labels, and guidance away from no class or an empty prompt."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import diffusers
import torch
from torch import nn

from ...hls.artefact.model import null_label
from ..calibrate.calibration import Conditions
from ..common.options import Options
from ..trace.tracing import Interface, context_channels, known_labels

MOST_UNASKED_LABELS = 64  # that are quantized for without having been asked for
TEXT_GUIDANCE, CLASS_GUIDANCE = 7.5, 4.0  # what most of diffusers' pipelines take if they are not told


def choose_labels(denoiser: nn.Module, labels: Sequence[int] | None) -> list[int]:
    """The classes to quantize for, sorted; every one has rows of its own in the tables of every step. ValueError for labels that
    the model does not have, and for too many that nobody asked for."""
    if not Interface.of(denoiser).labels:
        if labels:
            raise ValueError("the model has no class labels; leave them out")
        return [0]
    known, null = known_labels(denoiser.config), _null_label(denoiser)
    if labels is None:
        if known > MOST_UNASKED_LABELS:
            example = "207,360" if null is None else f"207,360,{null}"
            also = "" if null is None else f", and {null}, the null label of guidance"
            raise ValueError(
                f"the model has {known} labels, and each one quantized for takes memory in every step; choose some{also}, "
                f"such as --labels {example}"
            )
        return list(range(known))
    whole = all(isinstance(label, Integral) and not isinstance(label, bool) for label in labels)
    if not len(labels) or not whole or not all(0 <= label < known for label in labels):
        raise ValueError(f"found labels {list(labels)}, expected some of 0 to {known - 1}")
    return sorted({int(label) for label in labels})


def guidance_for(denoiser: nn.Module, options: Options, labels: list[int], pipeline: str | None = None) -> float | None:
    """The scale of classifier-free guidance: what was asked for, or the default of diffusers' class ``pipeline`` where there is
    something to guide away from. ValueError where it was asked for and there is not."""
    if Interface.of(denoiser).context:
        return default_guidance(pipeline, TEXT_GUIDANCE) if options.guidance is None else options.guidance
    null = _null_label(denoiser)
    possible = null in labels and len(labels) > 1
    if options.guidance is None:
        return default_guidance(pipeline, CLASS_GUIDANCE) if possible else None
    if options.guidance > 1 and null is None:
        raise ValueError(
            f"found guidance {options.guidance:g}, but the model takes no prompts and its configuration names no label for "
            "'no class' to guide away from; leave --guidance out"
        )
    if options.guidance > 1 and not possible:
        raise ValueError(f"guidance needs some classes and the null label {null}; add it to --labels")
    return options.guidance


def default_guidance(pipeline: str | None, otherwise: float) -> float:
    """The ``guidance_scale`` that diffusers' class ``pipeline`` takes if it is not told; ``otherwise`` where that is not
    known."""
    kind = getattr(diffusers, str(pipeline), None)
    if kind is None:
        return otherwise
    known = inspect.signature(kind.__call__).parameters.get("guidance_scale")
    return float(known.default) if known is not None and isinstance(known.default, (int, float)) else otherwise


def check_context(denoiser: nn.Module, context: tuple[torch.Tensor, torch.Tensor] | None) -> None:
    """ValueError unless ``context`` is two finite tensors [N, tokens, channels] for a model that attends to one, and, for another
    one, None or what its forward ignores."""
    if not Interface.of(denoiser).context:
        if context is not None and "encoder_hidden_states" not in inspect.signature(denoiser.forward).parameters:
            raise ValueError(f"found a context, and a {type(denoiser).__name__} takes none; leave it out")
        return
    channels = context_channels(denoiser.config)
    expected = (
        f"expected two tensors of one shape [trajectories, tokens, {channels}]: of prompts, and of the unguided branch"
    )
    if context is None or len(context) != 2:
        raise ValueError(f"found {'no context' if context is None else f'{len(context)} contexts'}, {expected}")
    shapes = [tuple(each.shape) for each in context]
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or 0 in shapes[0] or shapes[0][2] != channels:
        raise ValueError(f"found contexts of shapes {shapes[0]} and {shapes[1]}, {expected}")
    if not all(bool(each.isfinite().all()) for each in context):
        raise ValueError("found NaN or infinity in the context, expected finite numbers")


def _null_label(denoiser: nn.Module) -> int | None:
    config: Any = denoiser.config
    return null_label(config)


def is_guided(guidance: float | None) -> bool:
    """Whether a model computes two branches, as diffusers' pipelines decide it: scales up to 1 are no guidance."""
    return guidance is not None and guidance > 1


def conditions_of(
    count: int,
    denoiser: nn.Module,
    labels: list[int],
    context: tuple[torch.Tensor, torch.Tensor] | None,
    guidance: float | None,
    prompt_weight: float = 1.0,
) -> Conditions:
    """The conditions of ``count`` trajectories: the labels or contexts in turn; ``guidance`` None or up to 1 is one branch.

    Every second context is ``prompt_weight`` times as far from that of the empty prompt, as a prompt of that weight is in the
    tools that have weights.
    """
    guided = is_guided(guidance)
    if context is not None:
        prompts, empty = context
        weights = torch.ones(len(prompts), 1, 1)
        weights[1::2] = prompt_weight
        none = torch.zeros(len(prompts), dtype=torch.long)
        return Conditions(none, torch.lerp(empty, prompts, weights), *((guidance, (none, empty)) if guided else ()))
    null = _null_label(denoiser)
    drawn = [row for row, label in enumerate(labels) if label != null] or [0]
    rows = torch.tensor(drawn)[torch.arange(count) % len(drawn)]
    if not guided:
        return Conditions(rows)
    assert null is not None
    return Conditions(rows, None, guidance, (torch.full_like(rows, labels.index(null)), None))
