"""What hls4ml's converters make of models, and what they leave out: exact, or refused."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
hls4ml = pytest.importorskip("hls4ml")
pytest.importorskip("qonnx")

import brevitas.nn as qnn  # noqa: E402
import h5py  # noqa: E402
import torch  # noqa: E402
from brevitas.export import export_qonnx  # noqa: E402
from brevitas.quant import (  # noqa: E402
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from ditto_zynq.host.hls4ml.types import Unsupported  # noqa: E402
from hls4ml.converters.keras_v2_to_hls import keras_v2_to_hls  # noqa: E402
from hls4ml.model import ModelGraph  # noqa: E402
from hls4ml.utils.config import create_config  # noqa: E402
from qonnx.core.modelwrapper import ModelWrapper  # noqa: E402
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean  # noqa: E402
from qonnx.transformation.gemm_to_matmul import GemmToMatMul  # noqa: E402
from qonnx.util.cleanup import cleanup_model  # noqa: E402
from torch import nn  # noqa: E402

FIXED = "fixed<8,3,RND,SAT>"


@contextlib.contextmanager
def silent():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


# ---------------------------------------------------------------------------------------------------- Brevitas


class SymmetricAct(Int8ActPerTensorFixedPoint):
    """Codes of -127 to 127: AP_SAT_SYM."""

    narrow_range = True


def quantizer(kind=Int8ActPerTensorFixedPoint) -> nn.Module:
    return qnn.QuantIdentity(act_quant=kind)


def convolution(inputs: int, outputs: int, **settings) -> nn.Module:
    return qnn.QuantConv2d(inputs, outputs, weight_quant=Int8WeightPerTensorFixedPoint, **settings)


def linear(inputs: int, outputs: int, **settings) -> nn.Module:
    return qnn.QuantLinear(inputs, outputs, weight_quant=Int8WeightPerTensorFixedPoint, **settings)


def relu(bits: int = 8) -> nn.Module:
    return qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=bits)


BREVITAS = {
    "unsigned bytes into padded convolutions, biases": (
        lambda: [
            quantizer(),
            convolution(3, 6, kernel_size=3, padding=1, bias=True),
            relu(),
            convolution(6, 5, kernel_size=3, padding=1, stride=2, bias=True),
            relu(7),
            convolution(5, 4, kernel_size=2, bias=False),
            quantizer(),
        ],
        (3, 7, 6),
    ),
    "fully connected, symmetric, unsigned results": (
        lambda: [
            quantizer(SymmetricAct),
            linear(12, 9, bias=True),
            relu(),
            linear(9, 8, bias=True),
            quantizer(SymmetricAct),
            linear(8, 5, bias=True),
            relu(),
        ],
        (12,),
    ),
}


def exported(layers: list[nn.Module], shape: tuple[int, ...], folder) -> ModelWrapper:
    """Calibrated to a part of the range, so that results saturate, as channels-last QONNX."""
    torch.manual_seed(3)
    model = nn.Sequential(*layers).train()
    for _ in range(4):
        model(torch.randn(16, *shape) / 2)
    with silent():
        export_qonnx(model.eval(), args=torch.randn(1, *shape), export_path=str(folder / "model.onnx"))
        wrapper = cleanup_model(ModelWrapper(str(folder / "model.onnx")))
        if len(shape) == 3:
            wrapper = wrapper.transform(ConvertToChannelsLastAndClean())
        return cleanup_model(wrapper.transform(GemmToMatMul()))


def from_qonnx(wrapper: ModelWrapper, backend: str, folder, **options):
    with silent():
        config = hls4ml.utils.config_from_onnx_model(
            wrapper, granularity="name", backend=backend, default_precision="fixed<32,16>"
        )
        return hls4ml.converters.convert_from_onnx_model(
            wrapper, hls_config=config, output_dir=str(folder / backend), backend=backend, **options
        )


@pytest.mark.hls
@pytest.mark.parametrize("name", BREVITAS)
def test_brevitas_models_equal_hls4mls_own_c_simulation(name, tmp_path):
    """Power-of-two scales, an input quantizer, AP_RND_CONV and AP_SAT_SYM; inputs on halves of steps, and beyond the range."""
    build, shape = BREVITAS[name]
    wrapper = exported(build(), shape, tmp_path)
    x = (np.random.default_rng(0).integers(-400, 400, (300, *shape)) / 128).astype(np.float32)
    ours = from_qonnx(wrapper, "Ditto", tmp_path, device="emulator")
    types = {str(layer.get_output_variable().type.precision) for layer in ours.get_layers()}
    assert any("RND_CONV" in each for each in types) and (
        "symmetric" not in name or any("SAT_SYM" in each for each in types)
    )
    theirs = from_qonnx(wrapper, "Vitis", tmp_path, io_type="io_parallel")
    with silent():
        theirs.compile()
    expected = theirs.predict(x)
    assert len(np.unique(expected)) > 100, "the comparison says something"
    assert np.array_equal(ours.predict(x), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: [convolution(3, 4, kernel_size=3, bias=False), quantizer()],
            "found an input of fixed<32,16,TRN,WRAP>",
        ),
        (lambda: [quantizer(), convolution(3, 4, kernel_size=3, bias=False)], "a type with the engine's limits"),
        (lambda: [quantizer(), convolution(3, 4, kernel_size=3, bias=True)], "found a bias with 16 fraction bits"),
        (
            lambda: [quantizer(), convolution(3, 4, kernel_size=2, dilation=2, bias=False), quantizer()],
            "a dilation of 2",
        ),
    ],
)
def test_brevitas_models_that_would_not_be_exact_are_refused(build, message, tmp_path):
    model = from_qonnx(exported(build(), (3, 6, 6), tmp_path), "Ditto", tmp_path, device="emulator")
    with pytest.raises(Unsupported, match=message):
        model.predict(np.zeros((1, 3, 6, 6), np.float32))


# ---------------------------------------------------------------------------------------------------- Keras, PyTorch


def keras_files(folder, **settings) -> dict[str, str]:
    """A saved Keras 2 model of one convolution (and a ReLU layer), as its JSON and weights."""
    convolved = {key: settings.pop(key) for key in ("padding", "dilation_rate", "groups") if key in settings}
    config = {
        "name": "conv",
        "filters": 4,
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "valid",
        "groups": 1,
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "activation": "linear",
        "use_bias": True,
    } | convolved
    architecture = {
        "class_name": "Sequential",
        "config": {
            "name": "model",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "config": {"batch_input_shape": [None, 8, 8, 4], "dtype": "float32", "name": "in"},
                },
                {"class_name": "Conv2D", "config": config},
                {"class_name": "ReLU", "config": {"name": "cut", "max_value": None, "negative_slope": 0.0} | settings},
            ],
        },
    }
    (folder / "model.json").write_text(json.dumps(architecture))
    random = np.random.default_rng(0)
    with h5py.File(folder / "weights.h5", "w") as file:
        file["conv/conv/kernel:0"] = random.uniform(-1, 1, (3, 3, 4 // config["groups"], 4))
        file["conv/conv/bias:0"] = random.uniform(-1, 1, 4)
    return {"KerasJson": str(folder / "model.json"), "KerasH5": str(folder / "weights.h5")}


def ditto_config(folder, **more) -> dict:
    precision = {"default": FIXED, "result": FIXED, "accum": "auto"}
    layers = {name: {"Precision": precision} for name in ("conv", "conv_linear", "cut", "in")}
    config = create_config(output_dir=str(folder / "project"), backend="Ditto", device="emulator") | more
    return config | {"HLSConfig": {"Model": {"Precision": {"default": FIXED}, "ReuseFactor": 1}, "LayerName": layers}}


def test_a_plain_keras_convolution_is_translated(tmp_path):
    with silent():
        model = keras_v2_to_hls(ditto_config(tmp_path, **keras_files(tmp_path, padding="same")))
    assert model.predict(np.ones((2, 8, 8, 4), np.float32)).shape == (2, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dilation_rate": [2, 2]}, r"conv: found dilation_rate \[2, 2\]"),
        ({"dilation_rate": [1, 2], "padding": "same"}, r"conv: found dilation_rate \[1, 2\]"),  # which no shape shows
        ({"groups": 2}, "conv: found groups 2"),
        ({"max_value": 6.0}, "cut: found max_value 6.0"),
        ({"negative_slope": 0.1}, "cut: found negative_slope 0.1"),
    ],
)
def test_what_the_keras_converter_drops_is_refused(settings, message, tmp_path):
    with silent():
        model = keras_v2_to_hls(ditto_config(tmp_path, **keras_files(tmp_path, **settings)))
    with pytest.raises(Unsupported, match=message):
        model.write()
    assert not (tmp_path / "project" / "program").exists()


def keras_layers(weight: tuple[int, ...], size: int) -> list[dict]:
    """As hls4ml's Keras 3 converter describes a convolution of 8 x 8 x 4, whose result is ``size`` x ``size``."""
    convolution = {
        "name": "conv",
        "class_name": "Conv2D",
        "data_format": "channels_last",
        "use_bias": True,
        "filt_height": 3,
        "filt_width": 3,
        "stride_height": 1,
        "stride_width": 1,
        "pad_top": 0,
        "pad_bottom": 0,
        "pad_left": 0,
        "pad_right": 0,
        "in_height": 8,
        "in_width": 8,
        "out_height": size,
        "out_width": size,
        "n_filt": 4,
        "n_chan": 4,
        "weight_data": np.random.default_rng(0).uniform(-1, 1, weight),
        "bias_data": np.zeros(4),
    }
    return [{"name": "in", "class_name": "InputLayer", "input_shape": [8, 8, 4]}, convolution]


