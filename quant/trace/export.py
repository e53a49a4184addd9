"""torch.export of a diffusers denoiser, quiet, with one line for whatever it raises."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from textwrap import shorten

import torch
from torch import fx, nn

from ..common.unsupported import UnsupportedOperator

LONGEST = 300  # characters of another library's message


def export_aten(
    model: nn.Module, batch: int, shapes: Mapping[str, tuple[int, ...]], conditions: Mapping[str, torch.Tensor]
) -> fx.GraphModule:
    """The model as a graph of aten operators: of inputs with these ``shapes`` per sample, and of ``conditions`` [batch, ...].

    UnsupportedOperator, with the path of the module that failed, where the model does not run on them.
    """
    try:
        with _quiet():
            inputs = {name: torch.zeros(batch, *shape) for name, shape in shapes.items()}
            exported = torch.export.export(model.eval(), (), {**inputs, **conditions}, strict=False).module()
    except Exception as error:  # whatever the model's code raises on inputs that it was not made for
        found = shorten(f"{type(error).__name__}: {error}", LONGEST)
        sample = next(iter(shapes.values()))
        raise UnsupportedOperator(
            f"the model does not run on samples of {sample}: {found} in {_failed_module(model, error) or '(model)'}"
        ) from error
    assert isinstance(exported, fx.GraphModule)
    return exported


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings, and without what torch logs of an operator that fails: the error says it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addFilter(_never)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(_never)


def _never(record: logging.LogRecord) -> bool:
    return False


def _failed_module(model: nn.Module, error: BaseException) -> str:
    """Path of the innermost module whose code was running when ``error`` was raised."""
    paths = {id(module): name for name, module in model.named_modules()}
    path, trace = "", error.__traceback__
    while trace is not None:
        path = paths.get(id(trace.tb_frame.f_locals.get("self")), path)
        trace = trace.tb_next
    return path
