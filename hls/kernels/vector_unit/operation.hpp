// What the vector unit is asked to do: an operator's operands, what follows it, and the passes that it takes.
#pragma once

#include "types.hpp"

namespace ditto {

// What a pass computes. LINE: x * a + b per channel, or x * a + y * c or x * (y * c) of two operands, or x.
enum PassKind { LINE = 0, SUMS = 1, SOFTMAX_ROWS = 2, POOL = 3, COPIES = 4 };

// What follows an operator on its way to memory.
struct Finish {
    int activation, fraction_bits;  // the activation's flag, or 0
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

inline int input_bytes(const VectorOperation& op) { return op.code_input ? 1 : 2; }
inline int output_bytes(const VectorOperation& op) { return op.code_output ? 1 : 2; }

}  // namespace ditto
