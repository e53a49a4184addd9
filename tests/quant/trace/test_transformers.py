"""U-Nets with contexts, DiT and Latte: the traced float graph computes what the module computes, and the integers follow it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel, LatteTransformer3DModel, UNet2DConditionModel
from ditto_zynq.hls.contract.graph import constant_tensors, with_context_tokens
from ditto_zynq.hls.contract.graph_json import graph_from_json, graph_to_json
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.operators import MatMul, Softmax
from ditto_zynq.quant.calibrate.calibration import Conditions, Options, calibrate
from ditto_zynq.quant.calibrate.fine_parts import add_fine_ends
from ditto_zynq.quant.calibrate.lower import lower
from ditto_zynq.quant.calibrate.network import FLOAT, QuantizedNetwork
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.quantize import sample_shape_of
from ditto_zynq.quant.trace.tracing import Interface, context_channels, trace

from tests.quant.operators.one_by_one import Operators
from tests.quant.small import CROSS_ATTENTION as UNET

TIMESTEPS = [666, 333, 0]  # of three steps of DDIM
TOKENS = 7
DIT = {
    "sample_size": 8,
    "num_layers": 2,
    "patch_size": 2,
    "attention_head_dim": 4,
    "num_attention_heads": 3,
    "in_channels": 3,
    "out_channels": 6,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 9,
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
}
LATTE = {
    "sample_size": 6,
    "num_layers": 2,
    "patch_size": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 3,
    "caption_channels": 11,
    "in_channels": 4,
    "cross_attention_dim": 24,
    "out_channels": 8,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "video_length": 5,
}
MODELS = {
    "conditional": lambda: UNet2DConditionModel(**UNET),
    "linear_projection": lambda: UNet2DConditionModel(**UNET, use_linear_projection=True),
    "two_layers": lambda: UNet2DConditionModel(**UNET, transformer_layers_per_block=2),
    "rectangle": lambda: UNet2DConditionModel(**{**UNET, "sample_size": (4, 12)}),
    "odd_size": lambda: UNet2DConditionModel(**{**UNET, "sample_size": (9, 7)}),
    "projected_context": lambda: UNet2DConditionModel(**UNET, encoder_hid_dim=13, encoder_hid_dim_type="text_proj"),
    "no_mid_block": lambda: UNet2DConditionModel(**{**UNET, "mid_block_type": None}),
    "bk_sdm_small": lambda: UNet2DConditionModel(
        **{
            **UNET,
            "mid_block_type": None,
            "block_out_channels": (12, 20, 20),
            "down_block_types": ("CrossAttnDownBlock2D",) * 3,
            "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        }
    ),
    "centered": lambda: UNet2DConditionModel(**UNET, center_input_sample=True),
    "time_act": lambda: UNet2DConditionModel(**UNET, timestep_post_act="silu"),
    "dit": lambda: DiTTransformer2DModel(**DIT),
    "dit_patch_4": lambda: DiTTransformer2DModel(**{**DIT, "patch_size": 4}),
    "latte": lambda: LatteTransformer3DModel(**LATTE),
    "latte_of_one_patch": lambda: LatteTransformer3DModel(**{**LATTE, "sample_size": 2, "num_layers": 1}),
}


class Case:
    """A model of random weights, none of which is what it is initialised to, and inputs of a batch."""

    def __init__(self, name: str, batch: int = 5):
        torch.manual_seed(1)
        self.model = MODELS[name]().eval()
        for parameter in self.model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn_like(parameter)
        config = self.model.config
        self.has_labels = name.startswith("dit")
        self.context_channels = context_channels(config)
        self.shape = sample_shape_of(self.model)
        self.known = [0, 3, 8, 9] if self.has_labels else [0]
        self.sample = torch.randn(batch, *self.shape)
        self.rows = torch.arange(batch) % len(self.known)
        self.context = torch.randn(batch, TOKENS, self.context_channels) if self.context_channels else None

    def trace(self):
        tokens = TOKENS if self.context is not None else None
        labels = self.known if self.has_labels else None
        return trace(self.model, self.shape, TIMESTEPS, [0, 0, 1], labels, tokens)

    @torch.no_grad()
    def expected(self, step: int) -> torch.Tensor:
        given: dict = {"timestep": torch.full((len(self.sample),), TIMESTEPS[step])}
        if self.has_labels:
            given["class_labels"] = torch.tensor(self.known)[self.rows]
        if self.context is not None:
            given["encoder_hidden_states"] = self.context
        return self.model(self.sample, **given).sample


@pytest.mark.parametrize("name", MODELS)
def test_traced_graph_equals_the_module(name):
    case = Case(name)
    traced = case.trace()
    model = QuantizedNetwork(traced, Options())
    assert traced.graph.sample_shape == case.shape
    for step in range(len(TIMESTEPS)):
        expected = case.expected(step)
        with torch.no_grad():
            found = model(case.sample, step, case.rows, case.context)
        # GELU by tanh is replaced by the exact one, which is up to 0.0005 away
        tolerance = 2e-3 if name.startswith(("dit", "latte")) else 1e-5
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= tolerance * max(1, expected.abs().max())


class Integers:
    """A case, calibrated and lowered, and its steps on the reference."""

    def __init__(self, name: str):
        self.case = Case(name)
        scheduler = DDIMScheduler(clip_sample=False)
        scheduler.set_timesteps(3)
        conditions = Conditions(self.case.rows, self.case.context)
        self.quantized, self.trajectories = calibrate(
            add_fine_ends(self.case.trace()), scheduler, Options(5), conditions
        )
        self.integer = lower(self.quantized)
        self.context = None
        if self.case.context is not None:
            self.context = self.integer.graph.encode_context(
                self.case.context.numpy(), self.integer.scales["context"][0]
            )

    def operators(self, step: int) -> Operators:
        graph, labels = self.integer.graph, self.case.rows.numpy()
        scale = self.integer.scales[graph.input][graph.group_of_step[step]]
        codes = graph.encode(self.trajectories.samples[step].double().numpy(), scale)
        tensors = Interpreter(graph, self.integer.tables).step(codes, step, labels, context=self.context)
        return Operators(self.quantized, self.integer, tensors, step, labels)


@pytest.mark.parametrize("name", ["conditional", "odd_size", "bk_sdm_small", "centered", "dit", "latte"])
def test_the_integer_graph_follows_the_float_model(name):
    """Every operator does what the fake-quantized one does, but for its own rounding; all together stay near the float model."""
    integers = Integers(name)
    graph, scales = integers.integer.graph, integers.integer.scales
    for step in range(len(TIMESTEPS)):
        operators = integers.operators(step)
        beyond = {node.name: operators.beyond(node) for node in graph.nodes}
        assert max(beyond.values()) <= 0, max(beyond.items(), key=lambda item: item[1])
        found = graph.decode(operators.tensors[graph.output], scales[graph.output][graph.group_of_step[step]])
        with torch.no_grad():
            integers.quantized.mode = FLOAT
            real = integers.trajectories.run(integers.quantized, step).numpy()
        assert np.std(found - real) <= 0.06 * np.std(real)


@pytest.mark.parametrize("name", ["dit", "centered"])
def test_a_wrong_operator_is_found(name):
    """Any multiplier or gain that is 2 % too large (of a softmax, whose codes may be one off: 5 %), and heads that are
    exchanged."""
    integers = Integers(name)
    operators, tables = integers.operators(0), integers.integer.tables
    changed = 0
    for node in integers.integer.graph.nodes:
        for table in {f"{node.name}.multiplier", f"{node.name}.gain"} & tables.keys():
            wrong = tables[table] * (1.05 if isinstance(node, Softmax) else 1.02)
            assert operators.beyond(node, {**tables, table: wrong.astype(np.int64)}) > 0, table
            changed += 1
        if node.name.endswith("to_q"):
            heads = next(reader.heads for reader in integers.integer.graph.nodes if node.name in reader.inputs)
            weight = tables[f"{node.name}.weight"]
            wrong = np.roll(weight, len(weight) // heads, axis=0)
            assert operators.beyond(node, {**tables, f"{node.name}.weight": wrong}) > 0, node.name
    assert changed > 20


def test_what_depends_on_the_context_alone_has_one_scale():
    case = Case("latte")
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(3)
    quantized, _ = calibrate(case.trace(), scheduler, Options(5, fine=0), Conditions(case.rows, case.context))
    integer = lower(quantized)
    names = constant_tensors(integer.graph)
    assert "context" in names and any("attn2.to_k" in name for name in names)
    for name in names:
        assert len(set(integer.scales[name])) == 1
    for node in integer.graph.nodes:
        if node.name in names:
            for table, values in integer.tables.items():
                if table.startswith(f"{node.name}.") and not table.endswith(".weight"):
                    assert np.all(values == values[:1]), table


def test_frames_attend_within_and_between():
    graph = Case("latte").trace().graph
    kinds = {(node.windows, node.interleaved) for node in graph.nodes if isinstance(node, MatMul)}
    assert kinds == {(5, False), (9, True), (1, False)}, "5 frames, 9 patches, and captions that all share"


def test_a_unet_that_ignores_its_context_has_none():
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DConditionModel(**{**UNET, **blocks, "mid_block_type": "UNetMidBlock2D"}).eval()
    graph = trace(unet, (4, 8, 8), TIMESTEPS, [0, 0, 1]).graph
    assert graph.context is None and Interface.of(unet).context is None


def test_layouts_survive_json():
    graph = Case("latte").trace().graph
    assert graph.input_layout is not None and graph.output_layout is not None
    assert graph_from_json(graph_to_json(graph)) == graph


def test_a_graph_for_fewer_tokens():
    graph = Case("conditional").trace().graph
    shorter = with_context_tokens(graph, 3)
    assert shorter.tensors["context"].shape == (3, 1, 10)
    assert with_context_tokens(shorter, TOKENS) == graph
    with pytest.raises(ValueError, match="found 0 tokens of context, expected at least 1"):
        with_context_tokens(graph, 0)


def test_what_cannot_be_traced_is_named():
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = UNet2DConditionModel(**UNET).config
            self.inner = UNet2DConditionModel(**UNET)

        def forward(self, sample, timestep, encoder_hidden_states=None):
            mask = torch.ones(sample.shape[0], TOKENS, dtype=torch.bool)
            return self.inner(sample, timestep, encoder_hidden_states, encoder_attention_mask=mask).sample

    with pytest.raises(UnsupportedOperator, match=r"scaled_dot_product_attention in .*attn2.*: attention with a mask"):
        trace(Masked(), (4, 8, 8), TIMESTEPS, [0, 0, 0], context_tokens=TOKENS)


def test_a_context_needs_its_number_of_tokens():
    with pytest.raises(ValueError, match="attends to a context; give the number of its tokens"):
        trace(MODELS["conditional"](), (4, 8, 8), TIMESTEPS, [0, 0, 0])
