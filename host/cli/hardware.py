"""``ditto-zynq csim``, ``build``, ``selftest``, ``serve`` and ``boards``: the accelerator, and what stands for it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..common.words import number_of
from .shared import (
    BACKEND,
    BATCH,
    BITSTREAMS,
    BOARD,
    COUNT,
    DEVICE,
    HARDWARE,
    MODEL,
    OUTPUT_FOLDER,
    SEED,
    InLine,
    announce,
    config_of,
    device_of,
)

NOT_BUILT = 3


@click.command()
@MODEL
@click.option("--steps", default=3, type=COUNT, show_default=True, help="Denoising steps to compare.")
@click.option("--batch", default=2, type=BATCH, show_default=True, help="Samples that advance together.")
@click.option("--types", default="native", show_default=True, help="native, or bits: the exact widths of the hardware.")
@click.option("--seed", default=0, type=SEED, show_default=True)
@BOARD
@HARDWARE
@BACKEND
def csim(
    model: Path | None,
    steps: int,
    batch: int,
    types: str,
    seed: int,
    board: str,
    hardware: Path | None,
    backend: str | None,
) -> None:
    """Compile the kernels of a configuration with g++, run a MODEL's program on them and compare all memory with the emulator."""
    from ...hls.artefact.model import load as load_artefact
    from ..devices.csim import CSimDevice
    from ..devices.emulator import EmulatorDevice
    from ..runtime.agreement import compare
    from ..runtime.model import BUNDLED_MODEL, Model

    artefact = load_artefact(BUNDLED_MODEL if model is None else model)
    config = config_of(board, hardware, artefact)
    simulated = Model(artefact, CSimDevice(config, types, announce=announce))
    emulated = Model(artefact, EmulatorDevice(config, counting=False, backend=backend))
    for line in compare(simulated, emulated, steps, batch, seed):
        click.echo(line)
    ran = f"{number_of(steps, 'step')}, {number_of(batch, 'sample')}"
    click.echo(f"{ran}, {config.board} configuration, {types} types: every bit equal")


@click.command()
@click.option("-o", "--output", type=OUTPUT_FOLDER, required=True, help="Folder of the Vitis HLS and Vivado project.")
@click.option("--publish", type=OUTPUT_FOLDER, help="Also copy bitstream, handoff and manifest to this folder.")
@click.option("--project-only", is_flag=True, help="Write the project and run nothing.")
@click.option("--rtl-multipliers", is_flag=True, help="The multipliers in Verilog, as an RTL blackbox of Vitis HLS.")
@BOARD
@HARDWARE
def build(
    output: Path, publish: Path | None, project_only: bool, rtl_multipliers: bool, board: str, hardware: Path | None
) -> None:
    """Write a Vitis HLS project and a Vivado block design, and run AMD's tools where they are on PATH.

    Without them the project is left complete, to be built elsewhere, and the exit code is 3.
    """
    from ...hls.build import project as builder

    config = config_of(board, hardware)
    paths = builder.write_project(config, output, rtl_multipliers)
    click.echo(f"{output}: {len(paths)} files for {config.board}, configuration {config.digest[:8]}")
    if project_only:
        return
    try:
        report = builder.run_tools(config, output)
    except builder.ToolsMissing as error:
        click.echo(
            f"not built: {error}; run run_hls.tcl and then run_vivado.tcl in {output} where Vitis and Vivado are installed",
            err=True,
        )
        raise SystemExit(NOT_BUILT) from None
    except builder.BuildFailed as error:
        raise InLine(str(error)) from error
    for name, used in report.used.items():
        click.echo(f"{name}: {used} of {report.available.get(name, 0)} (Vitis HLS's estimate)")
    if publish is not None:
        click.echo(f"published: {', '.join(str(path) for path in builder.publish(config, output, publish))}")


