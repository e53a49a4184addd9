"""The hls4ml backend: found by hls4ml, equal to its own Vitis C simulation and to our emulator, or refused with the reason."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

pytest.importorskip("torch")
hls4ml = pytest.importorskip("hls4ml")

import torch  # noqa: E402
from ditto_zynq.hls.machine.config import HardwareConfig  # noqa: E402
from ditto_zynq.host.devices.emulator import EmulatorDevice  # noqa: E402
from ditto_zynq.host.hls4ml import backend as hls4ml_backend  # noqa: E402
from ditto_zynq.host.hls4ml.types import Unsupported  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.hls
FIXED = "ap_fixed<8,3,AP_RND,AP_SAT>"


def convert(model, shape, folder, backend="Ditto", precision=FIXED, results=None, **options):
    """``results``: precisions of single layers' results."""
    with contextlib.redirect_stdout(io.StringIO()):
        config = hls4ml.utils.config_from_pytorch_model(
            model,
            shape,
            granularity="name",
            backend=backend,
            default_precision=precision,
            channels_last_conversion="full" if len(shape) == 3 else "off",
            transpose_outputs=False,
        )
        for name, result in (results or {}).items():
            config["LayerName"][name]["Precision"]["result"] = result
        if backend == "Vitis":
            options["io_type"] = "io_parallel"
        return hls4ml.converters.convert_from_pytorch_model(
            model, hls_config=config, output_dir=str(folder / backend), backend=backend, **options
        )


def scaled(model: nn.Module, seed: int, factor: float) -> nn.Module:
    torch.manual_seed(seed)
    for module in model:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model.eval()


WIDE = "fixed<16,8,RND,SAT>"
MODELS = {
    "convolutional, odd channels, stride, flattened, saturating": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(5, 7, (3, 2), stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(7 * 3 * 4, 10),
            nn.ReLU(),
            nn.Linear(10, 3),
        ),
        (3, 8, 8),
        3.0,
        {"_7": WIDE},
    ),
    "fully connected, rounding down, 16-bit results before ReLU": (
        lambda: nn.Sequential(nn.Linear(33, 70), nn.ReLU(), nn.Linear(70, 9), nn.ReLU(), nn.Linear(9, 4)),
        (33,),
        1.5,
        {"_0": "fixed<16,5,RND,SAT>", "_3": "fixed<8,5,TRN,SAT>", "_4": "fixed<16,9,TRN,SAT>"},
    ),
    "no activation at all, finer results than sums": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 3, padding=1)),
        (2, 5, 6),
        2.0,
        {"_0": "fixed<8,3,RND,SAT>", "_1": "fixed<16,2,RND,SAT>"},
    ),
}


def test_hls4ml_lists_the_backend():
    assert "ditto" in hls4ml.backends.get_available_backends()


@pytest.mark.parametrize("name", MODELS)
def test_predictions_equal_those_of_hls4mls_own_c_simulation(name, tmp_path, csim_cache):
    """On inputs on and off the input's grid, and beyond its range."""
    build, shape, factor, results = MODELS[name]
    model = scaled(build(), 1, factor)
    x = (np.random.default_rng(2).normal(size=(70, *shape)) * 1.5).astype(np.float32)
    outputs = {}
    for key, backend, options in (
        ("vitis", "Vitis", {}),
        ("csim", "Ditto", {"cache": csim_cache}),
        ("emulator", "Ditto", {"cache": csim_cache, "device": "emulator"}),
        ("small board", "Ditto", {"cache": csim_cache, "board": "pynq-z2"}),
    ):
        converted = convert(model, shape, tmp_path / key, backend, results=results, **options)
        with contextlib.redirect_stdout(io.StringIO()):
            converted.compile()
            outputs[key] = converted.predict(x)
    assert len(np.unique(outputs["vitis"])) > 30, "the comparison says something"
    for key in ("csim", "emulator", "small board"):
        assert np.array_equal(outputs[key], outputs["vitis"]), key


