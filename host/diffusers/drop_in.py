"""The drop-in: a quantized denoiser in a stock diffusers pipeline. Needs torch and diffusers.

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.unet = wrap("quantized/")            # pipe.transformer for DiTPipeline and LattePipeline

The pipeline's own code, callbacks, generators and output types stay as they are; VAE and text encoder run on the host.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import FrozenDict
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from ...hls.artefact.model import INDEX, ArtefactError, QuantizedModel
from ...hls.artefact.model import load as load_artefact
from ...hls.artefact.prompts import check_prompts
from ...hls.common.explained import explained
from ...hls.common.schema import show
from ...hls.contract.graph import with_context_tokens
from ...hls.machine.config import default_config
from ..common.arguments import integer, number
from ..devices.device import Device
from ..devices.emulator import EmulatorDevice
from ..program.operations import fitting
from ..runtime.diffusers_scheduler import load_scheduler
from ..runtime.model import Batch, Model, labels_of, rows_of
from ..runtime.schedulers import check_seed, index_of
from ..runtime.session import KEEPS_NOTHING, check_flow, default_flow, same_arrays
from ..runtime.watch import Watch
from .hooks import teach_pipelines
from .masks import kept_tokens
from .tensors import NO_NUMBERS, list_of, tensor_of, values_of

OUTPUTS = {"UNet2DModel": UNet2DOutput, "UNet2DConditionModel": UNet2DConditionOutput}
NO_GUIDANCE = 1.0
TORCH_SEED_BITS = 32  # of a seed that torch's generator on the CPU looks at
HARMLESS = {"enable_temporal_attentions": True}  # arguments that may be given
SWALLOWED = ("timestep_cond", "added_cond_kwargs")  # those that a model may be quantized with


def wrap(
    model: QuantizedModel | Path | str,
    device: Device | None = None,
    flow: str | None = None,
    deadline_s: float = 600.0,
    memory_mib: int | None = None,
) -> QuantizedDenoiser:
    """What takes the place of a pipeline's ``unet`` or ``transformer``. ``device``: default the emulator of a zcu104.

    ``memory_mib``: the board's contiguous memory (default: PYNQ's).

    Set the pipeline's scheduler to the schedule that the model is quantized for; for any other timestep it says so.
    """
    artefact = model if isinstance(model, QuantizedModel) else load_artefact(model)
    load_scheduler(artefact)  # the rule is that of this release
    return _wrap(artefact, device, flow, deadline_s, memory_mib)


def _wrap(
    artefact: QuantizedModel, device: Device | None, flow: str | None, deadline_s: float, memory_mib: int | None
) -> QuantizedDenoiser:
    config = fitting(default_config("zcu104"), artefact.graph)
    chosen = EmulatorDevice(config, counting=False) if device is None else device
    return QuantizedDenoiser(artefact, chosen, flow, deadline_s, memory_mib)


def load_pipeline(
    folder: Path | str,
    device: Device | None = None,
    flow: str | None = None,
    deadline_s: float = 600.0,
    memory_mib: int | None = None,
    artefact: QuantizedModel | None = None,
) -> DiffusionPipeline:
    """The whole pipeline of a quantized folder: its class, VAE, text encoder and scheduler, with the quantized denoiser.

    ``artefact``: the folder's, where it was loaded before. Raises ArtefactError where a part is missing, ValueError where
    diffusers cannot read one.
    """
    folder = Path(folder)
    artefact = load_artefact(folder) if artefact is None else artefact
    if not (folder / INDEX).is_file():
        raise ArtefactError(
            f"{folder} has no {INDEX}: its other parts were not there when it was quantized; quantize it again"
        )
    config = DiffusionPipeline.load_config(folder)
    missing = [
        name
        for name, value in config.items()
        if isinstance(value, (list, tuple)) and value[0] is not None and not (folder / name).is_dir()
    ]
    if missing:
        raise ArtefactError(f"{folder} has no {' and no '.join(missing)}; copy or quantize the whole pipeline again")
    scheduler = load_scheduler(artefact)
    denoiser = _wrap(artefact, device, flow, deadline_s, memory_mib)
    what = f"diffusers {diffusers.__version__} makes no {config.get('_class_name')} of {folder}"
    with explained(what, "copy or quantize the whole pipeline again"):
        return DiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, **{artefact.component: denoiser, "scheduler": scheduler}
        )


@dataclasses.dataclass(frozen=True)
class Request:
    """What to generate: one image, or clip, for each entry of ``prompts`` or ``labels``, whichever the pipeline takes.

    Image i depends on its prompt or label, ``seed`` and i only. ``guidance`` None is the one that the model was calibrated with.
    """

    prompts: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    seed: int = 0
    guidance: float | None = None

    def __post_init__(self) -> None:
        """TypeError for prompts, labels, seeds and scales that are none."""
        for name, given in (("prompts", self.prompts), ("labels", self.labels)):
            if isinstance(given, str) or not isinstance(given, Sequence):
                raise TypeError(f"found {name} {show(given)}, expected a tuple of them")
        for prompt in self.prompts:
            if not isinstance(prompt, str):
                raise TypeError(f"found prompt {show(prompt)} ({type(prompt).__name__}), expected text")
        check_seed(self.seed, TORCH_SEED_BITS)
        if self.guidance is not None:
            number("guidance", self.guidance)


def batches(
    pipeline: DiffusionPipeline, request: Request, batch: int, starts: Sequence[int], progress: bool = True
) -> Iterator[Batch]:
    """Images as samples float64 [B, 3, H, W] in [-1, 1] (frames of a clip beside each other), from the images ``starts`` on.

    ValueError for prompts that are too long, and for what the pipeline does not take.
    """
    artefact = pipeline_model(pipeline).artefact
    batch, seed = integer("a batch of", batch), integer("seed", request.seed)
    _check_request(pipeline, artefact, request)
    count, steps = len(request.prompts) or len(request.labels), artefact.quantization["steps"]
    guidance, eta = guidance_of(artefact, request.guidance), artefact.quantization["eta"]
    for start in starts:
        indices = range(start, min(start + batch, count))
        shown = f"{start + 1}" if len(indices) == 1 else f"{start + 1}-{indices[-1] + 1}"
        bar = {"desc": f"denoise {shown} of {count}", "unit": "step", "leave": False}
        pipeline.set_progress_bar_config(disable=not progress, **bar)
        images = draw(pipeline, steps, guidance, seed, request.prompts, request.labels, indices, eta)
        yield Batch(start, np.asarray(images, np.float64) * 2 - 1, None)


def guidance_of(artefact: QuantizedModel, asked: float | None) -> float:
    """What was asked for, else what the model was calibrated with, else 1: none. ValueError for one that is not finite."""
    if asked is not None:
        asked = number("guidance", asked)
    calibrated = artefact.quantization.get("guidance")
    return next((scale for scale in (asked, calibrated) if scale is not None), NO_GUIDANCE)


def pipeline_model(pipeline: DiffusionPipeline) -> Any:
    """The denoiser, float or quantized."""
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def _check_request(pipeline: DiffusionPipeline, artefact: QuantizedModel, request: Request) -> None:
    takes_prompts = artefact.graph.context is not None
    if bool(request.prompts) != takes_prompts:
        raise ValueError(
            "the model takes prompts; give at least one" if takes_prompts else "the model takes no prompts"
        )
    check_prompts(pipeline, request.prompts)
    if request.labels:
        labels_of(artefact, len(request.labels), request.labels)


def draw(
    pipeline: DiffusionPipeline,
    steps: int,
    guidance: float,
    seed: int,
    prompts: Sequence[str],
    labels: Sequence[int],
    indices: Sequence[int],
    eta: float = 0.0,
) -> np.ndarray:
    """Images float [B, 3, H, W] in [0, 1] of a stock pipeline, float or with a quantized denoiser: of ``prompts`` or, where there
    are none, ``labels``, at these ``indices``. Image i depends on its prompt or label, ``seed`` and i only; frames of a clip lie
    beside each other. ``eta``: noise of DDIM's steps. ValueError for what the pipeline's class does not take."""
    given: dict[str, Any] = {"num_inference_steps": steps, "generator": [_generator(seed, index) for index in indices]}
    given |= _asked(pipeline, prompts, labels, guidance, eta, indices)
    config = pipeline_model(pipeline).config
    frames = getattr(config, "video_length", None)
    if not frames:
        return np.asarray(pipeline(output_type="np", **given)[0]).transpose(0, 3, 1, 2)
    size = config.sample_size * pipeline.vae_scale_factor
    given |= {"video_length": frames, "height": size, "width": size, "clean_caption": False}
    clips = pipeline(output_type="pt", **given)[0]  # [B, F, 3, H, W]
    return clips.permute(0, 2, 3, 1, 4).flatten(3).numpy()


def _asked(
    pipeline: DiffusionPipeline, prompts: Sequence[str], labels: Sequence[int], guidance: float, eta: float,
    indices: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    """What the pipeline's class takes of prompts or labels, guidance and eta. ValueError for what it does not take."""
    kind, takes = type(pipeline).__name__, inspect.signature(type(pipeline).__call__).parameters
    conditional = pipeline_model(pipeline).config.get("num_class_embeds") is not None
    given: dict[str, Any] = {}
    if prompts:
        given["prompt"] = [prompts[index] for index in indices]
    elif "class_labels" in takes or conditional:
        given["class_labels"] = [labels[index] for index in indices]
    else:
        given["batch_size"] = len(indices)
    if guidance != NO_GUIDANCE or "guidance_scale" in takes:
        given["guidance_scale"] = guidance
    if eta:
        given["eta"] = eta
    foreign = [name for name in given if name not in takes]
    if foreign:
        raise ValueError(
            f"{kind} takes no {' and no '.join(foreign)}; put the model into a pipeline that does, with wrap"
        )
    return given


