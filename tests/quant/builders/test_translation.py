"""What handlers see of a translation."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.quant.builders import translation
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.trace.tracing import trace
from torch import nn


def test_no_module_is_made_for_a_term_that_varies(tiny_unet, monkeypatch):
    """One for each would walk the whole model as many times."""
    monkeypatch.setattr(translation, "terms_module", None)
    trace(tiny_unet, (3, 8, 8), [500], [0])


def test_padding_belongs_in_front_of_a_convolution():
    class Padded(nn.Module):
        class config:
            num_class_embeds = None

        def forward(self, sample, timestep):
            return nn.functional.silu(nn.functional.pad(sample, (1, 1, 1, 1)))

    with pytest.raises(UnsupportedOperator, match="zero padding is supported in front of a convolution only"):
        trace(Padded(), (3, 4, 4), [1], [0])


def test_rows_below_each_other():
    assert translation.rows(1) == () and [part.stride for part in translation.rows(3, 4)] == [4]
    assert torch.Size(len(axis) for axis in translation.token_layout(5, 7)) == (1, 1)
