"""Train the bundled models: a class-conditional DDPM on Fashion-MNIST and the classifier that judges it.

Both runs are resumable and reproducible: what step ``n`` sees depends on the seed and on ``n`` only, so a run that was
interrupted ends with the weights of one that was not (up to the thread count's effect on float sums).
"""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from .fashion_mnist import CLASSES, load_split

NULL_LABEL = len(CLASSES)


@dataclass(frozen=True)
class Recipe:
    """How the DDPM is trained. ``decay_steps`` is the tail in which the learning rate falls linearly to zero."""

    steps: int = 20_000
    decay_steps: int = 5_000
    warmup_steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-3
    ema: float = 0.9995
    label_dropout: float = 0.1
    channels: tuple[int, ...] = (32, 64, 128)
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, plateau, linear decay: the plateau lets a run be prolonged without having known its length."""
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        decay = min(1.0, (self.steps - step) / self.decay_steps)
        return self.learning_rate * warmup * decay


def build_unet(channels: tuple[int, ...]) -> UNet2DModel:
    """The bundled architecture: 28x28x1 images, one residual block a level, self-attention on the 7x7 level."""
    plain = len(channels) - 1
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        norm_num_groups=8,
        attention_head_dim=32,
        num_class_embeds=NULL_LABEL + 1,
    )


class DDPMTrainer:
    """A training run: model, moving average of its weights, optimizer, data. ``step`` counts the steps done."""

    def __init__(self, recipe: Recipe, out: Path):
        self.recipe, self.out = recipe, out
        # Clipping each step's estimate of the image to [-1, 1] brightens dark pixels as soon as the estimate is noisy.
        self.scheduler = DDPMScheduler(
            num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon", clip_sample=False
        )
        torch.manual_seed(recipe.seed)
        self.model = build_unet(recipe.channels).to(memory_format=torch.channels_last)
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), weight_decay=1e-4, betas=(0.9, 0.99))
        self.step, self.recent_loss = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)
        self._resume()
        run_convolutions_in_bfloat16(self.model)
        train = load_split("train")
        self.images = as_images(train.images)
        self.labels = torch.from_numpy(train.labels.astype(np.int64))

    def run(self, save_every: int) -> None:
        """Train to the end of the recipe. Interrupted, it ends the step under way, saves it and raises KeyboardInterrupt."""
        with _Interruption() as interruption, self._progress() as progress:
            while self.step < self.recipe.steps:
                self._train_step()
                progress.update()
                progress.set_postfix(loss=f"{self.recent_loss:.4f}", refresh=False)
                if self.step % save_every == 0 or self.step == self.recipe.steps or interruption.requested:
                    self._save()
                if interruption.requested:
                    raise KeyboardInterrupt

    def save_pipeline(self) -> None:
        """Write the averaged weights as a diffusers folder."""
        final = build_unet(self.recipe.channels)
        final.load_state_dict(self.average)
        DDPMPipeline(final, self.scheduler).save_pretrained(self.out)

    def _progress(self) -> tqdm:
        return tqdm(total=self.recipe.steps, initial=self.step, desc="train", unit="step", mininterval=5)

    def _train_step(self) -> None:
        """One step of the simple noise-prediction loss (DDPM, Ho et al. 2020, eq. 14)."""
        recipe, generator = self.recipe, torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        picked = _batch_indices(self.step, recipe, len(self.images))
        noise = torch.randn((recipe.batch, 1, 28, 28), generator=generator)
        timesteps = torch.randint(0, 1000, (recipe.batch,), generator=generator)
        dropped = torch.rand(recipe.batch, generator=generator) < recipe.label_dropout
        noisy = self.scheduler.add_noise(self.images[picked], noise, timesteps).to(memory_format=torch.channels_last)
        classes = self.labels[picked].masked_fill(dropped, NULL_LABEL)
        loss = F.mse_loss(self.model(noisy, timesteps, class_labels=classes).sample, noise)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(self.step)
        self.optimizer.step()
        _update_average(self.average, self.model, min(recipe.ema, (1 + self.step) / (10 + self.step)))
        self.step += 1
        self.recent_loss = 0.99 * self.recent_loss + 0.01 * loss.item() if self.recent_loss else loss.item()

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
        metadata = {"step": str(self.step), "recipe": json.dumps(asdict(self.recipe))}
        temporary = self.out / "resume.safetensors.tmp"
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata)
        os.replace(temporary, self.out / "resume.safetensors")
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.step, "loss": round(self.recent_loss, 5)}) + "\n")

    def _resume(self) -> None:
        """Go on from ``resume.safetensors`` if it is there; ValueError where another recipe wrote it."""
        path = self.out / "resume.safetensors"
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        found, wanted = json.loads(metadata["recipe"]), json.loads(json.dumps(asdict(self.recipe)))
        free = {"steps", "decay_steps"}  # a run may be prolonged
        changed = ", ".join(sorted(name for name in wanted if name not in free and found[name] != wanted[name]))
        if changed:
            raise ValueError(f"{path} was trained with another {changed}; use the same, or another output folder")
        tensors = load_file(path)
        self.model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        self.average.update({name[4:]: value for name, value in tensors.items() if name.startswith("ema.")})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, field = name.split(".")
                state.setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.step = int(metadata["step"])


class _Interruption:
    """Turns SIGINT and SIGTERM into a request, so that a training step is never left half done."""

    def __enter__(self) -> _Interruption:
        self.requested = False
        self.handlers = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _request(self, *_: object) -> None:
        self.requested = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def train_ddpm(recipe: Recipe, out: Path, save_every: int = 500) -> None:
    """Train and write a diffusers folder to ``out``; ``out/resume.safetensors`` is where an interrupted run goes on."""
    trainer = DDPMTrainer(recipe, out)
    trainer.run(save_every)
    trainer.save_pipeline()


def run_convolutions_in_bfloat16(model: nn.Module) -> None:
    """Convolve in bfloat16, keep norms, attention and weights in float32: the fastest mix on a CPU (1.3x measured)."""

    def convolve(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        assert layer.bias is not None
        weight, bias = layer.weight.bfloat16(), layer.bias.bfloat16()
        return F.conv2d(x.bfloat16(), weight, bias, layer.stride, layer.padding).float()  # type: ignore[arg-type]

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.forward = convolve.__get__(layer)  # type: ignore[method-assign]


def _batch_indices(step: int, recipe: Recipe, count: int) -> torch.Tensor:
    """Indices of one batch of the epoch's permutation; the last partial batch of an epoch is dropped."""
    epoch, position = divmod(step, count // recipe.batch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(recipe.seed * 7_919 + epoch))
    return order[position * recipe.batch : (position + 1) * recipe.batch]


@torch.no_grad()
def _update_average(average: dict[str, torch.Tensor], model: nn.Module, decay: float) -> None:
    values = model.state_dict()
    torch._foreach_lerp_(list(average.values()), [values[name] for name in average], 1 - decay)


class Classifier(nn.Module):
    """A small CNN, [B, 1, 28, 28] in [-1, 1] -> logits [B, 10]. Its 128 penultimate features serve the Fréchet distance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_stage(1, 32) + _stage(32, 64) + _stage(64, 128)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(128, len(CLASSES))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def train_classifier(out: Path, epochs: int = 8, batch: int = 128, learning_rate: float = 2e-3, seed: int = 0) -> float:
    """Train :class:`Classifier`, write ``out`` (safetensors, test accuracy in its metadata), return that accuracy."""
    torch.manual_seed(seed)
    train, test = load_split("train"), load_split("t10k")
    images, labels = as_images(train.images), torch.from_numpy(train.labels.astype(np.int64))
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-2)
    total = epochs * (len(images) // batch)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    with tqdm(total=total, desc="classifier", unit="step", mininterval=5) as progress:
        for _ in range(epochs):
            for picked in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
                loss = F.cross_entropy(model(images[picked]), labels[picked], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                progress.update()
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in as_images(test.images).split(500)])
    accuracy = float((predicted.numpy() == test.labels).mean())
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    save_file(model.state_dict(), temporary, {"test_accuracy": f"{accuracy:.4f}"})
    os.replace(temporary, out)
    return accuracy


def as_images(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28] in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32)).div(127.5).sub(1).unsqueeze(1)


@click.group()
def main() -> None:
    """Train the models that the repository ships."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ddpm"), show_default=True)
@click.option("--steps", default=Recipe.steps, show_default=True, help="May be raised to prolong a finished run.")
@click.option("--decay-steps", default=Recipe.decay_steps, show_default=True)
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--threads", default=0, help="CPU threads (default: all).")
def ddpm(out: Path, steps: int, decay_steps: int, seed: int, threads: int) -> None:
    """Train the DDPM; interrupted, the same command goes on from the last checkpoint."""
    if threads:
        torch.set_num_threads(threads)
    try:
        train_ddpm(Recipe(steps=steps, decay_steps=decay_steps, seed=seed), out)
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted; the same command goes on from {out / 'resume.safetensors'}") from None
    except (ValueError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/classifier.safetensors"), show_default=True)
@click.option("--epochs", default=8, show_default=True)
def classifier(out: Path, epochs: int) -> None:
    """Train the classifier that judges generated images."""
    try:
        accuracy = train_classifier(out, epochs)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
