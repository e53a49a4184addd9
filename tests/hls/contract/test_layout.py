from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.contract.layout import Part, axis_size, image_layout, permute, reshape, shape_of
from hypothesis import given, settings
from hypothesis import strategies as st


def positions(layout, sizes):
    """The stored position (NHWC) of every element that a layout shows, in PyTorch's order."""
    strides = {"b": sizes["h"] * sizes["w"] * sizes["c"], "h": sizes["w"] * sizes["c"], "w": sizes["c"], "c": 1}
    index = torch.zeros(())
    for axis in layout:
        offsets = torch.zeros(1)
        for part in axis:
            steps = torch.arange(part.size) * part.stride * strides[part.axis]
            offsets = (offsets[:, None] + steps).flatten()
        index = index[..., None] + offsets
    return index


@settings(max_examples=100)
@given(
    sizes=st.fixed_dictionaries(
        {"b": st.just(2), "h": st.sampled_from([1, 3, 4]), "w": st.sampled_from([2, 6]), "c": st.just(12)}
    ),
    heads=st.sampled_from([1, 2, 3, 4]),
)
def test_views_and_transposes_are_those_of_pytorch(sizes, heads):
    b, h, w, c = (sizes[key] for key in "bhwc")
    stored = torch.arange(b * h * w * c, dtype=torch.float32).reshape(b, h, w, c)
    layout, tensor = image_layout(b, h, w, c), stored.permute(0, 3, 1, 2)
    for shape, order in (((b, c, h * w), (0, 2, 1)), ((b, h * w, heads, c // heads), (0, 2, 1, 3))):
        layout, tensor = reshape(layout, shape), tensor.reshape(shape)
        assert torch.equal(positions(layout, sizes), tensor)
        layout, tensor = permute(layout, order), tensor.permute(order)
        assert torch.equal(positions(layout, sizes), tensor)
        assert shape_of(layout) == tuple(tensor.shape)


def test_split_and_merge_round_trip():
    layout = image_layout(2, 4, 4, 12)
    split = reshape(layout, (2, 3, 4, 4, 4))
    assert split[1] == (Part("c", 3, 4),) and split[2] == (Part("c", 4, 1),)
    assert reshape(split, (2, 12, 4, 4)) == layout
    assert axis_size(()) == 1


def test_uneven_cuts_are_refused():
    with pytest.raises(ValueError, match="cuts an axis unevenly"):
        reshape(image_layout(2, 4, 4, 6), (2, 4, 24))
