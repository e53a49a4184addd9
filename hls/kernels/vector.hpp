// Vector unit: what lies between linear operators, on int16 values, `vector_width` elements a cycle.
//
// Each function is the operator of the same name in hls/reference.py. A fused SiLU or GELU and a fused quantizer follow the
// operator element by element. Reading, computing and writing are processes that overlap, pixel after pixel.
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
    typedef typename M::words words;
    typedef typename A::byte byte;
    typedef typename A::wide wide;
    typedef typename A::accumulator accumulator;
    typedef typename C::template sint<36> slope_type;

    static constexpr int most_channels = C::row_bytes / 2;

    // ------------------------------------------------------------------------------------------------- rows

    // `count` rows of `bytes` bytes, `pitch` bytes from row to row.
    struct Rows {
        address_t first, pitch;
        int bytes, count;
    };

    static void read_rows(const word* memory, const Rows& rows, words& run, count_t& beats) {
    read_rows_loop:
        for (int row = 0; row < rows.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::read(memory, rows.first + row * rows.pitch, rows.bytes, run, beats);
        }
    }

    // Rows of two operands in turn.
    static void read_pairs(const word* memory, const Rows& left, const Rows& right, bool both, words& left_run,
                           words& right_run, count_t& beats) {
    read_pairs_loop:
        for (int row = 0; row < left.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::read(memory, left.first + row * left.pitch, left.bytes, left_run, beats);
            if (both) M::read(memory, right.first + row * right.pitch, right.bytes, right_run, beats);
        }
    }

    // Rows of results and, where there are any, the run of residues that lies behind the codes of all channels.
    static void write_rows(word* memory, const Rows& rows, address_t residue_offset, bool fine, words& results, words& residues,
                           count_t& beats, count_t& merged) {
    write_rows_loop:
        for (int row = 0; row < rows.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::write(memory, rows.first + row * rows.pitch, rows.bytes, results, beats, merged);
            if (fine) M::write(memory, rows.first + row * rows.pitch + residue_offset, rows.bytes, residues, beats, merged);
        }
    }

    // Rows of `channels` values from value `channel` of a pixel on, or of results.
    static Rows value_rows(address_t base, int pitch, int first_pixel, int pixels, int channel, int channels, int bytes) {
        const Rows rows = {base + (address_t(first_pixel) * pitch + channel) * bytes, address_t(pitch) * bytes, channels * bytes,
                           pixels};
        return rows;
    }

    // -------------------------------------------------------------------------------------------- element functions

    // Between two entries of a table, which differ by less than 2**20, at `rest / 2**STEP_BITS`.
    template <int STEP_BITS>
    static wide interpolate(wide low, wide high, wide rest) {
#pragma HLS INLINE
        return low + A::round_shift(A::template multiply<21, STEP_BITS + 1>(high - low, rest), STEP_BITS);
    }

    // max(x, 0) - deficit(|x|), the deficit from a table over [0, 16).
    static wide activate(wide x, const Finish& finish) {
#pragma HLS INLINE
        if (finish.activation == NO_ACTIVATION) return x;
        const wide magnitude = x < 0 ? wide(-x) : x;
        const wide argument = magnitude << (tables::SILU_FRACTION_BITS - finish.fraction_bits);
        const bool inside = argument < (1 << 15), gelu = finish.activation == GELU;
        const int index = inside ? int(argument >> tables::SILU_STEP_BITS) : 0;
        const wide rest = argument & ((1 << tables::SILU_STEP_BITS) - 1);
        const wide low = gelu ? tables::GELU_DEFICIT[index] : tables::SILU_DEFICIT[index];
        const wide high = gelu ? tables::GELU_DEFICIT[index + 1] : tables::SILU_DEFICIT[index + 1];
        const wide deficit = A::round_shift(interpolate<tables::SILU_STEP_BITS>(low, high, rest),
                                            tables::SILU_ENTRY_BITS - finish.fraction_bits);
        return (x > 0 ? x : wide(0)) - (inside ? deficit : wide(0));
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
        const wide position = mantissa - (wide(1) << scale);
        const int index = int(position >> tables::RSQRT_STEP_BITS);
        root = interpolate<tables::RSQRT_STEP_BITS>(tables::RECIPROCAL_SQUARE_ROOT[index], tables::RECIPROCAL_SQUARE_ROOT[index + 1],
                                                    position & ((wide(1) << tables::RSQRT_STEP_BITS) - 1));
    }

    // Element `index` of a pixel's result: a value, a code, or a code and its residue, which has a run of its own.
    static void put(byte* row, byte* residues, int index, wide x, const Finish& finish, bool code_output) {
#pragma HLS INLINE
        if (finish.quantize) {
            const wide product = A::template multiply<17, 32>(x, finish.multiplier);
            const wide code = A::to_code(A::round_shift(product, finish.shift));
            A::template put<1>(row, index, code);
            if (finish.fine) {
                const wide sixteenths = A::round_shift(wide(product << 4), finish.shift);
                A::template put<1>(residues, index, wide(A::to_code(sixteenths - (code << 4))));
            }
        } else if (code_output) {
            A::template put<1>(row, index, x);
        } else {
            A::template put<2>(row, 2 * index, x);
        }
    }

    // ------------------------------------------------------------------------------------------------- operators

    static int element_bytes(const VectorOperation& op) { return op.code_output ? 1 : 2; }

    static Rows input_rows(const VectorOperation& op, int pixels) {
        return value_rows(op.input, op.input_pitch, 0, pixels, 0, op.channels, 2);
    }

    static Rows output_rows(const VectorOperation& op, int pixels) {
        return value_rows(op.output, op.output_pitch, 0, pixels, 0, op.channels, element_bytes(op));
    }

    static void tally(count_t input, count_t vectors, count_t output, count_t merged, VectorCounters& counters) {
        counters.input_beats += input;
        counters.vectors += vectors;
        counters.output_beats += output;
        counters.merged_beats += merged;
        counters.cycles += longest(input, vectors, output);
    }

    // Sum of two values of different scales (ADD), or one value as it is (ACTIVATE), then what follows.
    static void elementwise(const word* activations, word* activations_out, const VectorOperation& op, bool add,
                            VectorCounters& counters) {
#pragma HLS DATAFLOW
        const int pixels = op.samples * op.height * op.width;
        words left, right, results, residues;
#pragma HLS STREAM variable = left depth = 64
#pragma HLS STREAM variable = right depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = residues depth = 64
        count_t input = 0, vectors = 0, output = 0, merged = 0;
        read_pairs(activations, input_rows(op, pixels), value_rows(op.other, op.other_pitch, 0, pixels, 0, op.channels, 2), add,
                   left, right, input);
        elementwise_rows(left, right, op, pixels, add, results, residues, vectors);
        write_rows(activations_out, output_rows(op, pixels), op.channels, op.finish.fine, results, residues, output, merged);
        tally(input, vectors, output, merged, counters);
    }

    static void elementwise_rows(words& left, words& right, const VectorOperation& op, int pixels, bool add, words& results,
                                 words& residues, count_t& vectors) {
    elementwise_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            byte first[C::row_bytes], second[C::row_bytes], result[C::row_bytes], residue[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = first cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = second cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = result cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = residue cyclic factor = C::bus_bytes
            M::take(left, 2 * op.channels, first);
            M::take(right, add ? 2 * op.channels : 0, second);
            elementwise_row(first, second, op, add, result, residue, vectors);
            M::send(result, op.channels * element_bytes(op), results);
            M::send(residue, op.finish.fine ? op.channels : 0, residues);
        }
    }

    static void elementwise_row(const byte* left, const byte* right, const VectorOperation& op, bool add, byte* result,
                                byte* residues, count_t& vectors) {
    elementwise_vectors:
        for (int first = 0; first < op.channels; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                const int channel = first + i;
                if (channel < op.channels) {
                    wide x = A::value_at(left, 2 * channel);
                    if (add) {
                        const wide y = A::value_at(right, 2 * channel);
                        const wide sum = A::template multiply<16, 32>(x, op.multiplier0) + A::template multiply<16, 32>(y, op.multiplier1);
                        x = A::to_value(A::round_shift(sum, op.shift));
                    }
                    put(result, residues, channel, activate(x, op.finish), op.finish, op.code_output);
                }
            }
            ++vectors;
        }
    }

    // Softmax of rows of `channels` logits, to codes 0..127.
    static void softmax(const word* activations, word* activations_out, const VectorOperation& op, int64_t reciprocal_scale,
                        VectorCounters& counters) {
#pragma HLS DATAFLOW
        const int rows = op.samples * op.height * op.width;
        words logits, codes, no_residues;
#pragma HLS STREAM variable = logits depth = 64
#pragma HLS STREAM variable = codes depth = 64
        count_t input = 0, vectors = 0, output = 0, merged = 0;
        read_rows(activations, input_rows(op, rows), logits, input);
        softmax_rows(logits, op, rows, reciprocal_scale, codes, vectors);
        write_rows(activations_out, output_rows(op, rows), 0, false, codes, no_residues, output, merged);
        tally(input, vectors, output, merged, counters);
    }

    static void softmax_rows(words& logits, const VectorOperation& op, int rows, int64_t reciprocal_scale, words& codes,
                             count_t& vectors) {
    softmax_rows_loop:
        for (int row = 0; row < rows; ++row) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            byte of_row[C::row_bytes], result[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = of_row cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = result cyclic factor = C::bus_bytes
            M::take(logits, 2 * op.channels, of_row);
            softmax_row(of_row, op, reciprocal_scale, result, vectors);
            M::send(result, op.channels, codes);
        }
    }

    static void softmax_row(const byte* logits, const VectorOperation& op, int64_t reciprocal_scale, byte* codes,
                            count_t& vectors) {
        typename C::template uint<32> powers[most_channels];
#pragma HLS ARRAY_PARTITION variable = powers cyclic factor = C::vector_width
        wide largest = -32768;
    softmax_largest:
        for (int first = 0; first < op.channels; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (first + i < op.channels) {
                    const wide x = A::value_at(logits, 2 * (first + i));
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
                    const wide distance = largest - A::value_at(logits, 2 * (first + i));
                    const wide exponent = A::template scale<17>(distance, op.multiplier0, op.shift);
                    const wide whole = exponent >> tables::EXP_FRACTION_BITS;
                    const wide fraction = exponent & ((1 << tables::EXP_FRACTION_BITS) - 1);
                    const int index = int(fraction >> tables::EXP_STEP_BITS);
                    const wide entry = interpolate<tables::EXP_STEP_BITS>(tables::EXP2_NEGATIVE[index], tables::EXP2_NEGATIVE[index + 1],
                                                                          fraction & ((1 << tables::EXP_STEP_BITS) - 1));
                    const wide power = A::round_shift(entry, whole > 31 ? 31 : int(whole));
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
                    const wide code = A::round_shift(A::template multiply<22, 41>(powers[first + i], inverse), tables::SOFTMAX_BITS);
                    A::template put<1>(codes, first + i, A::saturate(code, 0, 127));
                }
            }
            ++vectors;
        }
    }

    // Mean over windows of factor x factor pixels.
    static void average_pool(const word* activations, word* activations_out, const VectorOperation& op,
                             VectorCounters& counters) {
#pragma HLS DATAFLOW
        const int pixels = op.samples * op.output_height * op.output_width;
        words windows, results, no_residues;
#pragma HLS STREAM variable = windows depth = 64
#pragma HLS STREAM variable = results depth = 64
        count_t input = 0, vectors = 0, output = 0, merged = 0;
        read_windows(activations, op, pixels, windows, input);
        pool_rows(windows, op, pixels, results, vectors);
        write_rows(activations_out, output_rows(op, pixels), 0, false, results, no_residues, output, merged);
        tally(input, vectors, output, merged, counters);
    }

    static void read_windows(const word* activations, const VectorOperation& op, int pixels, words& windows, count_t& beats) {
    read_windows_pixels:
        for (int output = 0; output < pixels; ++output) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            const int x = output % op.output_width, y = (output / op.output_width) % op.output_height;
            const int sample = output / (op.output_width * op.output_height);
        read_windows_rows:
            for (int row = y * op.factor; row < (y + 1) * op.factor; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 2
            read_windows_columns:
                for (int column = x * op.factor; column < (x + 1) * op.factor; ++column) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 2
                    const address_t pixel = (address_t(sample) * op.height + row) * op.width + column;
                    M::read(activations, op.input + 2 * pixel * op.input_pitch, 2 * op.channels, windows, beats);
                }
            }
        }
    }

    static void pool_rows(words& windows, const VectorOperation& op, int pixels, words& results, count_t& vectors) {
        accumulator sums[most_channels];
#pragma HLS ARRAY_PARTITION variable = sums cyclic factor = C::vector_width
        const int members = op.factor * op.factor;
    pool_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
        pool_members:
            for (int member = 0; member < members; ++member) {
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4
                byte row[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = row cyclic factor = C::bus_bytes
                M::take(windows, 2 * op.channels, row);
                add_row(row, op.channels, member == 0, sums, vectors);
            }
            byte result[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = result cyclic factor = C::bus_bytes
            divide_row(sums, op, result, vectors);
            M::send(result, 2 * op.channels, results);
        }
    }

    static void add_row(const byte* row, int channels, bool first, accumulator* sums, count_t& vectors) {
    add_vectors:
        for (int channel = 0; channel < channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < channels) sums[c] = (first ? accumulator(0) : sums[c]) + A::value_at(row, 2 * c);
            }
            ++vectors;
        }
    }

    static void divide_row(const accumulator* sums, const VectorOperation& op, byte* result, count_t& vectors) {
    divide_vectors:
        for (int channel = 0; channel < op.channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < op.channels) {
                    const wide mean = A::to_value(A::template scale<32>(wide(sums[c]), op.multiplier0, op.shift));
                    A::template put<2>(result, 2 * c, mean);
                }
            }
            ++vectors;
        }
    }

    // Every pixel, code or value, factor x factor times.
    static void upsample(const word* activations, word* activations_out, const VectorOperation& op, VectorCounters& counters) {
#pragma HLS DATAFLOW
        const int pixels = op.samples * op.height * op.width, size = op.code_input ? 1 : 2;
        words pixel_rows, copies;
#pragma HLS STREAM variable = pixel_rows depth = 64
#pragma HLS STREAM variable = copies depth = 64
        count_t input = 0, vectors = 0, output = 0, merged = 0;
        read_rows(activations, value_rows(op.input, op.input_pitch, 0, pixels, 0, op.channels, size), pixel_rows, input);
        copy_rows(pixel_rows, op.channels * size, pixels, op.factor * op.factor, copies, vectors);
        write_copies(activations_out, op, pixels, size, copies, output, merged);
        tally(input, vectors, output, merged, counters);
    }

    static void copy_rows(words& rows, int bytes, int count, int factor, words& copies, count_t& vectors) {
    copy_rows_loop:
        for (int row = 0; row < count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            word of_row[C::row_bytes / C::bus_bytes];
        copy_copies:
            for (int copy = 0; copy < factor; ++copy) {
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4
            copy_words:
                for (int i = 0; i < M::words_of(bytes); ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                    if (copy == 0) of_row[i] = rows.read();
                    copies.write(of_row[i]);
                    ++vectors;
                }
            }
        }
    }

    static void write_copies(word* activations_out, const VectorOperation& op, int pixels, int size, words& copies, count_t& beats,
                             count_t& merged) {
    write_copies_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            const int x = pixel % op.width, y = pixel / op.width;  // y runs over all samples
        write_copies_rows:
            for (int row = y * op.factor; row < (y + 1) * op.factor; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 2
            write_copies_columns:
                for (int column = x * op.factor; column < (x + 1) * op.factor; ++column) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 2
                    const address_t target = address_t(row) * op.output_width + column;
                    M::write(activations_out, op.output + target * op.output_pitch * size, op.channels * size, copies, beats, merged);
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------- normalization

    // GroupNorm of groups [first_group, end_group) of every sample, or LayerNorm (one group, each pixel alone).
    static void normalize(const word* parameters, const word* activations, word* activations_out, const VectorOperation& op,
                          const NormOperation& norm, VectorCounters& counters) {
        const int per_group = op.channels / norm.groups;
        const int channel = norm.first_group * per_group, channels = norm.end_group * per_group - channel;
        const int image = op.height * op.width, pixels = norm.per_pixel ? 1 : image;
        const wide count = pixels * per_group, reciprocal = (wide(1) << tables::NORM_RECIPROCAL_BITS) / count;
        accumulator gains[most_channels], sums[most_channels];
        wide offsets[most_channels], intercepts[most_channels], squares[most_channels];
        slope_type slopes[most_channels];
#pragma HLS ARRAY_PARTITION variable = gains cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = offsets cyclic factor = C::vector_width
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
                            accumulator* gains, wide* offsets, VectorCounters& counters) {
        const address_t of_sample = sample * norm.sample_stride;
        count_t beats = 0;
    load_affine_runs:
        for (int first = 0; first < channels; first += C::vector_width) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            byte of_gains[4 * C::vector_width], of_offsets[8 * C::vector_width];
#pragma HLS ARRAY_PARTITION variable = of_gains complete
#pragma HLS ARRAY_PARTITION variable = of_offsets complete
            const int count = channels - first < C::vector_width ? channels - first : C::vector_width;
            M::load(parameters, norm.gain + of_sample + 4 * (channel + first), 4 * count, of_gains, beats);
            M::load(parameters, norm.offset + of_sample + 8 * (channel + first), 8 * count, of_offsets, beats);
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (i < count) {
                    gains[first + i] = A::accumulator_at(of_gains, 4 * i);
                    offsets[first + i] = A::wide_at(of_offsets, 8 * i);
                }
            }
        }
        counters.parameter_beats += beats;
        counters.cycles += beats;
    }

    // Sums and sums of squares per channel.
    static void sum_pixels(const word* activations, const VectorOperation& op, int first_pixel, int pixels, int channel,
                           int channels, accumulator* sums, wide* squares, VectorCounters& counters) {
#pragma HLS DATAFLOW
        words rows;
#pragma HLS STREAM variable = rows depth = 64
        count_t input = 0, vectors = 0;
        read_rows(activations, value_rows(op.input, op.input_pitch, first_pixel, pixels, channel, channels, 2), rows, input);
        sum_rows(rows, pixels, channels, sums, squares, vectors);
        tally(input, vectors, 0, 0, counters);
    }

    static void sum_rows(words& rows, int pixels, int channels, accumulator* sums, wide* squares, count_t& vectors) {
    sum_rows_loop:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            byte row[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = row cyclic factor = C::bus_bytes
            M::take(rows, 2 * channels, row);
            sum_row(row, channels, pixel == 0, sums, squares, vectors);
        }
    }

    static void sum_row(const byte* row, int channels, bool first, accumulator* sums, wide* squares, count_t& vectors) {
    sum_vectors:
        for (int channel = 0; channel < channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < channels) {
                    const wide x = A::value_at(row, 2 * c);
                    sums[c] = (first ? accumulator(0) : sums[c]) + accumulator(x);
                    squares[c] = (first ? wide(0) : squares[c]) + A::template multiply<16, 16>(x, x);
                }
            }
            ++vectors;
        }
    }

    // y = slope * x + intercept per channel.
    static void solve(const accumulator* sums, const wide* squares, const accumulator* gains, const wide* offsets,
                      const NormOperation& norm, int per_group, int channels, wide count, wide reciprocal, slope_type* slopes,
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
            const wide spread = A::template multiply<18, 48>(count, square) - A::template multiply<33, 33>(total, total);
            reciprocal_square_root(wide(spread + norm.epsilon), root, half_exponent);
            const wide mean = A::round_shift(A::template multiply<33, 44>(total, reciprocal),
                                             tables::NORM_RECIPROCAL_BITS - tables::NORM_MEAN_BITS);
            const wide counted_root = A::template multiply<18, 25>(count, root);
            const int shift = tables::RSQRT_ENTRY_BITS + half_exponent + norm.gain_bits - tables::NORM_SLOPE_BITS;
        solve_channels:
            for (int start = first; start < first + per_group; start += C::vector_width) {
#pragma HLS PIPELINE II = 1
                for (int c = start; c < start + C::vector_width; ++c) {
#pragma HLS UNROLL
                    if (c < first + per_group) {
                        const wide limit = (wide(1) << tables::NORM_LARGEST_SLOPE_BITS) - 1;
                        const wide slope = A::saturate(A::round_shift(A::template multiply<41, 23>(counted_root, gains[c]), shift), -limit, limit);
                        slopes[c] = slope;
                        intercepts[c] = offsets[c] - A::round_shift(A::template multiply<36, 29>(slope, mean), tables::NORM_MEAN_BITS);
                    }
                }
            }
        }
    }

    static void apply(const word* activations, word* activations_out, const VectorOperation& op, int first_pixel, int pixels,
                      int channel, int channels, const slope_type* slopes, const wide* intercepts, VectorCounters& counters) {
#pragma HLS DATAFLOW
        words rows, results, residues;
#pragma HLS STREAM variable = rows depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = residues depth = 64
        count_t input = 0, vectors = 0, output = 0, merged = 0;
        read_rows(activations, value_rows(op.input, op.input_pitch, first_pixel, pixels, channel, channels, 2), rows, input);
        apply_rows(rows, op, pixels, channels, slopes, intercepts, results, residues, vectors);
        write_rows(activations_out,
                   value_rows(op.output, op.output_pitch, first_pixel, pixels, channel, channels, element_bytes(op)), op.channels,
                   op.finish.fine, results, residues, output, merged);
        tally(input, vectors, output, merged, counters);
    }

    static void apply_rows(words& rows, const VectorOperation& op, int pixels, int channels, const slope_type* slopes,
                           const wide* intercepts, words& results, words& residues, count_t& vectors) {
    apply_rows_loop:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            byte row[C::row_bytes], result[C::row_bytes], residue[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = row cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = result cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = residue cyclic factor = C::bus_bytes
            M::take(rows, 2 * channels, row);
            apply_row(row, op, channels, slopes, intercepts, result, residue, vectors);
            M::send(result, channels * element_bytes(op), results);
            M::send(residue, op.finish.fine ? channels : 0, residues);
        }
    }

    static void apply_row(const byte* row, const VectorOperation& op, int channels, const slope_type* slopes,
                          const wide* intercepts, byte* result, byte* residues, count_t& vectors) {
    apply_vectors:
        for (int channel = 0; channel < channels; channel += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            for (int c = channel; c < channel + C::vector_width; ++c) {
#pragma HLS UNROLL
                if (c < channels) {
                    const wide x = A::value_at(row, 2 * c);
                    const wide line = A::template multiply<16, 36>(x, slopes[c]) + intercepts[c];
                    const wide y = A::to_value(A::round_shift(line, tables::NORM_SLOPE_BITS));
                    put(result, residues, c, activate(y, op.finish), op.finish, op.code_output);
                }
            }
            ++vectors;
        }
    }
};

}  // namespace ditto
