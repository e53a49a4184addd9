"""What the commands share: their options, what they do with errors, what opens models and devices."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...hls.machine.boards import DEFAULT_BOARD
from ..common.files import check_file, check_folder
from ..common.limits import MOST_IMAGES, MOST_SAMPLES, SEED_BITS

if TYPE_CHECKING:
    from ...hls.artefact.model import QuantizedModel
    from ...hls.machine.config import HardwareConfig
    from ..devices.device import Device


class _Output(click.Path):
    """A file that can be written, or a folder that can be written to or made, which is found before anything else."""

    def __init__(self, check: Callable[[Path], None]):
        super().__init__(path_type=Path)
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        self._check(path)
        return path


OUTPUT_FILE, OUTPUT_FOLDER = _Output(check_file), _Output(check_folder)
MODEL = click.argument("model", type=click.Path(path_type=Path), required=False)
BOARD = click.option("--board", default=DEFAULT_BOARD, show_default=True, help="Board whose configuration is emulated.")
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
COUNT, BATCH = click.IntRange(1, MOST_IMAGES), click.IntRange(1, MOST_SAMPLES)
SEED, WORKERS = click.IntRange(0, (1 << SEED_BITS) - 1), click.IntRange(1, 256)
INTERRUPTED = 130
LONGEST_RANGE = 100_000  # of labels that are asked for as 0-99999
EXTRAS = {
    "jinja2": "hls",
    "torch": "quant",
    "diffusers": "quant",
    "transformers": "quant",
    "brevitas": "quant",
    "scipy": "quant",
    "torch_pruning": "quant",
    "numba": "fast",
    "matplotlib": "plots",
    "pynq": "board",
    "pynqmetadata": "board",
    "grpc": "board",
    "distributed": "fleet",
}


class InLine(click.ClickException):
    """Raised for a user's error: one line on stderr, exit code 1."""

    def format_message(self) -> str:
        """The message in one line."""
        return " ".join(self.message.split())


class WrongCall(InLine):
    """Raised for options or arguments that a command does not have, or that are of another type: click's exit code for them."""

    exit_code = 2


class Polite(click.Command):
    """A command that answers bad input, and what the machine refuses, with one line on stderr and a non-zero exit code, an
    interrupt with one line and 130; only a bug has a traceback. What other packages warn of, or log, is not shown (but for errors
    while ``serve`` runs)."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        """Read the arguments; what is wrong with them is said in one line."""
        shows_help = self.no_args_is_help and not args
        with contextlib.nullcontext() if shows_help else _one_line():
            return super().make_context(info_name, args, *rest, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it is refused, or ends it, is said in one line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
        with _one_line(), _only_our_warnings():
            return super().invoke(ctx)


class Commands(Polite, click.Group):
    """A group of commands, all of which are as :class:`Polite`."""


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

    from ...hls.build.csim import CannotCompile
    from ..common.errors import DeviceError

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
    from ...hls.common.notices import Notice

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=Notice)
            warnings.showwarning = lambda message, *_: announce(f"warning: {message}")  # type: ignore[assignment]
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def without_loading_bars() -> Iterator[None]:
    """Keep diffusers and transformers from showing bars of what they load: they come with the pipelines that are loaded here."""
    packages = [name for name in ("diffusers", "transformers") if importlib.util.find_spec(name) is not None]
    bars = [importlib.import_module(f"{name}.utils.logging") for name in packages]
    shown = [each for each in bars if each.is_progress_bar_enabled()]
    for each in shown:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()


def device_of(
    device: str,
    config: HardwareConfig,
    counting: bool,
    backend: str | None,
    bitstreams: Path | None,
    check: bool = False,
) -> Device:
    """Open the device of ``--device``; where the emulator must compile first, say so."""
    from ..devices.opening import open_device

    opened = open_device(device, config, counting, backend, bitstreams, announce, check)
    if opened.name == "emulator" or device == "pynq-emulator":
        announce_compiling()
    return opened


def announce_compiling() -> None:
    """Say that the emulator's first step takes minutes, where it does: once on a machine."""
    from ..compute.loop_cache import is_cold

    if is_cold():
        announce("compiling the emulator's loops: this takes one to three minutes, at the first run only")


def announce(text: str) -> None:
    """Say something on stderr, which is not the command's result."""
    click.echo(text, err=True)


def config_of(board: str, hardware: Path | None, artefact: QuantizedModel | None = None) -> HardwareConfig:
    """The configuration of ``--board``, with row buffers large enough for the model, or that of the file ``--hardware``.
    ValueError for a board or file that is none."""
    from ...hls.machine.config import HardwareConfig, default_config

    if hardware is not None:
        return HardwareConfig.load(hardware)
    if artefact is None:
        return default_config(board)
    from ..program.operations import fitting

    return fitting(default_config(board), artefact.graph)


def fleet_of(workers: int | None, cluster: str | None) -> contextlib.AbstractContextManager[str]:
    """A context with the address of a scheduler: that of ``cluster``, or of ``workers`` new processes. ValueError for both."""
    from ..runtime import fleet

    if workers is not None and cluster is not None:
        raise ValueError("found --workers and --cluster, expected one of them")
    return fleet.connection(cluster) if cluster is not None else fleet.cluster_of(workers or 1)


def check_plots(folder: Path | None, output: Path | None) -> None:
    """Make the folder for figures, if there is to be one. ModuleNotFoundError without matplotlib, ValueError where the output has
    the folder's name, before anything long runs."""
    if folder is not None:
        import matplotlib  # noqa: F401

        if output is not None and output.resolve() == folder.resolve():
            raise ValueError(
                f"found {output} for the output and the figures, expected a file and a folder of other names"
            )

        folder.mkdir(parents=True, exist_ok=True)


def labels_for(artefact: QuantizedModel, text: str | None) -> list[int] | None:
    """The labels that ``--labels`` asks for; None for the model's own. ValueError where the model takes none."""
    from ...hls.artefact.model import null_label

    takes_some = artefact.config.get("num_class_embeds") or null_label(artefact.config) is not None
    if text is not None and artefact.labels == (0,) and not takes_some:
        raise ValueError(f"found --labels {text}, but the model has no classes; leave --labels out")
    return parse_labels(text)


def parse_labels(text: str | None) -> list[int] | None:
    """Labels of a text: [0, 1, 2, 3, 7] of ``"0-3,7"``; None where there is none. ValueError for other text."""
    if text is None:
        return None
    labels: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        try:
            first, last = int(low), int(high if dash else low)
        except ValueError:
            first, last = 0, -1
        if not 0 <= last - first < LONGEST_RANGE:
            raise ValueError(
                f"found labels {text!r}, expected numbers and ranges such as 0-3,7 (of at most {LONGEST_RANGE:,})"
            )
        labels.extend(range(first, last + 1))
    return labels
