"""``ditto-zynq prune``: fewer channels in a trained pipeline's denoiser, before it is quantized."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path

import click

from .quantize import read_prompts, read_sides
from .shared import COUNT, announce, parse_labels, without_loading_bars

WELL_UNDER = 0.9  # of the share that was asked for


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the pruned pipeline.")
@click.option("--macs", type=float, required=True, help="Share of the multiplications to keep at most, such as 0.56.")
@click.option(
    "--widths",
    default="layer",
    show_default=True,
    help="layer: each its own, in a class of this package; block: one for each block, which any diffusers loads.",
)
@click.option(
    "--criterion", default="reprune", show_default=True, help="Which channels stay: reprune, l1, taylor, random."
)
@click.option(
    "--steps", default=2_000, show_default=True, help="Training steps of distillation; 0 leaves it as it was cut."
)
@click.option("--runs", default=256, type=COUNT, show_default=True, help="Denoising runs of MODEL to learn from.")
@click.option("--scheduler", default="ddim", show_default=True, help="Of these runs.")
@click.option(
    "--force-scheduler", is_flag=True, help="Take the betas of the folder's scheduler though it is of another kind."
)
@click.option("--run-steps", default=50, type=COUNT, show_default=True, help="Denoising steps of a run.")
@click.option("--labels", help="Classes to learn, such as 0-8,1000 (default: all, if they are few).")
@click.option("--prompts", type=click.Path(path_type=Path), help="A text file of prompts to learn from, one a line.")
@click.option(
    "--tile", default=32, type=COUNT, show_default=True, help="Output channels that the engine computes together."
)
@click.option("--lanes", default=8, type=COUNT, show_default=True, help="Operand channels that it reads together.")
@click.option("--seed", default=0, show_default=True)
@click.option("--variant", help="Which files of weights are read, such as fp16 (default: those of no variant).")
@click.option("--sample-size", help="Height and width of samples, such as 64 or 64x96, if the model does not say it.")
@click.option("--overwrite", is_flag=True, help="Replace a pruned model that is in the output folder.")
def prune(
    model: str,
    output: Path,
    macs: float,
    widths: str,
    criterion: str,
    steps: int,
    runs: int,
    scheduler: str,
    force_scheduler: bool,
    run_steps: int,
    labels: str | None,
    prompts: Path | None,
    tile: int,
    lanes: int,
    seed: int,
    variant: str | None,
    sample_size: str | None,
    overwrite: bool,
) -> None:
    """Prune the U-Net of a diffusers pipeline MODEL (folder or hub name) by kernel representatives (REPrune), then distill it.

    Interrupted, the same command goes on. What it writes is quantized like any pipeline.
    """
    asked = import_module("...quant.common.options", __package__)  # by name: the runtime never depends on the quantizer
    pruner = import_module("...quant.prune_model", __package__)
    options = pruner.PruningOptions(
        macs, widths, criterion, steps=steps, runs=runs, grain=pruner.Grain(tile, lanes), seed=seed
    )
    with without_loading_bars():
        try:
            report = pruner.prune_model(
                model,
                output,
                options,
                asked.Schedule(scheduler, run_steps, groups=1),
                labels=parse_labels(labels),
                prompts=read_prompts(prompts),
                reading=asked.Reading(variant, read_sides(sample_size), force_scheduler),
                overwrite=overwrite,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: what is done is kept in {output}.partial; the same command goes on"
            ) from None
    if report["left_out"]:
        announce(f"the pruned model has no {', '.join(report['left_out'])}: these blocks have become equally wide")
    found, error = report["multiplications"], report["mean_square_error"]
    click.echo(
        f"{output}: {found['pruned']:,} of {found['dense']:,} multiplications ({found['share']:.1%}), mean square error to the "
        f"dense model's outputs {error['distilled']:.2e} ({error['cut']:.2e} as it was cut)"
    )
    if found["share"] < WELL_UNDER * macs:
        announce(f"asked for {macs:.1%} at most; steps are as wide as a tile of the engine: a smaller --tile is finer")
    learned = "" if prompts is None else f" --prompts {shlex.quote(str(prompts))}"
    click.echo(f"next: ditto-zynq quantize {shlex.quote(str(output))} -o MODEL{learned}")
