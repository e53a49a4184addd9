"""What operators say of themselves holds of what they compute."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.contract.operators import MatMul
from ditto_zynq.hls.contract.tensor import VALUE, Tensor
from ditto_zynq.quant.builders.float_step import FloatStep
from ditto_zynq.quant.operators import OPERATORS

KINDS = sorted(OPERATORS, key=lambda kind: kind.__name__)
SHAPE, CHANNELS = (4, 3), 6
PARAMETERS = {  # by their names
    "weight": lambda: torch.randn(CHANNELS, CHANNELS, 1, 1),
    "epsilon": lambda: torch.tensor(1e-5),
    "factors": lambda: torch.randn(2),
    "factor": lambda: torch.tensor(0.7),
}


class OwnWeights:
    """Layers as they are: ``parameters`` are not rounded, and results not shifted."""

    def __init__(self, parameters: dict[str, torch.Tensor]):
        self.parameters = parameters

    def weight(self, name: str) -> torch.Tensor:
        return self.parameters[f"{name}.weight"]

    def corrected(self, name: str, y: torch.Tensor) -> torch.Tensor:
        return y


def run(kind: type, operands: list[torch.Tensor], parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    node = kind("n", "m", ("x",) * len(operands))
    output = node.output_shape([Tensor("x", VALUE, (*SHAPE, CHANNELS))] * len(operands), CHANNELS)
    step = FloatStep(parameters, OwnWeights(parameters), "n", 0, torch.zeros(2, dtype=torch.long))
    return OPERATORS[kind].run(node, operands, step, Tensor("n", VALUE, output))


def drawn(kind: type) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Operands, and all parameters that any operator has."""
    torch.manual_seed(0)
    names = ("weight", "bias", "gain", "offset", "epsilon", "factors", "factor")
    parameters = {f"n.{name}": PARAMETERS.get(name, lambda: torch.randn(CHANNELS))() for name in names}
    return [torch.randn(2, CHANNELS, *SHAPE) for _ in range(kind.inputs_expected)], parameters


@pytest.mark.parametrize("kind", [kind for kind in KINDS if OPERATORS[kind].scaled], ids=lambda kind: kind.__name__)
def test_a_factor_of_the_scaled_parameters_is_one_of_the_result(kind):
    operands, parameters = drawn(kind)
    larger = {f"n.{name}": 3 * parameters[f"n.{name}"] for name in OPERATORS[kind].scaled}
    found, expected = run(kind, operands, parameters | larger), 3 * run(kind, operands, parameters)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5) and expected.std() > 0.1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not MatMul], ids=lambda kind: kind.__name__)
def test_what_moves_gives_each_value_of_its_operands_and_no_other(kind):
    operands, parameters = drawn(kind)
    found, given = run(kind, operands, parameters).unique(), torch.cat([each.flatten() for each in operands]).unique()
    quantizes = kind.__name__ == "Quantize"  # its rounding is that of its result's quantizer
    assert torch.equal(found, given) == (OPERATORS[kind].moves or quantizes)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if OPERATORS[kind].keeps_scale], ids=lambda kind: kind.__name__
)
def test_what_keeps_its_scale_does_so_for_any_scale(kind):
    operands, parameters = drawn(kind)
    found = run(kind, [0.3 * each for each in operands], parameters)
    assert torch.allclose(found, 0.3 * run(kind, operands, parameters), atol=1e-6)
