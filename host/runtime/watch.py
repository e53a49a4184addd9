"""Says once, in numbers, what of a run's inputs the model's codes do not hold."""

from __future__ import annotations

import warnings

import numpy as np

from ...hls.artefact.model import QuantizedModel
from ...hls.common.notices import FEWEST_LEVELS, PrecisionWarning
from ...hls.contract.arithmetic import CODE_RANGE

MOST_SATURATED = 0.01  # of a context's codes


class Watch:
    """Watches one model's runs; each kind of trouble is a :class:`PrecisionWarning` the first time it is seen."""

    def __init__(self, artefact: QuantizedModel):
        self._artefact, self._said = artefact, set[str]()

    def sample(self, sample: np.ndarray, step: int) -> None:
        """Look at what the model is asked in ``step``, float64 [B, ...]."""
        if "levels" in self._said:
            return
        graph = self._artefact.graph
        scale, largest = self._artefact.scales[graph.input][graph.group_of_step[step]], np.abs(sample).max()
        if largest / scale < FEWEST_LEVELS:
            self._say(
                "levels",
                f"the input of step {step} reaches {largest / scale:.1f} of 127 codes (its values are up to {largest:.3g}, a "
                f"code stands for {scale:.3g}): what the model does in this step is coarse; quantize with more step groups",
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
