"""A model's export is quiet, and whatever the model raises is one line with the path of the module that failed."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.trace.export import export_aten
from ditto_zynq.quant.trace.tracing import trace
from torch import nn


class Layer(nn.Module):
    class config:
        num_class_embeds = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, sample, timestep):
        warnings.warn("a notice of the model", UserWarning, stacklevel=1)
        return self.conv(sample) + timestep[:, None, None, None]


@torch.no_grad()
def test_the_exported_graph_computes_what_the_model_computes():
    """Without its warnings, and with dropout as in evaluation."""
    torch.manual_seed(0)
    model = Layer()
    model.conv = nn.Sequential(model.conv, nn.Dropout(0.9))
    conditions = {"timestep": torch.zeros(2)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exported = export_aten(model.train(), 2, {"sample": (3, 6, 4)}, conditions)
    sample, timestep = torch.randn(2, 3, 6, 4), torch.tensor([3.0, 5.0])
    expected = model.conv[0](sample) + timestep[:, None, None, None]
    assert torch.allclose(exported(sample=sample, timestep=timestep), expected, atol=1e-6)


def test_a_model_that_does_not_run_says_so():
    class Broken(Layer):
        def forward(self, sample, timestep):
            return self.conv(sample) + sample[:, :, :-1]

    with pytest.raises(UnsupportedOperator, match=r"does not run on samples of \(3, 6, 6\)"):
        trace(Broken(), (3, 6, 6), [1], [0])


@pytest.mark.parametrize("raised", [TypeError, AttributeError, KeyError, AssertionError, IndexError])
def test_whatever_a_model_raises_is_one_line_that_names_the_module(raised, capfd):
    class Raising(nn.Module):
        def forward(self, sample):
            raise raised("no added conditions\nwere given")

    class Outer(Layer):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleDict({"block": Raising()})

        def forward(self, sample, timestep):
            return self.inner["block"](self.conv(sample))

    with pytest.raises(UnsupportedOperator) as error:
        trace(Outer(), (3, 6, 6), [1], [0])
    message = str(error.value)
    assert raised.__name__ in message and "no added conditions" in message and message.endswith(" in inner.block")
    assert "\n" not in message


def test_torch_logs_nothing_of_an_operator_that_fails(caplog):
    class Broken(Layer):
        def forward(self, sample, timestep):
            return torch.ops.aten.silu(torch.ops.aten.cat([sample, sample[:, :, :-1]], 1))

    with pytest.raises(UnsupportedOperator, match="does not run on samples"):
        trace(Broken(), (3, 6, 6), [1], [0])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
