"""The size of tables is known before they are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.common.notices import SizeWarning
from ditto_zynq.hls.contract.operators import GroupNorm
from ditto_zynq.quant.common.options import Options, Schedule
from ditto_zynq.quant.quantize import quantize_denoiser
from ditto_zynq.quant.trace import table_size, tracing
from ditto_zynq.quant.trace.table_size import check_table_size, table_bytes

from tests.conftest import SCHEDULER_CONFIG
from tests.pipelines import unet2d

SHIFT = 100.0  # of a norm, beside which its deviations are small: the step between two codes is as small as the range allows
SHIFTED = "down_blocks.0.resnets.0.norm2"


def test_the_estimate_is_that_of_the_tables(tiny_model):
    graph = tiny_model.graph
    rows = graph.steps, graph.labels
    made = sum(table.nbytes for table in tiny_model.tables.values() if table.shape[:2] == rows and table.ndim == 3)
    assert made > 0 and made <= table_bytes(graph.nodes, graph.tensors, *rows) <= 1.5 * made


def test_offsets_take_32_bits_where_they_fit():
    torch.manual_seed(0)
    unet = unet2d().eval()
    unet.get_submodule(SHIFTED).bias.data += SHIFT
    model = quantize_denoiser(unet, SCHEDULER_CONFIG, Schedule("ddim", 2, 0.0, 1), Options(2, 0.0, False, 0))
    norms = [node for node in model.graph.nodes if isinstance(node, GroupNorm)]
    types = {node.module: model.tables[f"{node.name}.offset"].dtype for node in norms}
    assert types.pop(SHIFTED) == np.int64
    assert set(types.values()) == {np.dtype(np.int32)}


MIB = 1 << 20


def test_large_tables_are_said_beside_the_float_model():
    check_table_size(16 * MIB, 50, 10, MIB)
    with pytest.warns(
        SizeWarning, match="the tables of 50 steps x 10 labels take 17 MiB .* weights 5 MiB; fewer --labels or --steps"
    ):
        check_table_size(17 * MIB, 50, 10, 5 * MIB)
    with pytest.warns(SizeWarning, match="; fewer --steps take less"):
        check_table_size(17 * MIB, 50, 1, 5 * MIB)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [(10, "at most 9 --labels, or fewer --steps"), (1, "fewer --steps"), (2, "at most 1 --labels")],
)
def test_too_large_ones_are_refused_with_what_fits(labels, advice):
    with pytest.raises(ValueError, match=f"expected at most 4,096; quantize for {advice}"):
        check_table_size(4097 * MIB, 50, labels, MIB)


def test_they_are_refused_before_memory_is_taken(tiny_unet, monkeypatch):
    def late(*_: object) -> None:
        raise AssertionError("the tables were made")

    monkeypatch.setattr(tracing, "fold_conditioning", late)
    monkeypatch.setattr(table_size, "MOST_TABLE_BYTES", 1 << 10)
    with pytest.raises(ValueError, match=r"the tables of 2 steps x 3 labels take .* fewer --steps"):
        tracing.trace(tiny_unet, (3, 8, 8), [1, 0], [0, 0])
