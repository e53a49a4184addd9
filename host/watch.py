"""Says once, in numbers, what of a run's inputs the model's codes do not hold."""

from __future__ import annotations

import warnings

import numpy as np

from ..hls.arithmetic import CODE_RANGE, PrecisionWarning
from ..hls.artefact import QuantizedModel

FEWEST_LEVELS = 16  # of 256 codes
MOST_SATURATED = 0.01  # of a context's codes


class Watch:
    """Of one model's runs; each kind of trouble is a :class:`PrecisionWarning` the first time it is seen."""

    def __init__(self, artefact: QuantizedModel):
        self._artefact, self._said = artefact, set[str]()

    def sample(self, sample: np.ndarray, step: int) -> None:
        """Look at what the model is asked in ``step``, float64 [B, ...]."""
        graph = self._artefact.graph
        scale = self._artefact.scales[graph.input][graph.group_of_step[step]]
        levels = len(np.unique(graph.encode(sample, scale)))
        if levels < FEWEST_LEVELS:
            self._say(
                "levels",
                f"the input of step {step} uses {levels} of 256 codes (its values reach {np.abs(sample).max():.3g}, a code "
                f"stands for {scale:.3g}): what the model does in this step is coarse; quantize with more step groups",
            )

    def context(self, context: np.ndarray | None) -> None:
        """Look at a context, float64 [B, tokens, channels], where there is one."""
        name = self._artefact.graph.context
        if context is None or name is None:
            return
        codes = np.rint(context / self._artefact.scales[name][0])
        saturated = float(((codes < CODE_RANGE[0]) | (codes > CODE_RANGE[1])).mean())
        if saturated > MOST_SATURATED:
            self._say(
                "context",
                f"{saturated:.1%} of the context's codes saturate: it leaves the range that the model was calibrated with, as "
                "weighted prompts do; quantize with a larger --prompt-weight",
            )

    def _say(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(text, PrecisionWarning, stacklevel=3)
