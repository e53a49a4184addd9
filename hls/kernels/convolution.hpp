// Convolutions and fully connected layers, as the linear unit runs them.
#pragma once

#include "product.hpp"

namespace ditto {

inline Product convolution_product(const forms::Convolution& f, const Scalars& s) {
    Product p = {};
    p.samples = f.batch;
    p.height = f.height;
    p.width = f.width;
    p.channels = f.channels;
    p.output_height = f.output_height;
    p.output_width = f.output_width;
    p.outputs = f.output_channels;
    p.kernel_height = f.kernel_height;
    p.kernel_width = f.kernel_width;
    p.stride_height = f.stride_height;
    p.stride_width = f.stride_width;
    p.pad_top = f.pad_top;
    p.pad_left = f.pad_left;
    p.input = f.input;
    p.input_pitch = f.input_pitch;
    p.kept_pitch = f.channels;
    p.layout = PACKED;
    p.weights = f.weights;
    p.weight_bits = f.weight_bits;
    p.accumulators = f.state_accumulators;
    p.accumulator_pixel = f.output_channels;
    p.accumulator_channel = 1;
    p.has_bias = true;
    p.conditional_bias = f.has(FLAG_CONDITIONAL);
    p.bias = f.bias;
    p.conditional_multipliers = f.has(FLAG_GATED);
    p.multipliers = f.multiplier;
    p.bias_stride = f.sample_stride;
    p.output = f.output;
    p.output_pitch = f.output_pitch;
    p.relu = f.has(FLAG_RELU);
    set_finish(p, f, s);
    set_plan(p, f);
    set_reference(p, s, f.state_input, f.state_input_span);
    p.lead_columns = p.spatial ? int(f.lead_columns) : 0;
    p.extra_columns = p.spatial ? int(f.extra_columns) : 0;
    p.keep_input = p.keep_input && !f.has(FLAG_SHARES_OPERAND);
    return p;
}

}  // namespace ditto
