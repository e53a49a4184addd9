"""Integer products in float32 are exact, in chunks that keep every sum below 2**24."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.host.compute.float_products import channel_chunks


@pytest.mark.parametrize("magnitude", [128, 255])
def test_chunks_keep_every_float32_sum_exact(magnitude):
    weight = np.full((2, 3, 3, 700), 127, np.int8)
    chunks = channel_chunks(weight, magnitude)
    assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]] and chunks[-1].stop == 700
    assert all(magnitude * 127 * 9 * (chunk.stop - chunk.start) < 2**24 for chunk in chunks)
