"""Classifier-free guidance: a sample is two of the model's, with and without its label and context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...hls.artefact.model import QuantizedModel
from .labels import rows_of


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho & Salimans 2022): each sample is two branches with histories of their own.

    The output is that without + ``scale`` * (that with label and context - that without). ``label`` and ``context`` float64
    [tokens, channels] are what stands for none.
    """

    scale: float
    label: int | None = None
    context: np.ndarray | None = None


@dataclass(frozen=True)
class Branches:
    """What the model computes for each of B samples: itself, or itself and its unguided branch, where there is a ``scale``.

    ``rows`` int64 [B or 2 B] of conditional tables; ``context`` float64 [B or 2 B, tokens, channels], guided branches first.
    """

    rows: np.ndarray
    context: np.ndarray | None
    scale: float | None

    @staticmethod
    def of(
        artefact: QuantizedModel, labels: np.ndarray, context: np.ndarray | None, guidance: Guidance | None
    ) -> Branches:
        """The branches of samples with ``labels`` int64 [B] and ``context`` float64 [B, tokens, channels]. ValueError for a label
        that the model was not quantized for."""
        if guidance is None:
            return Branches(rows_of(artefact, labels), context, None)
        unguided = labels if guidance.label is None else np.full_like(labels, guidance.label)
        if context is not None:
            none = np.zeros_like(context[0]) if guidance.context is None else guidance.context
            context = np.concatenate([context, np.broadcast_to(none, context.shape)])
        return Branches(rows_of(artefact, np.concatenate([labels, unguided])), context, guidance.scale)

    def of_all(self, sample: np.ndarray) -> np.ndarray:
        """The sample [B, ...] of every branch: float64 [B or 2 B, ...]."""
        return sample if self.scale is None else np.concatenate([sample, sample])

    def guided(self, output: np.ndarray) -> np.ndarray:
        """One output [B, ...] of those of all branches, [B or 2 B, ...]."""
        if self.scale is None:
            return output
        guided, unguided = np.split(output, 2)
        return unguided + self.scale * (guided - unguided)
