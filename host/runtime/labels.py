"""Class labels: the ones that a run takes in turn, and the rows of conditional tables that they stand for."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import numpy as np

from ...hls.artefact.model import QuantizedModel, null_label
from ...hls.common.schema import show


def labels_of(artefact: QuantizedModel, count: int, labels: Sequence[int] | None) -> np.ndarray:
    """Labels int64 [count] of a run, taken in turn from ``labels`` (default: all that the model was quantized for, but for its
    null label). ValueError, listing the known ones, for one that it was not quantized for."""
    known = [label for label in artefact.labels if label != null_label(artefact.config)] or list(artefact.labels)
    given = np.asarray(known if labels is None else labels, object)  # whatever their size
    if given.ndim != 1 or not len(given):
        raise ValueError(f"found labels of shape {given.shape}, expected a list of at least one")
    rows_of(artefact, given)
    return np.resize(given.astype(np.int64), count)


def rows_of(artefact: QuantizedModel, labels: np.ndarray) -> np.ndarray:
    """Rows int64 [B] of conditional tables, of integer ``labels`` [B]. ValueError, listing the known ones, for a label that the
    model was not quantized for."""
    rows = {label: row for row, label in enumerate(artefact.labels)}
    wrong = [label for label in labels.tolist() if not _is_integer(label) or label not in rows]
    if wrong:
        known = artefact.labels
        in_turn = len(known) > 1 and known == tuple(range(len(known)))
        listed = f"0 to {known[-1]}" if in_turn else ", ".join(map(str, known))
        raise ValueError(f"found label {show(wrong[0]) if isinstance(wrong[0], str) else wrong[0]}, expected {listed}")
    return np.array([rows[label] for label in labels.tolist()], np.int64)


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
