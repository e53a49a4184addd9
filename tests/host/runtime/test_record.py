"""What devices count, summed over batches."""

from __future__ import annotations

import numpy as np
from ditto_zynq.host import load


def test_records_add_up(tiny_folder):
    model = load(tiny_folder, counting=True)
    record = model.generate(4, [0], batch=2, progress=False).record
    assert record.samples == 4 and len(record.counters) == model.artefact.graph.steps
    once = model.generate(4, [0], batch=4, progress=False).record
    for name in ("products", "dense_products"):  # the rest depends on how a batch is cut into blocks
        assert np.array_equal(record.counters[name], once.counters[name])
    assert (record.counters["cycles"] > 0).all()
    assert load(tiny_folder).generate(1, progress=False).record is None
