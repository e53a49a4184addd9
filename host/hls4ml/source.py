"""What hls4ml's converters leave out of its model, read from the model that was converted.

hls4ml's Conv2D knows neither groups nor dilation: its Keras converters drop both without a word, the PyTorch one a part of the
dilation, and that of Keras 2 the settings of ReLU. Shapes show some of it, the user's own model all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DROPPED = {  # attributes of layers, and the values that change nothing
    "groups": (1,),
    "dilation": (1,),
    "dilation_rate": (1,),
    "max_value": (None, float("inf")),
    "negative_slope": (None, 0),
    "threshold": (None, 0),
}


def dropped_settings(model: Any) -> Iterator[tuple[str, str, Any]]:
    """Every (layer, setting, value) that hls4ml's converter left out of ``model``, its ModelGraph."""
    config = model.config.config
    for name, settings in (*_pytorch_layers(config), *_keras_layers(config)):
        for setting, neutral in DROPPED.items():
            value = settings.get(setting, neutral[0])
            if any(each not in neutral for each in (value if isinstance(value, (tuple, list)) else (value,))):
                yield name, setting, value


def _pytorch_layers(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and attributes of every module."""
    module = config.get("PytorchModel")
    for name, layer in module.named_modules() if module is not None else ():
        yield name, vars(layer)


def _keras_layers(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of every layer, those of models in the model too."""
    if config.keys() & {"KerasModel", "KerasJson", "KerasH5"}:
        from hls4ml.converters.keras_v2_to_hls import get_model_arch

        architecture, _ = get_model_arch(config)
        yield from _settings(architecture)


def _settings(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        settings = value.get("config")
        if "class_name" in value and isinstance(settings, dict) and "name" in settings:
            yield settings["name"], settings
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from _settings(each)
