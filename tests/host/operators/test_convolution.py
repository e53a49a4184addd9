"""A convolution's descriptor has its window, its chains and where its tables stand; one that follows keeps no operand."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.machine.isa import Flag
from ditto_zynq.host.operators import linear_operator_of
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small


def test_numbers_of_the_descriptor():
    build = GraphBuilder(0)
    source = build.input((5, 7, 3))
    name = build.convolution(source, 4, (3, 5), (2, 1), (1, 0, 1, 2), conditional=True, gated=True, relu=True)
    small = Small(build, name)
    form = small.form(name)
    assert (form.kernel, form.stride, form.padding) == ((3, 5), (2, 1), (1, 0, 1, 2))
    assert (form.output_height, form.output_width, form.output_channels) == (2, 6, 4)
    for flag in (Flag.CONDITIONAL, Flag.GATED, Flag.RELU, Flag.CODE_INPUT):
        assert form.has(flag)
    assert not form.has(Flag.CODE_OUTPUT)
    # 3 of the 5 columns of a window are right of the padding and one: 3 windows further left see the image;
    # the last window ends with the second column behind the image, of which one is as far as a stride
    assert (form.lead_columns, form.extra_columns) == (3, 1)
    assert form.sample_stride == 128 and form.multiplier - form.bias == 64, "16 bytes each, at whole bursts"


def test_a_single_pixel_needs_no_columns_and_reads_dense_rows_whole():
    build = GraphBuilder(0)
    name = build.convolution(build.input((5, 7, 3)), 4)
    form = Small(build, name).form(name)
    assert (form.lead_columns, form.extra_columns, form.segment_pixels) == (0, 0, 7)


def test_the_first_of_two_that_read_one_operand_keeps_it_for_both():
    build = GraphBuilder(0)
    source = build.input((2, 3, 16))
    names = [build.convolution(source, 32) for _ in range(2)]
    small = Small(build, build.add(*names))
    leader, follower = (small.form(name) for name in names)
    assert follower.state_input == leader.state_input and follower.has(Flag.SHARES_OPERAND)
    kept = []
    for name in names:
        operator = linear_operator_of(small.operation(name).first)
        scalars = small.scalars(name, 1, Reference.PREVIOUS_STEP, keeps=True)
        (product,) = operator.products(small.form(name), scalars)
        assert product.difference and product.add_accumulators and product.keep_accumulators
        assert (product.kept - product.previous).tolist() == [128], "96 codes, at whole bursts; of an odd step"
        kept.append(product.keep_input)
    assert kept == [True, False]


@pytest.mark.parametrize("options", [{}, {"relu": True, "gated": True}, {"conditional": True, "kind": "code"}])
def test_samples(options):
    build = GraphBuilder(4)
    name = build.convolution(build.input((4, 5, 3)), 6, (3, 2), (1, 2), (1, 1, 0, 1), **options)
    small = Small(build, name)
    small.check_samples(name)
    with pytest.raises(Wrong):
        small.check_samples(name, spoiled=(0, 3, 1, 5), samples=500)


def test_weights_are_planned_as_wide_as_they_are():
    build = GraphBuilder(0)
    name = build.convolution(build.input((2, 2, 3)), 4, weight_bits=4)
    small = Small(build, name)
    node = small.operation(name).first
    (shape,) = linear_operator_of(node).product_shapes(node, small.graph, 3, dense=True)
    assert small.form(name).weight_bits == shape.weight_bits == 4 and shape.samples == 3
    assert np.abs(build.tables[f"{name}.weight"]).max() <= 8
