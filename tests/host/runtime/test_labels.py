"""Labels of a run, of any integer type, and others refused."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.host.runtime.labels import labels_of


def test_labels_may_be_of_any_integer_type(tiny_model):
    for labels in ([0, 2], range(0, 3, 2), np.array([0, 2], np.uint8), (np.int64(0), np.int32(2))):
        found = labels_of(tiny_model, 3, labels)
        assert found.dtype == np.int64 and found.tolist() == [0, 2, 0]
    for wrong in (-1, 2**63, 10**30, 1.5, True):
        with pytest.raises(ValueError, match=r"found label .*, expected 0 to 2"):
            labels_of(tiny_model, 1, [0, wrong])
    for shape in ([], [[0, 1]]):
        with pytest.raises(ValueError, match=r"found labels of shape \(.*\), expected a list of at least one"):
            labels_of(tiny_model, 1, shape)
