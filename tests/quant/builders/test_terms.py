"""Terms as they are stored."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.contract.layout import image_layout
from ditto_zynq.quant.builders.terms import per_channel, per_pixel

LAYOUT = image_layout(2, 3, 4, 5)  # [2, 5, 3, 4] in PyTorch


def test_a_term_per_channel():
    value = torch.randn(2, 5, 1, 1)
    assert torch.equal(per_channel(value, LAYOUT), value[:, :, 0, 0])
    assert torch.equal(per_channel(value.expand(2, 5, 3, 4), LAYOUT), value[:, :, 0, 0])
    with pytest.raises(ValueError, match="differs between the pixels of a sample"):
        per_channel(torch.randn(2, 5, 3, 4), LAYOUT)


def test_a_term_per_pixel():
    value = torch.randn(1, 5, 3, 4)
    assert torch.equal(per_pixel(value, LAYOUT, (3, 4, 5)), value[0].permute(1, 2, 0))
    assert torch.equal(per_pixel(value[0, 0], LAYOUT, (3, 4, 5)), value[0, 0, :, :, None].expand(3, 4, 5))
