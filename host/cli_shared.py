"""What the commands share: their options, what they do with errors, what opens models and devices."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..hls.artefact import QuantizedModel
    from ..hls.config import HardwareConfig
    from .device import Device
    from .runtime import Model

MODEL = click.argument("model", type=click.Path(path_type=Path), required=False)
BOARD = click.option("--board", default="zcu104", show_default=True, help="Board whose configuration is emulated.")
HARDWARE = click.option(
    "--hardware", type=click.Path(path_type=Path), help="Hardware configuration (JSON) instead of --board."
)
DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, board, remote:HOST[:PORT], emulator, csim, or pynq-emulator, pynq-csim: these behind PYNQ's driver.",
)
BITSTREAMS = click.option(
    "--bitstreams", type=click.Path(path_type=Path), help="Folder of built bitstreams (default: the shipped one)."
)
BACKEND = click.option(
    "--backend", help="Integer product of the emulator: vnni, float32 or numpy (default: fastest exact)."
)
MEMORY = click.option(
    "--memory",
    type=int,
    help="MiB of contiguous memory, if the board's boot parameter cma= reserves other than PYNQ's default.",
)
PLOTS = click.option("--plots", type=click.Path(path_type=Path), help="Draw figures (PNG) into this folder.")
INTERRUPTED = 130
EXTRAS = {
    "jinja2": "hls",
    "torch": "quant",
    "diffusers": "quant",
    "transformers": "quant",
    "brevitas": "quant",
    "scipy": "quant",
    "numba": "fast",
    "matplotlib": "plots",
    "pynq": "board",
    "pynqmetadata": "board",
    "grpc": "board",
    "distributed": "fleet",
}


class InLine(click.ClickException):
    """A user's error: one line on stderr, exit code 1."""

    def format_message(self) -> str:
        return " ".join(self.message.split())


def reporting_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors that bad input causes into one line each; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        from ..hls.csim import CannotCompile
        from .device import DeviceError

        try:
            command(*args, **kwargs)
        except (ValueError, FileNotFoundError, FileExistsError, PermissionError, DeviceError, CannotCompile) as error:
            raise InLine(str(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            raise InLine(f"{package} is not installed; run: pip install 'ditto-zynq[{EXTRAS[package]}]'") from error
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None

    return wrapper


def load_model(
    model: Path | None, device: str, board: str, hardware: Path | None, backend: str | None, counting: bool,
    bitstreams: Path | None = None, deadline_s: float = 600.0, memory_mib: int | None = None,
) -> Model:  # fmt: skip
    from ..hls.artefact import load as load_artefact
    from .runtime import BUNDLED_MODEL, Model

    artefact = load_artefact(BUNDLED_MODEL if model is None else model)
    opened = device_of(device, config_of(board, hardware, artefact), counting, backend, bitstreams)
    return Model(artefact, opened, deadline_s, memory_mib)


def device_of(
    device: str, config: HardwareConfig, counting: bool, backend: str | None, bitstreams: Path | None
) -> Device:
    from .devices import open_device

    return open_device(device, config, counting, backend, bitstreams, announce)


def announce(text: str) -> None:
    click.echo(text, err=True)


def config_of(board: str, hardware: Path | None, artefact: QuantizedModel | None = None) -> HardwareConfig:
    """The board's default, with row buffers large enough for the model; or the one of the file."""
    from ..hls.config import HardwareConfig, default_config

    if hardware is not None:
        return HardwareConfig.load(hardware)
    if artefact is None:
        return default_config(board)
    from .operations import fitting

    return fitting(default_config(board), artefact.graph)


def fleet_of(workers: int | None, cluster: str | None) -> contextlib.AbstractContextManager[str]:
    """The address of a scheduler: that of ``cluster``, or of ``workers`` new processes."""
    from . import fleet

    if workers is not None and cluster is not None:
        raise ValueError("found --workers and --cluster, expected one of them")
    if workers is not None and workers < 1:
        raise ValueError(f"found {workers} workers, expected at least 1")
    return fleet.connection(cluster) if cluster is not None else fleet.cluster_of(workers or 1)


def check_plots(folder: Path | None) -> None:
    """ModuleNotFoundError or ValueError before anything long runs; makes the folder."""
    if folder is None:
        return
    import matplotlib  # noqa: F401

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder for figures")
    folder.mkdir(parents=True, exist_ok=True)


def parse_labels(text: str | None) -> list[int] | None:
    """``"0-3,7"`` -> [0, 1, 2, 3, 7]."""
    if text is None:
        return None
    labels: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            labels.extend(range(int(first), int(last or first) + 1))
        except ValueError:
            raise ValueError(f"found labels {text!r}, expected numbers and ranges such as 0-3,7") from None
    if not labels:
        raise ValueError(f"found labels {text!r}, which name none; expected numbers and ranges such as 0-3,7")
    return labels
