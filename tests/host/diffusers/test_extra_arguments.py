"""Arguments that a quantized model agrees with."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.host.diffusers.extra_arguments import agrees

META = torch.zeros(2, 4, 32, 32, device="meta")


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"a": 1}, (1.0,)), ("x", (1.0,)), (torch.tensor([1j]), (1.0,)), (META, (1.0,)), ([1.0], {"a": 1})],
)
def test_conditions_of_other_kinds_are_not_those_of_the_model(value, expected):
    assert not agrees(value, expected)