@click.command()
@DEVICE
@BITSTREAMS
@click.option(
    "--batch", type=BATCH, help="Samples of the throughput test (default: 16 on a board, 1 where a board is simulated)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@BOARD
@HARDWARE
@BACKEND
def selftest(
    device: str,
    bitstreams: Path | None,
    batch: int | None,
    as_json: bool,
    board: str,
    hardware: Path | None,
    backend: str | None,
) -> None:
    """Check a device: registers, memory, every kind of layer, a denoising step, throughput. Exit code 1 where one fails."""
    from dataclasses import asdict

    from ..runtime.selftest import selftest as run

    opened = device_of(device, config_of(board, hardware), True, backend, bitstreams)
    try:
        announce(f"device: {opened.name} ({opened.config.board} configuration)")
        checks = []
        for check in run(opened, batch):
            checks.append(check)
            if not as_json:
                click.echo(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    finally:
        opened.close()
    failed = [check.name for check in checks if not check.passed]
    if as_json:
        click.echo(json.dumps({"device": opened.name, "checks": [asdict(check) for check in checks]}))
    if failed:
        raise InLine(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7967,
    show_default=True,
    help="TCP port; pynq's own is 7967, 0 takes a free one.",
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Address to listen on; other machines need a token."
)
@click.option("--token", help="What clients must know (default: a random one where other machines reach the address).")
@click.option("--accelerator", default="emulator", show_default=True, help="What runs programs: emulator or csim.")
@click.option(
    "--bitstreams",
    type=OUTPUT_FOLDER,
    default=Path("runs/serve"),
    show_default=True,
    help="Folder for the placeholder bitstream that clients load.",
)
@BOARD
@HARDWARE
@BACKEND
def serve(
    port: int,
    address: str,
    token: str | None,
    accelerator: str,
    bitstreams: Path,
    board: str,
    hardware: Path | None,
    backend: str | None,
) -> None:
    """Serve an emulated board over PYNQ's gRPC protocol, for any remote client, one at a time; Ctrl-C ends it.

    Where other machines reach the address, clients need a token, which only this project's send. Nothing is encrypted.
    """
    import logging
    import secrets
    import socket

    from ..devices.emulated_board import EmulatedBoard, placeholder_bitstream
    from ..devices.opening import fabric_of
    from ..devices.remote_access import is_loopback
    from ..devices.remote_board import place_of
    from ..devices.remote_board import serve as start

    config = config_of(board, hardware)
    logging.disable(logging.WARNING)  # until the command ends: what a call fails of is shown
    everywhere = address.strip("[]") in ("0.0.0.0", "::")
    emulated = EmulatedBoard(fabric_of(accelerator, config, True, backend, announce))
    try:
        if not is_loopback(address):
            token = token or secrets.token_urlsafe(16)
            where = "all interfaces" if everywhere else address
            announce(f"warning: listens on {where}: whoever knows the token drives the board, and nothing is encrypted")
        server, bound = start(emulated, port, address, token)
    except OSError as error:
        raise InLine(str(error)) from error
    try:
        bitstream = placeholder_bitstream(config, bitstreams)
        known, place = f"{token}@" if token else "", place_of(socket.gethostname() if everywhere else address, bound)
        click.echo(f"{emulated.name} at {place_of(address, bound)}; bitstream {bitstream.path}")
        click.echo(f"use it:  ditto-zynq generate --device remote:{known}{place} --bitstreams {bitstream.path.parent}")
        if token is None:  # pynq's own clients send none
            asked = f"--ip {place.rpartition(':')[0]} --port {bound} --bitstream {bitstream.path}"
            click.echo(f"test it: python -m pynq.remote.selftest {asked}")
        server.wait_for_termination()
    finally:
        server.stop()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def boards(as_json: bool) -> None:
    """List the supported boards and the configuration shipped for each."""
    from ...hls.machine.boards import BOARDS
    from ..studies.report import boards_json, boards_text

    click.echo(json.dumps(boards_json(BOARDS)) if as_json else boards_text(BOARDS), nl=as_json)