@pytest.mark.parametrize(
    ("weight", "size", "message"),
    [
        ((3, 3, 2, 4), 6, r"conv: found weights of shape \(3, 3, 2, 4\), expected \(3, 3, 4, 4\): no groups"),
        ((3, 3, 4, 4), 4, "conv: found a dilation of 1 and an output height of 4, expected 1 and 6"),
    ],
)
def test_shapes_of_other_convolutions_are_refused(weight, size, message, tmp_path):
    with silent():
        model = ModelGraph.from_layer_list(ditto_config(tmp_path), keras_layers(weight, size))
    with pytest.raises(Unsupported, match=message):
        model.write()


def test_a_keras_model_in_memory_is_read_too(tmp_path):
    """Keras 3: shapes do not show the dilation of a convolution whose result has the operand's size."""
    settings = {"name": "conv", "dilation_rate": [2, 2]}
    architecture = json.dumps(
        {"class_name": "Functional", "config": {"layers": [{"class_name": "Conv2D", "config": settings}]}}
    )
    with silent():
        model = ModelGraph.from_layer_list(ditto_config(tmp_path), keras_layers((3, 3, 4, 4), 6))
    model.config.config["KerasModel"] = SimpleNamespace(to_json=lambda: architecture)
    with pytest.raises(Unsupported, match=r"conv: found dilation_rate \[2, 2\]"):
        model.write()


