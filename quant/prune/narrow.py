"""Narrower models: a diffusers U-Net with fewer channels in single layers, as ``widths`` in its configuration says.

A stock configuration has one width for each block; where every layer has its own, these subclasses are the models' home. Their
folders load with ``DiffusionPipeline.from_pretrained`` as any other once this module has been imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import ModelMixin as ModelMixin  # pipelines look for it here, to know how the classes below are loaded
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

Widths = Mapping[str, tuple[int, int]]  # of layers and norms: channels of the output and of the input


def _takes_widths(stock: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An initializer that has the arguments of ``stock`` and ``widths``: diffusers reads from it what a configuration may say."""

    def decorate(initialize: Callable[..., None]) -> Callable[..., None]:
        of_stock = list(inspect.signature(stock.__init__).parameters.values())  # type: ignore[misc]
        widths = inspect.Parameter("widths", inspect.Parameter.KEYWORD_ONLY, default=None)
        initialize.__signature__ = inspect.Signature([*of_stock, widths])  # type: ignore[attr-defined]
        return initialize

    return decorate


class NarrowUNet2DModel(UNet2DModel):
    """``UNet2DModel`` whose layers have the channels of ``widths``, where that names them."""

    @_takes_widths(UNet2DModel)
    def __init__(self, *arguments: Any, widths: Widths | None = None, **stock: Any):
        super().__init__(*arguments, **stock)
        self.register_to_config(widths={path: list(found) for path, found in (widths or {}).items()})
        narrow(self, widths or {})


class NarrowUNet2DConditionModel(UNet2DConditionModel):
    """``UNet2DConditionModel`` whose layers have the channels of ``widths``, where that names them."""

    @_takes_widths(UNet2DConditionModel)
    def __init__(self, *arguments: Any, widths: Widths | None = None, **stock: Any):
        super().__init__(*arguments, **stock)
        self.register_to_config(widths={path: list(found) for path, found in (widths or {}).items()})
        narrow(self, widths or {})


NARROW: dict[type[nn.Module], type[nn.Module]] = {
    UNet2DModel: NarrowUNet2DModel,
    UNet2DConditionModel: NarrowUNet2DConditionModel,
}
STOCK_NAMES = {kind.__name__: stock.__name__ for stock, kind in NARROW.items()}


UNKNOWN_BLOCKS = ("Skip", "AttnSkip")  # whose images go around the blocks


def stock_kind(model: nn.Module) -> type[nn.Module]:
    """diffusers' own class of a model."""
    return next(kind for kind in type(model).__mro__ if kind.__module__.startswith("diffusers."))


def narrow_kind(model: nn.Module) -> type[nn.Module]:
    """The class of a model like this one with widths of single layers. ValueError where there is none."""
    kinds = [kind for stock, kind in NARROW.items() if isinstance(model, stock)]
    if not kinds:
        known = ", ".join(stock.__name__ for stock in NARROW)
        raise ValueError(f"found a {type(model).__name__}, expected one of {known}: others cannot be pruned")
    for path, module in model.named_modules():
        if getattr(module, "added_kv_proj_dim", None) is not None or type(module).__name__.startswith(UNKNOWN_BLOCKS):
            raise ValueError(f"found a {type(module).__name__} at {path}, which cannot be pruned")
    return kinds[0]


def adopt(model: nn.Module) -> nn.Module:
    """A model of this module's classes with the layers of ``model``, a U-Net whose layers another tool has made narrower (such as
    one that was pruned with torch-pruning and pickled whole): what it is can then be saved and quantized."""
    kind = narrow_kind(model)
    config = {name: value for name, value in config_of(model).items() if name != "widths"}
    full = dict(empty(kind, config).named_modules())
    widths = {}
    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm)):
            if path not in full:
                raise ValueError(f"found a layer {path}, which a model of this configuration does not have")
            found = channels_of(module)
            if found != channels_of(full[path]):
                widths[path] = found
    result = kind.from_config(config | {"widths": widths})  # type: ignore[attr-defined]
    for path, module in result.named_modules():
        if isinstance(module, Attention) and module.heads != (heads := model.get_submodule(path).heads):
            raise ValueError(
                f"found {heads} heads at {path}, of {module.inner_dim} channels together, expected {module.heads}: heads go as "
                "whole ones; prune with as many channels in each head"
            )
    try:
        result.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"found parameters of other shapes than the layers say ({str(error).splitlines()[-1].strip()})"
        ) from error
    wanted = next(model.parameters()).dtype
    return (result if wanted == torch.float32 else result.to(wanted)).eval()


