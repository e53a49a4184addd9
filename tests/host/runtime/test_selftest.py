"""What the self-test compares with."""

from __future__ import annotations

import numpy as np
from ditto_zynq.host.runtime.selftest import FIRST_STEP


def test_the_stored_hash_is_the_references():
    """Of the bundled model's first step, which the selftest compares with, by plain NumPy in int64."""
    import hashlib

    from ditto_zynq.hls.artefact.model import load
    from ditto_zynq.hls.contract.interpreter import Interpreter
    from ditto_zynq.host.runtime.model import BUNDLED_MODEL
    from ditto_zynq.host.runtime.schedulers import standard_normal

    model = load(BUNDLED_MODEL)
    sample = standard_normal(0, 0, 0, model.graph.sample_shape)[None]
    codes = model.graph.encode(sample, model.scales[model.graph.input][0])
    result = Interpreter(model.graph, model.tables).step(codes.astype(np.int8), 0, np.zeros(1, np.int64))
    output = result[model.graph.output].astype(model.graph.tensors[model.graph.output].dtype)
    assert hashlib.sha256(output.tobytes()).hexdigest().startswith(FIRST_STEP)
