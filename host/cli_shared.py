"""What the commands share: their options, what they do with errors, what opens models and devices."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..hls.artefact import QuantizedModel
    from ..hls.config import HardwareConfig
    from .device import Device
    from .runtime import Model


class _OutputFile(click.Path):
    """A file that can be written, which is found before anything else."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from .files import check_file

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_file(path)
        return path


class _OutputFolder(click.Path):
    """A folder that can be written to, or made, which is found before anything else."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from .files import check_folder

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_folder(path)
        return path


OUTPUT_FILE, OUTPUT_FOLDER = _OutputFile(path_type=Path), _OutputFolder(path_type=Path)
MODEL = click.argument("model", type=click.Path(path_type=Path), required=False)
BOARD = click.option("--board", default="zcu104", show_default=True, help="Board whose configuration is emulated.")
HARDWARE = click.option(
    "--hardware", type=click.Path(path_type=Path), help="Hardware configuration (JSON) instead of --board."
)
DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, board, remote:[TOKEN@]HOST[:PORT], emulator, csim, or pynq-emulator, pynq-csim: these behind PYNQ's driver.",
)
BITSTREAMS = click.option(
    "--bitstreams", type=click.Path(path_type=Path), help="Folder of built bitstreams (default: the shipped one)."
)
BACKEND = click.option(
    "--backend", help="Integer product of the emulator: vnni, int16 or numpy (default: fastest exact)."
)
MEMORY = click.option(
    "--memory",
    type=click.IntRange(min=1),
    help="MiB of contiguous memory, if the board's boot parameter cma= reserves other than PYNQ's default.",
)
PLOTS = click.option("--plots", type=OUTPUT_FOLDER, help="Draw figures (PNG) into this folder.")
COUNT, SEED, WORKERS = click.IntRange(1, 1_000_000), click.IntRange(0, 2**64 - 1), click.IntRange(1, 256)
INTERRUPTED = 130
MOST_LABELS = 100_000
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


class WrongCall(InLine):
    """Options or arguments that a command does not have, or that are of another type: click's exit code for them."""

    exit_code = 2


class Commands(click.Group):
    """Commands that answer bad input, and what the machine refuses, with one line on stderr and a non-zero exit code, an
    interrupt with one line and 130; only a bug has a traceback. What other packages warn of, or log, is not shown (but for
    errors while ``serve`` runs)."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        with _one_line() if args else contextlib.nullcontext():  # without any, click shows the help
            return super().make_context(info_name, args, *rest, **more)

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
        with _one_line(), _only_our_warnings():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        announce(str(interrupt) or "interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        raise  # click ends quietly
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        raise WrongCall(f"{error.format_message()}{hint}") from error
    except Exception as error:
        text = _explanation(error)
        if text is None:
            raise
        raise InLine(text) from error


def _explanation(error: Exception) -> str | None:
    """What to say of an error that input or the machine causes; None of a bug."""
    from safetensors import SafetensorError

    from ..hls.csim import CannotCompile
    from .device import DeviceError

    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        missing = f"{package} is not installed; run: pip install 'ditto-zynq[{EXTRAS.get(package)}]'"
        return missing if package in EXTRAS else None
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename is not None else ""
        return f"{named}{error.strerror}" if error.strerror else str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return ": ".join(filter(None, ("not enough memory", str(error)))) + "; take a smaller --batch or model"
    return str(error) if isinstance(error, (ValueError, SafetensorError, DeviceError, CannotCompile)) else None


@contextlib.contextmanager
def _only_our_warnings() -> Iterator[None]:
    from ..hls.arithmetic import PrecisionWarning

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=PrecisionWarning)
            warnings.showwarning = lambda message, *_: announce(f"warning: {message}")  # type: ignore[assignment]
            yield
    finally:
        logging.disable(disabled)


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
    return fleet.connection(cluster) if cluster is not None else fleet.cluster_of(workers or 1)


def check_plots(folder: Path | None) -> None:
    """ModuleNotFoundError before anything long runs; makes the folder."""
    if folder is not None:
        import matplotlib  # noqa: F401

        folder.mkdir(parents=True, exist_ok=True)


def parse_labels(text: str | None) -> list[int] | None:
    """``"0-3,7"`` -> [0, 1, 2, 3, 7]."""
    if text is None:
        return None
    labels: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            found = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            found = range(0)
        if not 0 < len(found) <= MOST_LABELS:
            raise ValueError(
                f"found labels {text!r}, expected numbers and ranges such as 0-3,7 (at most {MOST_LABELS:,})"
            )
        labels.extend(found)
    return labels
