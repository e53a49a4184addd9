"""What the commands that train have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
import torch


def training(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for threads, whose expected errors are said in one line."""

    @functools.wraps(command)
    def wrapped(*args: Any, threads: int, **kwargs: Any) -> None:
        if threads:
            torch.set_num_threads(threads)
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; the same command goes on from the last checkpoint") from None
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return click.option("--threads", default=0, help="CPU threads (default: all).")(wrapped)
