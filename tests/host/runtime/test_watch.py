"""What the codes do not hold is said, once."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from ditto_zynq.hls.common.notices import FEWEST_LEVELS, PrecisionWarning
from ditto_zynq.host.runtime.watch import Watch


def test_inputs_that_the_codes_do_not_hold_are_said_once_in_numbers(tiny_model):
    graph, scale = tiny_model.graph, tiny_model.scales[tiny_model.graph.input][0]
    watch = Watch(tiny_model)
    noise = np.random.default_rng(0).standard_normal((2, *graph.sample_shape))
    enough = noise / np.abs(noise).max() * scale * (FEWEST_LEVELS + 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        watch.sample(noise, 0)
        watch.sample(enough, 0)
    with pytest.warns(PrecisionWarning, match=r"the input of step 0 reaches 0\.0 of 127 codes"):
        watch.sample(noise * scale * 1e-9, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        watch.sample(noise * 0, 1)
    attending = SimpleNamespace(graph=SimpleNamespace(context="c"), scales={"c": [0.1]})
    context = np.zeros((1, 10, 10))
    context[0, 0, :1] = 12.85
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        Watch(attending).context(context)
    context[0, 0, 1:3] = -13.0
    with pytest.warns(PrecisionWarning, match=r"3\.0% of the context's codes saturate"):
        Watch(attending).context(context)