def test_a_pytorch_dilation_is_refused_that_the_converter_drops(tmp_path):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, dilation=(1, 2))).eval()  # hls4ml reads the first of the two
    with silent():
        config = hls4ml.utils.config_from_pytorch_model(
            model,
            (4, 8, 8),
            granularity="name",
            backend="Ditto",
            default_precision=FIXED,
            channels_last_conversion="full",
            transpose_outputs=False,
        )
        converted = hls4ml.converters.convert_from_pytorch_model(
            model, hls_config=config, output_dir=str(tmp_path), backend="Ditto"
        )
    with pytest.raises(Unsupported, match=r"0: found dilation \(1, 2\), which hls4ml's converter drops"):
        converted.write()


@pytest.mark.parametrize("named", [False, True])
def test_hls4mls_default_configuration_is_refused_with_what_to_pass(named, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4)).eval()
    choice = {"granularity": "name", "backend": "Ditto"} if named else {"default_precision": FIXED}
    with silent():
        config = hls4ml.utils.config_from_pytorch_model(model, (4,), **choice)
        converted = hls4ml.converters.convert_from_pytorch_model(
            model, hls_config=config, output_dir=str(tmp_path), backend="Ditto"
        )
    with pytest.raises(
        Unsupported, match='granularity="name", backend="Ditto", default_precision="fixed<8,3,RND,SAT>"'
    ):
        converted.write()
