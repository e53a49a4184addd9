"""A tensor has as many elements as its shape says, of the type of its kind, and a shape that descriptors can name."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.common.schema import check
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor


@pytest.mark.parametrize(("kind", "dtype"), [(CODE, np.int8), (VALUE, np.int16)])
def test_size_type_and_limits(kind, dtype):
    tensor = Tensor("t", kind, (3, 5, 7))
    check(tensor, "a tensor")
    assert tensor.size == 105 and tensor.dtype == dtype
    assert tensor.limits == (np.iinfo(dtype).min, np.iinfo(dtype).max)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("t", CODE, (0, 5, 7)),
        Tensor("t", CODE, (3, 1 << 16, 7)),
        Tensor("t", CODE, (3, 5)),
        Tensor("t", "float", (3, 5, 7)),
    ],
    ids=["no row", "more than 16 bits", "two axes", "another kind"],
)
def test_what_no_descriptor_names_is_refused(tensor):
    with pytest.raises(ValueError):
        check(tensor, "a tensor")