def test_a_prediction_compiles_a_program_for_full_batches_and_one_for_the_rest(tmp_path, monkeypatch):
    converted = convert(scaled(nn.Sequential(nn.Linear(8, 4)), 0, 1.0), (8,), tmp_path, device="emulator")
    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    expected = np.stack([converted.predict(each) for each in x[:3]])
    compiled, closed, compile_, close = [], [], hls4ml_backend.compile_program, EmulatorDevice.close

    def compiles(graph, tables, config, batch):
        compiled.append(batch)
        return compile_(graph, tables, config, batch)

    def closes(device):
        closed.append((device.counting, sum(buffer.data.size for buffer in device.buffers)))
        close(device)

    monkeypatch.setattr(hls4ml_backend, "compile_program", compiles)
    monkeypatch.setattr(EmulatorDevice, "close", closes)
    found = converted.predict(x)
    assert found.shape == (200, 4) and np.array_equal(found[:3], expected)
    assert compiled == [64, 8] and closed == [(False, 0)]
    assert np.array_equal(converted.predict(x[:128]), found[:128]) and compiled[2:] == [64]


def test_flattening_keeps_pytorchs_order(tmp_path):
    """With fine steps and no saturation the integers are close to the float model: nothing is permuted."""
    model = scaled(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 6, 6)), 3, 1.0)
    x = np.random.default_rng(0).uniform(-0.9, 0.9, (8, 3, 6, 8)).astype(np.float32)
    converted = convert(
        model,
        (3, 6, 8),
        tmp_path,
        precision="ap_fixed<8,1,AP_RND,AP_SAT>",
        device="emulator",
        results={"_3": "fixed<16,3,RND,SAT>"},
    )
    expected = model(torch.from_numpy(x)).detach().numpy()
    assert np.corrcoef(converted.predict(x).ravel(), expected.ravel())[0, 1] > 0.99


def test_what_is_written(tmp_path, csim_cache):
    model = scaled(nn.Sequential(nn.Linear(8, 4)), 0, 1.0)
    converted = convert(model, (8,), tmp_path, results={"_0": WIDE}, cache=csim_cache, hardware=HardwareConfig(cores=1))
    converted.write()
    folder = tmp_path / "Ditto"
    assert {"src", "run_hls.tcl", "run_vivado.tcl", "manifest.json"} <= {
        p.name for p in (folder / "firmware").iterdir()
    }
    memory = json.loads((folder / "program" / "memory.json").read_text())
    assert memory["configuration"] == HardwareConfig(cores=1).digest and memory["output"]["scale"] == 2.0**-8
    assert (folder / "program" / "weights.bin").stat().st_size > 0
    one = np.zeros((1, 8), np.float64)
    assert converted.predict(one).shape == (4,) and converted.predict(one).dtype == np.float64
    with pytest.raises(ValueError, match="found 9 inputs"):
        converted.predict(np.zeros(9))
    with pytest.raises(ValueError, match="found inputs of int64"):
        converted.predict(np.zeros(8, np.int64))


@pytest.mark.parametrize(
    ("build", "shape", "precision", "results", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
            (4,),
            FIXED,
            {},
            "_1: found the activation tanh, expected relu",
        ),
        (lambda: nn.Sequential(nn.Linear(4, 4)), (4,), "ap_fixed<16,6>", {}, "found an input of fixed<16,6,TRN,WRAP>"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), (4,), FIXED, {"_0": "fixed<8,1>"}, "which wraps; expected SAT"),
        (
            lambda: nn.Sequential(nn.Linear(4, 4)),
            (4,),
            FIXED,
            {"_0": "fixed<6,1,RND,SAT>"},
            "a type with the engine's limits",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 4)),
            (4,),
            FIXED,
            {"_0": "fixed<8,1,RND_ZERO,SAT>"},
            "bits with RND, RND_CONV",
        ),
        (
            lambda: nn.Sequential(nn.Linear(400, 4)),
            (400,),
            FIXED,
            {},
            r"results of -\d+ to \d+, expected a type|which wraps",
        ),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2)), (2, 4, 4), FIXED, {}, "found a Pooling2D layer"),
    ],
)
def test_what_would_not_be_exact_is_refused(build, shape, precision, results, message, tmp_path):
    converted = convert(scaled(build(), 0, 3.0), shape, tmp_path, precision=precision, results=results)
    with pytest.raises(Unsupported, match=message):
        converted.write()
    assert not (tmp_path / "Ditto" / "program").exists()


def test_a_sum_that_wraps_before_its_relu_is_refused(tmp_path):
    """-1.3 wraps to 0.7 in fixed<8,1>: that ReLU would have made it 0 does not help."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight.fill_(0.1)
        model[0].bias.fill_(-0.9)
    wrapping = "fixed<8,1,RND,WRAP>"
    converted = convert(model, (1,), tmp_path, results={"_0": wrapping, "_1": wrapping})
    with pytest.raises(Unsupported, match="which wraps; expected SAT"):
        converted.write()
