"""Integer tables in the making."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.operators import Quantize
from ditto_zynq.hls.contract.tensor import CODE, VALUE, Tensor
from ditto_zynq.quant.builders.lowering import Lowering
from ditto_zynq.quant.common.unsupported import UnsupportedOperator

NODE = Quantize("n", "n", ("x",))


@pytest.fixture
def lowering() -> Lowering:
    tensors = {"x": Tensor("x", VALUE, (1, 1, 3)), "n": Tensor("n", CODE, (1, 1, 3))}
    return Lowering(Graph(tensors, (NODE,), "x", "n", (0, 0, 1)), {}, {}, None, frozenset())


def test_what_integers_do_not_hold_is_named_with_its_size(lowering):
    with pytest.raises(UnsupportedOperator, match=r"n: bias reaches 3e\+09, more than int32 holds"):
        lowering.put(NODE, "bias", np.array([1.0, -3e9]), np.int32)
    assert not lowering.tables


def test_a_factor_is_a_mantissa_with_a_shift_per_group(lowering):
    factors = np.array([[0.1, 0.3, -0.2], [100.0, 1.0, 3.0]])
    lowering.put_multiplier(NODE, factors)
    mantissa, shift = (lowering.tables[f"n.{name}"] for name in ("multiplier", "shift"))
    assert mantissa.dtype == shift.dtype == np.int32 and shift.shape == (2,)
    assert np.allclose(mantissa * 2.0 ** -shift[:, None], factors, rtol=1e-7, atol=1e-9)


def test_rows_of_tables(lowering):
    per_group = np.array([[1, 2, 3], [4, 5, 6]])
    assert np.array_equal(lowering.rows(per_group, conditional=False), per_group)
    assert np.array_equal(lowering.rows(per_group, conditional=True)[:, 0], per_group[[0, 0, 1]])
    assert lowering.rows(np.array([7, 8]), conditional=True).shape == (3, 1, 1)