def _generator(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**TORCH_SEED_BITS)


class QuantizedDenoiser(ModelMixin, ConfigMixin):
    """A quantized model with the interface of the diffusers model it was made from.

    A call goes on with the run of the last one if its timestep is the schedule's next one, and its batch, labels and context are
    the same; else it begins a run, whose first step refers to nothing. Each sample of a batch has a history of its own, and so
    has each branch of classifier-free guidance.
    """

    config_name = "config.json"

    def __init__(
        self,
        artefact: QuantizedModel,
        device: Device,
        flow: str | None,
        deadline_s: float,
        memory_mib: int | None = None,
    ):
        super().__init__()
        check_flow(flow)
        self.model = Model(artefact, device, deadline_s, memory_mib)
        self.artefact, self.flow = artefact, flow or default_flow(device)
        self.register_to_config(**{key: value for key, value in artefact.config.items() if _is_field(key)})
        self._last: _Call | None = None
        self._watch = Watch(artefact)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __copy__(self) -> QuantizedDenoiser:
        """Another one on the same device, with a history of its own: their sessions take turns."""
        model = self.model
        return QuantizedDenoiser(self.artefact, model.device, self.flow, model.deadline_s, model.memory_mib)

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedDenoiser:
        """As :meth:`__copy__`: artefacts never change, and there is one device."""
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a quantized denoiser runs on a device of this process and is not pickled; wrap the folder that it was quantized to "
            "again where it is needed"
        )

    def __getattr__(self, name: str) -> Any:
        """AttributeError, which says what to do where the float model has what is asked for."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            kind = self.__dict__.get("artefact") and self.artefact.config.get("_class_name")
            if not hasattr(getattr(diffusers, str(kind), None), name):
                raise
            raise AttributeError(
                f"{name} belongs to a float {kind}, and this one is quantized: change the float model (fuse LoRA into it with "
                "fuse_lora and unload_lora_weights), and quantize that"
            ) from None

    @torch.compiler.disable
    def forward(
        self,
        sample: torch.Tensor | None = None,
        timestep: torch.Tensor | float | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        class_labels: torch.Tensor | Sequence[int] | int | None = None,
        return_dict: bool = True,
        hidden_states: torch.Tensor | None = None,
        **others: Any,
    ) -> Any:
        """As the model's own ``forward``. ValueError for what it was not quantized for: another latent size, timestep or label,
        NaN, and arguments that change what it computes."""
        given = hidden_states if sample is None else sample
        mask = others.pop("encoder_attention_mask", None)
        _refuse_others(others, {name: self.artefact.quantization.get(name) for name in SWALLOWED})
        if given is None or timestep is None:
            raise ValueError("found no sample or no timestep, expected both")
        values = self._values(given)
        context = self._context(encoder_hidden_states, mask, given)
        call = _Call(self._step(timestep), self._rows(class_labels, len(values)), context)
        begins = self._last is None or not call.continues(self._last)
        self._last = None  # a call that fails leaves no history
        session = self._model_for(call.context).session(len(call.rows), self.flow not in KEEPS_NOTHING)
        self._watch.sample(values, call.step)
        if begins:
            self._watch.context(call.context)
        found = session.run_step(values, call.step, call.rows, self.flow, call.context, begins)
        self._last = call
        output = torch.from_numpy(found).to(given)
        return (
            OUTPUTS.get(str(self.artefact.config.get("_class_name")), Transformer2DModelOutput)(sample=output)
            if return_dict
            else (output,)
        )

    def _values(self, sample: Any) -> np.ndarray:
        """float64 [B, *sample_shape]."""
        expected = self.artefact.graph.sample_shape
        tensor = tensor_of("a sample", sample)
        if tuple(tensor.shape[1:]) != expected:
            raise ValueError(
                f"found a sample of {_by(tensor.shape[1:])}, but the model is quantized for {_by(expected)}; ask the pipeline "
                "for that size, or quantize a model with another sample_size"
            )
        return values_of("a sample", tensor)

    def _step(self, timestep: torch.Tensor | float) -> int:
        expected = f"one of the schedule: {', '.join(map(str, self.artefact.timesteps))}"
        times = list_of("timestep", timestep, expected).tolist()
        unlike = [time for time in times if time != times[0]] if np.isfinite(times).all() else []
        if unlike or not times:
            raise ValueError(f"found timesteps {show(times)} in one batch, expected one")
        following = 0 if self._last is None else self._last.step + 1
        return index_of(list(self.artefact.timesteps), times[0], following)

    def _rows(self, labels: torch.Tensor | Sequence[int] | int | None, batch: int) -> np.ndarray:
        if labels is None:
            if self.artefact.graph.labels > 1:
                raise ValueError(f"found no class_labels, expected one per sample, some of {self.artefact.labels}")
            return np.zeros(batch, np.int64)
        expected = f"as many as samples ({batch}), or one, of integers"
        given = list_of("class_labels", labels, expected)
        if given.is_floating_point() or len(given) not in (1, batch):
            kind = str(given.dtype).removeprefix("torch.")
            raise ValueError(f"found {len(given)} class_labels ({kind}), expected {expected}")
        return rows_of(self.artefact, given.expand(batch).numpy())

    def _context(self, context: Any, mask: Any, sample: torch.Tensor) -> np.ndarray | None:
        """float64 [B, tokens, channels], without what ``mask`` hides; None for a model without one."""
        graph = self.artefact.graph
        if graph.context_shape is None:
            if context is not None and self.artefact.config.get("_class_name") != "UNet2DConditionModel":
                raise ValueError("found encoder_hidden_states, but the model attends to none")
            return None
        (_, channels), batch = graph.context_shape, len(sample)
        given = None if context is None else tensor_of("encoder_hidden_states", context)
        if given is None or given.ndim != 3 or given.shape[0] != batch or given.shape[2] != channels:
            found = None if given is None else tuple(given.shape)
            raise ValueError(f"found encoder_hidden_states of shape {found}, expected ({batch}, tokens, {channels})")
        values = values_of("encoder_hidden_states", given)
        if given.dtype != sample.dtype:
            raise ValueError(
                f"found a sample of {sample.dtype} with encoder_hidden_states of {given.dtype}, expected one type: give the "
                f"pipeline latents.to({given.dtype})"
            )
        return values if mask is None else _seen(values, tensor_of("an encoder_attention_mask", mask))

    def _model_for(self, context: np.ndarray | None) -> Model:
        """The model, for as many tokens as there are: some pipelines leave padding out."""
        graph = self.model.artefact.graph
        if context is not None and graph.context_shape != context.shape[1:]:
            old = self.model
            old.release()
            other = dataclasses.replace(self.artefact, graph=with_context_tokens(self.artefact.graph, context.shape[1]))
            self.model = Model(other, old.device, old.deadline_s, old.memory_mib)
        return self.model

    def save_pretrained(self, save_directory: Path | str, **_: Any) -> None:
        raise ValueError(
            f"a quantized pipeline is saved by copying the folder it was quantized to, not to {save_directory}"
        )


@dataclasses.dataclass(frozen=True)
class _Call:
    step: int
    rows: np.ndarray
    context: np.ndarray | None

    def continues(self, last: _Call) -> bool:
        same = np.array_equal(self.rows, last.rows) and same_arrays(self.context, last.context)
        return self.step == last.step + 1 and same


def _is_field(name: str) -> bool:
    """Whether a configuration may have it: what no method of it is named, nor an argument of what registers it. diffusers ignores
    fields that its models do not have."""
    return not (name.startswith("_") or name in ("self", "kwargs") or hasattr(FrozenDict, name))


def _seen(context: np.ndarray, mask: torch.Tensor) -> np.ndarray:
    """The tokens that a mask [B, tokens] of ones and zeros keeps."""
    if mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            "found an encoder_attention_mask that is no [batch, tokens] of ones and zeros; give such a one"
        )
    return kept_tokens(context, mask.numpy() != 0)


def _refuse_others(others: dict[str, Any], swallowed: dict[str, Any]) -> None:
    """ValueError for arguments that change what the model computes, and for others than those that it was quantized with."""
    for name, value in others.items():
        if name not in swallowed and not _is_harmless(name, value):
            advice = "masks of ones only" if name.endswith("mask") else "leave it out"
            raise ValueError(f"found {name}, which a quantized model does not support; {advice}")
    for name, expected in swallowed.items():
        if not _agrees(others.get(name), expected):
            shown = expected if isinstance(expected, Mapping) else "that of the guidance_scale it was quantized for"
            advice = "leave it out" if expected is None else f"give {shown}, or quantize a model for that"
            raise ValueError(f"found {name} that the model was not quantized for; {advice}")


def _is_harmless(name: str, value: Any) -> bool:
    """Whether an argument is empty, keeps everything (a mask of ones, or zeros to add), or is known to change nothing."""
    if value is None or (isinstance(value, Mapping) and not value):
        return True
    if name.endswith("mask") and isinstance(value, torch.Tensor) and value.device.type != "meta":
        return bool((value == (1 if value.ndim == 2 else 0)).all())
    return isinstance(value, bool) and value == HARMLESS.get(name)


def _agrees(value: Any, expected: Any) -> bool:
    """Whether all samples are given what the model has swallowed, which is numbers by name, numbers, or None."""
    if isinstance(value, Mapping) and (expected is None or isinstance(expected, Mapping)):
        wanted = expected or dict.fromkeys(value)
        return wanted.keys() == value.keys() and all(_agrees(value[name], wanted[name]) for name in value)
    if value is None or expected is None or isinstance(expected, Mapping):
        return value is expected
    try:
        rows = torch.as_tensor(value).cpu()
    except NO_NUMBERS:
        return False
    if rows.is_complex():
        return False
    rows = rows.double()
    numbers = torch.tensor(expected, dtype=torch.float64)
    return rows.shape[-1:] == numbers.shape and bool(torch.isclose(rows, numbers, rtol=1e-3, atol=1e-3).all())


def _by(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape))


teach_pipelines(QuantizedDenoiser)
