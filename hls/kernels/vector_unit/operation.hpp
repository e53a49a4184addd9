// What the vector unit is asked to do: an operator's operands, what follows it, and the passes that it takes.
#pragma once

#include "formats.hpp"
#include "isa.hpp"

namespace ditto {

// What a pass computes. LINE: x * a + b per channel, or x * a + y * c or x * (y * c) of two operands, or x.
enum PassKind { LINE = 0, SUMS = 1, SOFTMAX_ROWS = 2, POOL = 3, COPIES = 4 };

// What follows an operator on its way to memory.
struct Finish {
    int activation, fraction_bits;  // the activation's number
    bool quantize, fine;
    int multiplier, shift;
};

struct VectorCounters {
    count_t vectors, input_beats, output_beats, parameter_beats, merged_beats, cycles;
};

// A vector operator's operands. Addresses are bytes in ACTIVATIONS, pitches elements from pixel to pixel.
struct VectorOperation {
    PassKind kind;
    bool add, multiply, normalize;
    dimension_t samples, height, width, channels;
    dimension_t output_height, output_width, factor;  // of upsampling and pooling
    address_t input, other, output;
    int input_pitch, other_pitch, output_pitch;
    bool code_input, code_output;
    Finish finish;
    int multiplier0, multiplier1, shift;
};

// Groups of channels that are normalized together, over all pixels or, in LayerNorm, over each pixel alone.
struct NormOperation {
    int groups, first_group, end_group;
    bool per_pixel, conditional;
    int gain_bits;
    address_t gain, offset, sample_stride;  // PARAMETERS
    int64_t epsilon;
};

// A part of an operator: `pixels` pixels, or those windows, from `first_pixel` on, and `channels` channels from
// `channel` on.
struct Pass {
    PassKind kind;
    int first_pixel, pixels, channel, channels;
};

// ------------------------------------------------------------------------------------------------- descriptors

// Of any operator: its operand and its result.
template <class F>
VectorOperation image_operation(PassKind kind, const F& f) {
    VectorOperation op = {};
    op.kind = kind;
    op.samples = f.batch;
    op.height = f.height;
    op.width = f.width;
    op.channels = f.channels;
    op.output_height = f.output_height;
    op.output_width = f.output_width;
    op.input = f.input;
    op.output = f.output;
    op.input_pitch = f.input_pitch;
    op.output_pitch = f.output_pitch;
    op.code_input = f.has(FLAG_CODE_INPUT);
    op.code_output = f.has(FLAG_CODE_OUTPUT);
    return op;
}

// Of one that an activation and a quantizer may follow.
template <class F>
VectorOperation finished_line(const F& f, const Scalars& s) {
    VectorOperation op = image_operation(LINE, f);
    op.finish.activation = f.activation;
    op.finish.fraction_bits = f.activation_bits;
    op.finish.quantize = f.has(FLAG_QUANTIZE);
    op.finish.fine = f.has(FLAG_FINE);
    op.finish.multiplier = s.quantize_multiplier;
    op.finish.shift = s.quantize_shift;
    return op;
}

inline VectorOperation operation_of(const forms::Activate& f, const Scalars& s) { return finished_line(f, s); }

inline VectorOperation operation_of(const forms::Norm& f, const Scalars& s) {
    VectorOperation op = finished_line(f, s);
    op.normalize = true;
    return op;
}

inline NormOperation norm_of(const forms::Norm& f, const Scalars& s) {
    NormOperation norm = {};
    norm.groups = norm.end_group = f.groups;
    norm.per_pixel = f.is_layer_norm();
    norm.conditional = f.has(FLAG_CONDITIONAL);
    norm.gain_bits = s.gain_bits;
    norm.gain = f.gain;
    norm.offset = f.offset;
    norm.sample_stride = f.sample_stride;
    norm.epsilon = s.epsilon;
    return norm;
}

inline VectorOperation operation_of(const forms::Pair& f, const Scalars& s) {
    VectorOperation op = finished_line(f, s);
    op.add = f.is_add();
    op.multiply = f.is_multiply();
    op.other = f.other;
    op.other_pitch = f.other_pitch;
    op.multiplier0 = s.multiplier0;
    op.multiplier1 = s.multiplier1;
    op.shift = s.shift;
    return op;
}

inline VectorOperation operation_of(const forms::Softmax& f, const Scalars& s) {
    VectorOperation op = image_operation(SOFTMAX_ROWS, f);
    op.multiplier0 = s.multiplier0;
    op.shift = s.shift;
    return op;
}

inline VectorOperation operation_of(const forms::Pool& f, const Scalars& s) {
    VectorOperation op = image_operation(POOL, f);
    op.factor = f.window;
    op.multiplier0 = s.multiplier0;
    op.shift = s.shift;
    return op;
}

inline VectorOperation operation_of(const forms::Upsample& f) {
    VectorOperation op = image_operation(COPIES, f);
    op.factor = f.factor;
    return op;
}

inline VectorOperation vector_operation(const Descriptor& d, const Scalars& s) {
    if (is_norm(d.opcode)) return operation_of(forms::Norm::decode(d), s);
    if (is_pair(d.opcode)) return operation_of(forms::Pair::decode(d), s);
    if (is_softmax(d.opcode)) return operation_of(forms::Softmax::decode(d), s);
    if (is_pool(d.opcode)) return operation_of(forms::Pool::decode(d), s);
    if (is_upsample(d.opcode)) return operation_of(forms::Upsample::decode(d));
    return operation_of(forms::Activate::decode(d), s);
}

inline int input_bytes(const VectorOperation& op) { return element_bytes(op.code_input); }
inline int output_bytes(const VectorOperation& op) { return element_bytes(op.code_output); }

}  // namespace ditto
