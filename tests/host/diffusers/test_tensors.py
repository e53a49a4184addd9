"""What a pipeline gives, as numbers; refusals in whole calls are in test_denoiser.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.host.diffusers.tensors import list_of, tensor_of, values_of


def test_values_of_any_floats_are_float64():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        values = values_of("a sample", torch.full((2, 1), 0.5, dtype=dtype, requires_grad=True))
        assert values.dtype == np.float64 and values.tolist() == [[0.5], [0.5]]
    with pytest.raises(ValueError, match=r"found NaN or infinity in the sample, expected finite"):
        values_of("a sample", torch.tensor([torch.nan]))


@pytest.mark.parametrize("given", [3, [3], (3,), np.array([[3]]), torch.tensor(3)])
def test_one_number_in_any_form_is_a_list(given):
    assert list_of("timestep", given, "one").tolist() == [3]


def test_what_holds_no_values_is_refused():
    with pytest.raises(ValueError, match="found a sample on the meta device, expected a dense tensor"):
        tensor_of("a sample", torch.zeros(1, device="meta"))
    with pytest.raises(ValueError, match=r"found labels of torch\.bool, expected integers"):
        list_of("labels", [True], "integers")
