"""The quantized denoiser, with the interface of the diffusers model it was made from. Needs torch and diffusers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import FrozenDict
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from ...hls.artefact.model import QuantizedModel
from ...hls.common.schema import show
from ...hls.contract.graph import with_context_tokens
from ..devices.device import Device
from ..runtime.labels import rows_of
from ..runtime.model import Model
from ..runtime.schedulers import index_of
from ..runtime.session import KEEPS_NOTHING, check_flow, default_flow, same_arrays
from ..runtime.watch import Watch
from .extra_arguments import SWALLOWED, refuse_others
from .hooks import teach_pipelines
from .masks import seen_tokens
from .tensors import list_of, tensor_of, values_of

OUTPUTS = {"UNet2DModel": UNet2DOutput, "UNet2DConditionModel": UNet2DConditionOutput}


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
        """The type of the weights that it stands for: float32."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """Where it takes its tensors from: the CPU."""
        return torch.device("cpu")

    def __copy__(self) -> QuantizedDenoiser:
        """Another one on the same device, with a history of its own: their sessions take turns."""
        model = self.model
        return QuantizedDenoiser(self.artefact, model.device, self.flow, model.deadline_s, model.memory_mib)

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedDenoiser:
        """Another one on the same device, as :meth:`__copy__`: artefacts never change, and there is one device."""
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """TypeError: a quantized denoiser is not pickled."""
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
        """The model's output, as its own ``forward`` has it. ValueError for what it was not quantized for: another latent size,
        timestep or label, NaN, and arguments that change what it computes."""
        given = hidden_states if sample is None else sample
        mask = others.pop("encoder_attention_mask", None)
        refuse_others(others, {name: self.artefact.quantization.get(name) for name in SWALLOWED})
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
        """The sample as float64 [B, *sample_shape]. ValueError for another shape or type."""
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
        """The context float64 [B, tokens, channels], without what ``mask`` hides; None for a model without one. ValueError for
        another shape or type."""
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
        return values if mask is None else seen_tokens(values, tensor_of("an encoder_attention_mask", mask))

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
        """ValueError: a quantized denoiser is not saved, but the folder that it was quantized to is copied."""
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


def _by(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape))


teach_pipelines(QuantizedDenoiser)
