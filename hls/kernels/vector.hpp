// Vector unit: what lies between linear operators, on int16 values, `vector_width` elements a cycle.
//
// Each function is the operator of the same name in hls/reference.py. A fused SiLU or GELU and a fused quantizer follow the
// operator element by element. Pixels are loaded, computed and stored in overlap.
#pragma once

#include "arithmetic.hpp"
#include "memory.hpp"
#include "tables.hpp"

namespace ditto {

enum Activation { NO_ACTIVATION = 0, SILU = 1, GELU = 2 };

// What follows an operator on its way to memory.
struct Finish {
    int activation, fraction_bits;
    bool quantize, fine;
    int multiplier, shift;
};

struct VectorCounters {
    count_t vectors, input_beats, output_beats, parameter_beats, merged_beats, cycles;
};

inline count_t longest(count_t a, count_t b, count_t c) {
    const count_t most = a > b ? a : b;
    return most > c ? most : c;
}

// A vector operator's operands. Addresses are bytes in ACTIVATIONS, pitches elements from pixel to pixel.
struct VectorOperation {
    int samples, height, width, channels;
    int output_height, output_width, factor;  // of upsampling and pooling
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

template <class C>
struct Vector {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename A::byte byte;
    typedef typename A::wide wide;

    static constexpr int buffer_bytes = C::row_bytes + 2 * C::bus_bytes;

    // -------------------------------------------------------------------------------------------- element functions

    static wide interpolate(const int32_t* table, wide position, int step_bits) {
#pragma HLS INLINE
        const int index = int(position >> step_bits);
        const wide rest = position & ((wide(1) << step_bits) - 1);
        const wide low = table[index], high = table[index + 1];
        return low + A::round_shift(wide((high - low) * rest), step_bits);
    }

    // max(x, 0) - deficit(|x|), the deficit from a table over [0, 16).
    static wide gate(const int32_t* table, int entry_bits, wide x, int fraction_bits) {
#pragma HLS INLINE
        const wide magnitude = x < 0 ? wide(-x) : x;
        const wide argument = magnitude << (tables::SILU_FRACTION_BITS - fraction_bits);
        const bool inside = argument < (1 << 15);
        const wide deficit = A::round_shift(interpolate(table, inside ? argument : wide(0), tables::SILU_STEP_BITS),
                                            entry_bits - fraction_bits);
        return (x > 0 ? x : wide(0)) - (inside ? deficit : wide(0));
    }

    static wide activate(wide x, const Finish& finish) {
#pragma HLS INLINE
        if (finish.activation == SILU) return gate(tables::SILU_DEFICIT, tables::SILU_ENTRY_BITS, x, finish.fraction_bits);
        if (finish.activation == GELU) return gate(tables::GELU_DEFICIT, tables::SILU_ENTRY_BITS, x, finish.fraction_bits);
        return x;
    }

    // 1 / sqrt(v) ~ root * 2**-23 * 2**-half_exponent for v >= 1.
    static void reciprocal_square_root(wide v, wide& root, int& half_exponent) {
#pragma HLS INLINE
        half_exponent = 0;
        for (int bits = 32; bits >= 2; bits /= 2) {
#pragma HLS UNROLL
            if ((v >> (2 * half_exponent)) >= (wide(1) << bits)) half_exponent += bits / 2;
        }
        const int exponent = 2 * half_exponent, scale = tables::RSQRT_MANTISSA_BITS;
        const wide mantissa = exponent >= scale ? wide(v >> (exponent - scale)) : wide(v << (scale - exponent));
        root = interpolate(tables::RECIPROCAL_SQUARE_ROOT, mantissa - (wide(1) << scale), tables::RSQRT_STEP_BITS);
    }

    // Element `index` of a pixel's result: a value, a code, or a code and its residue, which has a run of its own.
    static void put(byte* row, int skew, byte* residues, int residue_skew, int index, wide x, const Finish& finish,
                    bool code_output) {
#pragma HLS INLINE
        if (finish.quantize) {
            const wide code = A::to_code(A::scale(x, finish.multiplier, finish.shift));
            A::template put<1>(row, skew + index, code);
            if (finish.fine) {
                const wide sixteenths = A::round_shift(wide(x * (wide(finish.multiplier) << 4)), finish.shift);
                A::template put<1>(residues, residue_skew + index, wide(A::to_code(sixteenths - (code << 4))));
            }
        } else if (code_output) {
            A::template put<1>(row, skew + index, x);
        } else {
            A::template put<2>(row, skew + 2 * index, x);
        }
    }

