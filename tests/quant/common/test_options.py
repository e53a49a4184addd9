"""Options of other types and out of range."""

from __future__ import annotations

import pytest
from ditto_zynq.quant.common.options import Options, Reading, Schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule(scheduler=["ddim"]), r"found scheduler \['ddim'\], expected one of ddpm"),
        (lambda: Options(correct_biases="no"), "found correct_biases 'no', expected True or False"),
        (lambda: Reading(force_scheduler="no"), "found force_scheduler 'no', expected True or False"),
        (lambda: Reading(sample_size=(10**6, 8)), "found sample size 1000000, expected 1 to 65535"),
    ],
)
def test_options_of_other_types(make, message):
    with pytest.raises(ValueError, match=message):
        make()