def narrow(model: nn.Module, widths: Widths) -> None:
    """Give the layers and norms at these paths so many channels, the first ones of what they have. ValueError for a path that the
    model has not, and for more channels than there are."""
    for path, (outputs, inputs) in widths.items():
        try:
            layer = model.get_submodule(path)
        except AttributeError as error:
            raise ValueError(f"widths: found {path!r}, which the model does not have") from error
        _narrow_layer(path, layer, outputs, inputs)
    for module in model.modules():
        _follow(module)


def _narrow_layer(path: str, layer: nn.Module, outputs: int, inputs: int) -> None:
    had = channels_of(layer)
    if not (1 <= outputs <= had[0] and 1 <= inputs <= had[1]):
        raise ValueError(f"widths: found {[outputs, inputs]} of {path}, expected 1 to {list(had)} channels")
    if isinstance(layer, nn.GroupNorm) and outputs % layer.num_groups:
        raise ValueError(
            f"widths: found {outputs} channels of {path}, expected a multiple of its {layer.num_groups} groups"
        )
    for name, parameter in list(layer.named_parameters(recurse=False)):
        kept = parameter[:outputs, :inputs] if parameter.ndim > 1 else parameter[:outputs]
        setattr(layer, name, nn.Parameter(kept.detach().clone(), requires_grad=parameter.requires_grad))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.ndim:
            setattr(layer, name, buffer[:outputs].clone())
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = outputs, inputs
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = outputs, inputs
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = outputs
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = outputs
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (outputs,)


def channels_of(layer: nn.Module) -> tuple[int, int]:
    """Channels of a layer's or norm's output and input. TypeError for modules of other kinds."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels, layer.num_channels
    if isinstance(layer, nn.BatchNorm2d):
        return layer.num_features, layer.num_features
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1], layer.normalized_shape[-1]
    raise TypeError(f"found {type(layer).__name__}, expected a convolution, a linear layer or a norm")


def _follow(module: nn.Module) -> None:
    """What modules of diffusers remember of their layers' widths."""
    if isinstance(module, Attention):
        head = module.inner_dim // module.heads
        inner = module.to_q.out_features
        if inner % head == 0:
            module.heads = inner // head
        module.inner_dim = module.inner_kv_dim = inner
    elif isinstance(module, (Downsample2D, Upsample2D)) and isinstance(module.conv, nn.Conv2d):
        module.channels, module.out_channels = module.conv.in_channels, module.conv.out_channels
    elif isinstance(module, ResnetBlock2D):
        module.in_channels, module.out_channels = module.conv1.in_channels, module.conv2.out_channels
        for sampling in (module.upsample, module.downsample):
            if isinstance(sampling, (Downsample2D, Upsample2D)):  # without a convolution of its own
                sampling.channels = sampling.out_channels = module.in_channels


def config_of(model: nn.Module) -> dict[str, Any]:
    """What a model of its kind is made of, without what diffusers notes beside: among that, which values to forget."""
    return {name: value for name, value in model.config.items() if not name.startswith("_")}  # type: ignore[union-attr, operator]


def empty(kind: type[nn.Module], config: Mapping[str, Any]) -> nn.Module:
    """A model without memory, by which shapes and multiplications are counted."""
    with torch.device("meta"):
        return kind.from_config(dict(config))  # type: ignore[attr-defined]