    // ------------------------------------------------------------------------------------------------- operators

    static int element_bytes(const VectorOperation& op) { return op.code_output ? 1 : 2; }

    // A pixel's result, and the run of residues that lies behind the codes of all channels.
    static void store_row(word* activations_out, address_t offset, const VectorOperation& op, int channels, const byte* result,
                          const byte* residues, count_t& beats, count_t& merged) {
        M::store(activations_out, offset, channels * element_bytes(op), result, beats, merged);
        if (op.finish.fine) M::store(activations_out, offset + op.channels, channels, residues, beats, merged);
    }

    // Sum of two values of different scales (ADD), or one value as it is (ACTIVATE), then what follows.
    static void elementwise(const word* activations, word* activations_out, const VectorOperation& op, bool add,
                            VectorCounters& counters) {
        const int pixels = op.samples * op.height * op.width;
    elementwise_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS DATAFLOW
            byte left[buffer_bytes], right[buffer_bytes], result[buffer_bytes], residues[buffer_bytes];
            const int skew = M::load(activations, op.input + 2 * address_t(pixel) * op.input_pitch, 2 * op.channels, left,
                                     counters.input_beats);
            int other_skew = 0;
            if (add) {
                other_skew = M::load(activations, op.other + 2 * address_t(pixel) * op.other_pitch, 2 * op.channels, right,
                                     counters.input_beats);
            }
            const address_t offset = op.output + address_t(pixel) * op.output_pitch * element_bytes(op);
            elementwise_row(left, skew, right, other_skew, op, add, result, int(offset % C::bus_bytes), residues,
                            int((offset + op.channels) % C::bus_bytes), counters.vectors);
            store_row(activations_out, offset, op, op.channels, result, residues, counters.output_beats,
                      counters.merged_beats);
        }
        counters.cycles += longest(counters.input_beats, counters.vectors, counters.output_beats);
    }

    static void elementwise_row(const byte* left, int skew, const byte* right, int other_skew, const VectorOperation& op,
                                bool add, byte* result, int result_skew, byte* residues, int residue_skew, count_t& vectors) {
    elementwise_vectors:
        for (int first = 0; first < op.channels; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                const int channel = first + i;
                if (channel < op.channels) {
                    wide x = A::value_at(left, skew + 2 * channel);
                    if (add) {
                        const wide y = A::value_at(right, other_skew + 2 * channel);
                        x = A::to_value(A::round_shift(wide(x * op.multiplier0 + y * op.multiplier1), op.shift));
                    }
                    put(result, result_skew, residues, residue_skew, channel, activate(x, op.finish), op.finish, op.code_output);
                }
            }
            ++vectors;
        }
    }

    // Softmax of rows of `channels` logits, to codes 0..127.
    static void softmax(const word* activations, word* activations_out, const VectorOperation& op, int64_t reciprocal_scale,
                        VectorCounters& counters) {
        const int rows = op.samples * op.height * op.width;
    softmax_rows:
        for (int row = 0; row < rows; ++row) {
#pragma HLS DATAFLOW
            byte logits[buffer_bytes], codes[buffer_bytes];
            const int skew = M::load(activations, op.input + 2 * address_t(row) * op.input_pitch, 2 * op.channels, logits,
                                     counters.input_beats);
            const address_t offset = op.output + address_t(row) * op.output_pitch;
            softmax_row(logits, skew, op, reciprocal_scale, codes, int(offset % C::bus_bytes), counters.vectors);
            M::store(activations_out, offset, op.channels, codes, counters.output_beats, counters.merged_beats);
        }
        counters.cycles += longest(counters.input_beats, counters.vectors, counters.output_beats);
    }

