"""The hls4ml backend ``Ditto``: sequential models of Dense, Conv2D and ReLU layers on this project's engine.

Installed with ``ditto-zynq[hls]``, hls4ml finds it by the entry point ``hls4ml.backends``. ``convert_from_*_model(...,
backend="Ditto", board="zcu104")`` translates, ``compile()`` writes the HLS project and the program and builds the C simulation,
``predict()`` runs on it (or, with ``device="emulator"``, on the emulator) with the bits of hls4ml's own C simulation.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hls4ml.backends import FPGABackend
from hls4ml.model.flow import register_flow
from hls4ml.writer.writers import Writer

from ...hls.artefact.model import QuantizedModel
from ...hls.build.csim import build_library, default_cache
from ...hls.build.project import run_tools, write_project
from ...hls.contract.references import Reference
from ...hls.machine.boards import DEFAULT_BOARD
from ...hls.machine.config import HardwareConfig, default_config
from ..devices.csim import CSimDevice
from ..devices.device import Device
from ..devices.emulator import EmulatorDevice
from ..program.compiler import compile_program
from ..runtime.session import ORIGINAL, Session
from .graph import INPUT, Translation, translate

NAME = "Ditto"
LARGEST_BATCH = 64


def register(register_backend: Callable[..., None], register_writer: Callable[..., None]) -> None:
    """Register writer and backend; what hls4ml calls for the entry point."""
    register_writer(NAME, DittoWriter)
    register_backend(NAME, DittoBackend)


class DittoWriter(Writer):
    """Writes ``firmware/`` (the HLS project of the configuration) and ``program/`` (descriptors, weights, parameters, map)."""

    def write_hls(self, model: Any) -> None:
        """Write both folders for a model of hls4ml. Unsupported for one that is not computed exactly."""
        folder = Path(model.config.get_output_dir())
        config = hardware_of(model)
        translation = translate(model)
        (folder / "firmware").mkdir(parents=True, exist_ok=True)
        (folder / "program").mkdir(exist_ok=True)
        write_project(config, folder / "firmware")
        program = compile_program(translation.graph, translation.tables, config, batch=1)
        program.descriptors.tofile(folder / "program" / "descriptors.bin")
        program.weights.tofile(folder / "program" / "weights.bin")
        program.parameters.block(0, np.zeros(1, np.int64), Reference.ZERO, False).tofile(
            folder / "program" / "parameters.bin"
        )
        tensors = {INPUT: program.placements[INPUT], "output": program.placements[translation.graph.output]}
        memory = {
            "configuration": config.digest,
            "bytes": {region.name: size for region, size in program.sizes.items()},
            "tensors": {name: {"offset": place.offset, "pitch": place.pitch} for name, place in tensors.items()},
            "input": {
                "types": [str(each) for each in translation.input_types],
                "positions": translation.input_layout.tolist(),
            },
            "output": {
                "scale": translation.output_scale,
                "offset": translation.output_offset,
                "positions": translation.output_layout.tolist(),
            },
        }
        (folder / "program" / "memory.json").write_text(json.dumps(memory, indent=1) + "\n")


class DittoBackend(FPGABackend):
    """hls4ml's backend ``Ditto``: of hls4ml only its general optimizers run, and what is left is translated to descriptors, not
    to C++ calls. Flows here are hls4ml's: chains of its passes."""

    def __init__(self) -> None:
        super().__init__(name=NAME)
        types = register_flow("types", ["infer_precision_types"], requires=["optimize"], backend=self.name)
        self._default_flow = register_flow("ip", None, requires=["optimize", types], backend=self.name)
        writing = ["make_stamp", f"{self.name.lower()}:write_hls"]
        self._writer_flow = register_flow("write", writing, requires=[self._default_flow], backend=self.name)

    def get_default_flow(self) -> str:
        """The flow that hls4ml runs when it makes a model."""
        return self._default_flow

    def get_writer_flow(self) -> str:
        """The flow that hls4ml runs when it writes a model."""
        return self._writer_flow

    def create_initial_config(
        self,
        board: str | None = None,
        hardware: HardwareConfig | str | Path | None = None,
        device: str = "csim",
        cache: str | Path | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The part of hls4ml's configuration that is this backend's. ``board``: its shipped configuration is taken, unless
        ``hardware`` is one or a JSON file of one. ``device``: what ``predict`` runs on, "csim" or "emulator"; ``cache``: folder
        of compiled C simulations. ValueError for another device, board or hardware."""
        if device not in ("csim", "emulator"):
            raise ValueError(f"found device {device!r}, expected csim or emulator")
        if hardware is None:
            hardware = default_config(board or DEFAULT_BOARD)
        config = hardware if isinstance(hardware, HardwareConfig) else HardwareConfig.load(Path(hardware))
        return {
            "Hardware": config.to_json(),
            "Device": device,
            "Cache": str(cache or default_cache()),
            "IOType": "io_parallel",
            "HLSConfig": {},
            "WriterConfig": {"Namespace": None, "WriteWeightsTxt": False, "WriteTar": False},
        }

    def compile(self, model: Any) -> str:
        """Build the C simulation of the configuration; its path. Raises CannotCompile."""
        return str(build_library(hardware_of(model), Path(model.config.get_config_value("Cache"))))

    def predict(self, model: Any, x: np.ndarray) -> np.ndarray:
        """Outputs [N, outputs] of ``x`` float [N, ...], in its type ([outputs] where N is 1, as hls4ml's backends have it).
        ValueError for inputs of another type or number."""
        translation = translate(model)
        x = np.asarray(x)
        if x.dtype not in (np.float32, np.float64):
            raise ValueError(f"found inputs of {x.dtype}, expected float32 or float64")
        elements = translation.input_layout.size
        if x.size == 0 or x.size % elements:
            raise ValueError(f"found {x.size} inputs of shape {x.shape}, expected a multiple of {elements}")
        with contextlib.closing(self._device(model)) as device:
            outputs = np.concatenate(list(_run(translation, device, x.reshape(-1, elements)))).astype(x.dtype)
        return outputs[0] if len(outputs) == 1 else outputs

    def build(self, model: Any, **_: Any) -> Any:
        """Synthesize with AMD's tools; their report. Raises ToolsMissing where they are not on PATH."""
        return run_tools(hardware_of(model), Path(model.config.get_output_dir()) / "firmware")

    def _device(self, model: Any) -> Device:
        config, cache = hardware_of(model), Path(model.config.get_config_value("Cache"))
        if model.config.get_config_value("Device") == "emulator":
            return EmulatorDevice(config, counting=False)
        return CSimDevice(config, cache=cache)


def hardware_of(model: Any) -> HardwareConfig:
    """The hardware configuration that a model of hls4ml was converted for."""
    return HardwareConfig.from_json(model.config.get_config_value("Hardware"))


def _run(translation: Translation, device: Device, samples: np.ndarray) -> Iterator[np.ndarray]:
    """Outputs of samples float [N, inputs] in parts float64 [n, outputs], in order: one program for full batches, and one for the
    rest."""
    graph = translation.graph
    scales = {INPUT: np.ones(1), graph.output: np.ones(1)}
    artefact = QuantizedModel(graph, translation.tables, scales, {}, {}, {})
    whole = len(samples) // LARGEST_BATCH * LARGEST_BATCH
    for part, batch in ((samples[:whole], LARGEST_BATCH), (samples[whole:], len(samples) - whole)):
        if not len(part):
            continue
        program = compile_program(graph, translation.tables, device.config, batch)
        with contextlib.closing(Session(program, artefact, device)) as session:
            for first in range(0, len(part), batch):
                codes = translation.encode(part[first : first + batch]).transpose(0, 3, 1, 2).astype(np.float64)
                output = session.run_step(codes, 0, np.zeros(batch, np.int64), ORIGINAL)
                yield translation.decode(output.transpose(0, 2, 3, 1))
