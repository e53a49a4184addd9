"""The command line. Heavy imports happen inside the commands: ``ditto-zynq --help`` answers at once."""

from __future__ import annotations

import sys

import click

from . import costs as cli_costs
from . import generate as cli_generate
from . import hardware as cli_hardware
from . import prune as cli_prune
from . import quantize as cli_quantize
from .shared import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="ditto-zynq")
def main() -> None:
    """Quantize diffusion models and run them, with temporal differences, on a Zynq board or bit-exactly without one."""


for command in (
    cli_generate.generate,
    cli_costs.profile,
    cli_costs.compare,
    cli_costs.explore,
    cli_prune.prune,
    cli_quantize.quantize,
    cli_quantize.evaluate,
    cli_hardware.csim,
    cli_hardware.build,
    cli_hardware.selftest,
    cli_hardware.serve,
    cli_hardware.boards,
):
    main.add_command(command)


if __name__ == "__main__":
    sys.exit(main())