    static void softmax_row(const byte* logits, int skew, const VectorOperation& op, int64_t reciprocal_scale, byte* codes,
                            int code_skew, count_t& vectors) {
        typename C::template uint<32> powers[C::row_bytes / 2];
#pragma HLS ARRAY_PARTITION variable = powers cyclic factor = C::vector_width
        wide largest = -32768;
    softmax_largest:
        for (int first = 0; first < op.channels; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (first + i < op.channels) {
                    const wide x = A::value_at(logits, skew + 2 * (first + i));
                    if (x > largest) largest = x;
                }
            }
            ++vectors;
        }
        wide sum = 0;
    softmax_powers:
        for (int first = 0; first < op.channels; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (first + i < op.channels) {
                    const wide distance = largest - A::value_at(logits, skew + 2 * (first + i));
                    const wide exponent = A::scale(distance, op.multiplier0, op.shift);
                    const wide whole = exponent >> tables::EXP_FRACTION_BITS;
                    const wide fraction = exponent & ((1 << tables::EXP_FRACTION_BITS) - 1);
                    const wide power = A::round_shift(interpolate(tables::EXP2_NEGATIVE, fraction, tables::EXP_STEP_BITS),
                                                      whole > 31 ? 31 : int(whole));
                    powers[first + i] = power;
                    sum += power;
                }
            }
            ++vectors;
        }
        const wide inverse = wide(reciprocal_scale) / sum;
    softmax_codes:
        for (int first = 0; first < op.channels; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (first + i < op.channels) {
                    const wide code = A::round_shift(wide(wide(powers[first + i]) * inverse), tables::SOFTMAX_BITS);
                    A::template put<1>(codes, code_skew + first + i, A::saturate(code, 0, 127));
                }
            }
            ++vectors;
        }
    }

    // Mean over windows of factor x factor pixels.
    static void average_pool(const word* activations, word* activations_out, const VectorOperation& op,
                             VectorCounters& counters) {
        typename A::accumulator sums[C::row_bytes / 2];
#pragma HLS ARRAY_PARTITION variable = sums cyclic factor = C::vector_width
        const int outputs = op.samples * op.output_height * op.output_width;
        count_t adding = 0, dividing = 0;
    pool_pixels:
        for (int output = 0; output < outputs; ++output) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4096
            const int x = output % op.output_width, y = (output / op.output_width) % op.output_height;
            const int sample = output / (op.output_width * op.output_height);
        pool_window:
            for (int i = 0; i < op.factor * op.factor; ++i) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4
                const int row_index = y * op.factor + i / op.factor, column = x * op.factor + i % op.factor;
                const address_t pixel = (address_t(sample) * op.height + row_index) * op.width + column;
                byte row[buffer_bytes];
                const int skew = M::load(activations, op.input + 2 * pixel * op.input_pitch, 2 * op.channels, row,
                                         counters.input_beats);
                add_row(row, skew, op.channels, i == 0, sums, adding);
            }
            const address_t offset = op.output + 2 * address_t(output) * op.output_pitch;
            byte result[buffer_bytes];
            divide_row(sums, op, result, int(offset % C::bus_bytes), dividing);
            M::store(activations_out, offset, 2 * op.channels, result, counters.output_beats, counters.merged_beats);
        }
        counters.vectors += adding + dividing;
        counters.cycles += longest(counters.input_beats, adding, 0) + dividing + counters.output_beats;
    }

    static void add_row(const byte* row, int skew, int channels, bool first, typename A::accumulator* sums, count_t& vectors) {
    add_vectors:
        for (int channel = 0; channel < channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < channels) sums[c] = (first ? typename A::accumulator(0) : sums[c]) + A::value_at(row, skew + 2 * c);
            }
            ++vectors;
        }
    }

    static void divide_row(const typename A::accumulator* sums, const VectorOperation& op, byte* result, int skew,
                           count_t& vectors) {
    divide_vectors:
        for (int channel = 0; channel < op.channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < op.channels) {
                    const wide mean = A::to_value(A::scale(wide(sums[c]), op.multiplier0, op.shift));
                    A::template put<2>(result, skew + 2 * c, mean);
                }
            }
            ++vectors;
        }
    }

    // Every pixel, code or value, factor x factor times.
    static void upsample(const word* activations, word* activations_out, const VectorOperation& op, VectorCounters& counters) {
        const int pixels = op.samples * op.height * op.width, size = op.code_input ? 1 : 2, bytes = op.channels * size;
    upsample_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
            byte row[buffer_bytes];
            const int skew = M::load(activations, op.input + address_t(pixel) * op.input_pitch * size, bytes, row, counters.input_beats);
            const int x = pixel % op.width, y = pixel / op.width;  // y runs over all samples
        upsample_copies:
            for (int copy = 0; copy < op.factor * op.factor; ++copy) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4
                const address_t target = address_t(y * op.factor + copy / op.factor) * op.output_width + x * op.factor + copy % op.factor;
                const address_t offset = op.output + target * op.output_pitch * size;
                byte aligned[buffer_bytes];
                M::realign(row, skew, aligned, int(offset % C::bus_bytes), bytes, counters.vectors);
                M::store(activations_out, offset, bytes, aligned, counters.output_beats, counters.merged_beats);
            }
        }
        counters.cycles += counters.input_beats + longest(counters.vectors, counters.output_beats, 0);
    }

    // ------------------------------------------------------------------------------------------- normalization

    // GroupNorm of groups [first_group, end_group) of every sample, or LayerNorm (one group, each pixel alone).
    static void normalize(const word* parameters, const word* activations, word* activations_out, const VectorOperation& op,
                          const NormOperation& norm, VectorCounters& counters) {
        const int per_group = op.channels / norm.groups;
        const int channel = norm.first_group * per_group, channels = norm.end_group * per_group - channel;
        const int image = op.height * op.width, pixels = norm.per_pixel ? 1 : image;
        const wide count = pixels * per_group, reciprocal = (wide(1) << tables::NORM_RECIPROCAL_BITS) / count;
        typename A::accumulator gains[C::row_bytes / 2];
        wide offsets[C::row_bytes / 2], slopes[C::row_bytes / 2], intercepts[C::row_bytes / 2];
        wide sums[C::row_bytes / 2], squares[C::row_bytes / 2];
#pragma HLS ARRAY_PARTITION variable = slopes cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = intercepts cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = sums cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = squares cyclic factor = C::vector_width
    normalize_samples:
        for (int sample = 0; sample < op.samples; ++sample) {
            if (sample == 0 || norm.conditional) {
                load_affine(parameters, norm, norm.conditional ? sample : 0, channel, channels, gains, offsets, counters);
            }
        normalize_sets:
            for (int first = sample * image; first < (sample + 1) * image; first += pixels) {
                sum_pixels(activations, op, first, pixels, channel, channels, sums, squares, counters);
                solve(sums, squares, gains, offsets, norm, per_group, channels, count, reciprocal, slopes, intercepts, counters);
                apply(activations, activations_out, op, first, pixels, channel, channels, slopes, intercepts, counters);
            }
        }
    }

    static void load_affine(const word* parameters, const NormOperation& norm, int sample, int channel, int channels,
                            typename A::accumulator* gains, wide* offsets, VectorCounters& counters) {
        const address_t of_sample = sample * norm.sample_stride;
        const count_t before = counters.parameter_beats;
    load_affine_runs:
        for (int first = 0; first < channels; first += C::vector_width) {
            byte row[8 * C::vector_width + 2 * C::bus_bytes];
            const int count = channels - first < C::vector_width ? channels - first : C::vector_width;
            int skew = M::load(parameters, norm.gain + of_sample + 4 * (channel + first), 4 * count, row, counters.parameter_beats);
            for (int i = 0; i < count; ++i) gains[first + i] = A::accumulator_at(row, skew + 4 * i);
            skew = M::load(parameters, norm.offset + of_sample + 8 * (channel + first), 8 * count, row, counters.parameter_beats);
            for (int i = 0; i < count; ++i) offsets[first + i] = A::wide_at(row, skew + 8 * i);
        }
        counters.cycles += counters.parameter_beats - before;
    }

    // Sums and sums of squares per channel.
    static void sum_pixels(const word* activations, const VectorOperation& op, int first_pixel, int pixels, int channel,
                           int channels, wide* sums, wide* squares, VectorCounters& counters) {
        count_t beats = 0, vectors = 0;
    sum_pixels_loop:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            byte row[buffer_bytes];
            const address_t offset = op.input + 2 * (address_t(first_pixel + pixel) * op.input_pitch + channel);
            const int skew = M::load(activations, offset, 2 * channels, row, beats);
            sum_row(row, skew, channels, pixel == 0, sums, squares, vectors);
        }
        counters.input_beats += beats;
        counters.vectors += vectors;
        counters.cycles += longest(beats, vectors, 0);
    }

    static void sum_row(const byte* row, int skew, int channels, bool first, wide* sums, wide* squares, count_t& vectors) {
    sum_vectors:
        for (int channel = 0; channel < channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < channels) {
                    const wide x = A::value_at(row, skew + 2 * c);
                    sums[c] = (first ? wide(0) : sums[c]) + x;
                    squares[c] = (first ? wide(0) : squares[c]) + x * x;
                }
            }
            ++vectors;
        }
    }

    // y = slope * x + intercept per channel.
    static void solve(const wide* sums, const wide* squares, const typename A::accumulator* gains, const wide* offsets,
                      const NormOperation& norm, int per_group, int channels, wide count, wide reciprocal, wide* slopes,
                      wide* intercepts, VectorCounters& counters) {
        const int vectors = 2 * (channels / per_group) * ceil_divide(per_group, C::vector_width);
        counters.vectors += vectors;
        counters.cycles += vectors;
    solve_groups:
        for (int first = 0; first < channels; first += per_group) {
            wide total = 0, square = 0;
        solve_totals:
            for (int start = first; start < first + per_group; start += C::vector_width) {
#pragma HLS PIPELINE II = 1
                for (int c = start; c < start + C::vector_width; ++c) {
#pragma HLS UNROLL
                    if (c < first + per_group) {
                        total += sums[c];
                        square += squares[c];
                    }
                }
            }
            wide root;
            int half_exponent;
            reciprocal_square_root(wide(count * square - total * total + norm.epsilon), root, half_exponent);
            const wide mean = A::round_shift(wide(total * reciprocal), tables::NORM_RECIPROCAL_BITS - tables::NORM_MEAN_BITS);
            const int shift = tables::RSQRT_ENTRY_BITS + half_exponent + norm.gain_bits - tables::NORM_SLOPE_BITS;
        solve_channels:
            for (int start = first; start < first + per_group; start += C::vector_width) {
#pragma HLS PIPELINE II = 1
                for (int c = start; c < start + C::vector_width; ++c) {
#pragma HLS UNROLL
                    if (c < first + per_group) {
                        const wide limit = (wide(1) << tables::NORM_LARGEST_SLOPE_BITS) - 1;
                        const wide slope = A::saturate(A::round_shift(wide(count * root * wide(gains[c])), shift), -limit, limit);
                        slopes[c] = slope;
                        intercepts[c] = offsets[c] - A::round_shift(wide(mean * slope), tables::NORM_MEAN_BITS);
                    }
                }
            }
        }
    }

    static void apply(const word* activations, word* activations_out, const VectorOperation& op, int first_pixel, int pixels,
                      int channel, int channels, const wide* slopes, const wide* intercepts, VectorCounters& counters) {
        count_t input = 0, vectors = 0, output = 0;
    apply_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            byte row[buffer_bytes], result[buffer_bytes], residues[buffer_bytes];
            const address_t source = op.input + 2 * (address_t(first_pixel + pixel) * op.input_pitch + channel);
            const int skew = M::load(activations, source, 2 * channels, row, input);
            const address_t target = op.output + (address_t(first_pixel + pixel) * op.output_pitch + channel) * element_bytes(op);
            apply_row(row, skew, op, channels, slopes, intercepts, result, int(target % C::bus_bytes), residues,
                      int((target + op.channels) % C::bus_bytes), vectors);
            store_row(activations_out, target, op, channels, result, residues, output, counters.merged_beats);
        }
        counters.input_beats += input;
        counters.vectors += vectors;
        counters.output_beats += output;
        counters.cycles += longest(input, vectors, output);
    }

    static void apply_row(const byte* row, int skew, const VectorOperation& op, int channels, const wide* slopes,
                          const wide* intercepts, byte* result, int result_skew, byte* residues, int residue_skew,
                          count_t& vectors) {
    apply_vectors:
        for (int channel = 0; channel < channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < channels) {
                    const wide x = A::value_at(row, skew + 2 * c);
                    const wide y = A::to_value(A::round_shift(wide(x * slopes[c] + intercepts[c]), tables::NORM_SLOPE_BITS));
                    put(result, result_skew, residues, residue_skew, c, activate(y, op.finish), op.finish, op.code_output);
                }
            }
            ++vectors;
        }
    }
};

}  // namespace ditto
