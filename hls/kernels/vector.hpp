// Vector unit: what lies between linear operators, on int16 values, a beat of them (`vector_width`) a cycle.
//
//   for each pass:  read rows || compute || write rows
//
// Each operator is the one of the same name in hls/contract/operators; normalization takes two passes, one for sums and one to apply.
// A fused activation and a fused quantizer follow the operator element by element.
#pragma once

#include "arithmetic.hpp"
#include "memory.hpp"
#include "tables.hpp"

namespace ditto {

enum Activation { NO_ACTIVATION = 0, SILU = 1, GELU = 2, RELU = 3 };

// What a pass computes. LINE: x * a + b per channel, or x * a + y * c or x * (y * c) of two operands, or x.
enum PassKind { LINE = 0, SUMS = 1, SOFTMAX_ROWS = 2, POOL = 3, COPIES = 4 };

// What follows an operator on its way to memory.
struct Finish {
    int activation, fraction_bits;
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

// A part of an operator: `pixels` pixels, or those windows, from `first_pixel` on, and `channels` channels from `channel` on.
struct Pass {
    PassKind kind;
    int first_pixel, pixels, channel, channels;
};

// Where a pixel is copied to: `rows` x `columns` pixels, the first in row `row` of all samples' rows. Fewer at a cut end.
struct Copies {
    int row, column, rows, columns;
};

// What normalization keeps of every channel.
template <class C>
struct NormBuffers {
    static constexpr int most_channels = C::row_bytes / 2;
    typename C::template sint<32> gains[most_channels], sums[most_channels];
    typename C::template sint<64> offsets[most_channels], intercepts[most_channels], squares[most_channels];
    typename C::template sint<36> slopes[most_channels];
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

    static constexpr int most_channels = C::row_bytes / 2, row_words = C::row_bytes / C::bus_bytes;
    static_assert(C::vector_width * 2 == C::bus_bytes, "a vector is a beat of values");

    static int vectors_of(int channels) { return ceil_divide(channels, C::vector_width); }
    static int input_bytes(const VectorOperation& op) { return op.code_input ? 1 : 2; }
    static int output_bytes(const VectorOperation& op) { return op.code_output ? 1 : 2; }

    // An operator: one pass, or, normalizing, two for every set of pixels that belong together.
    static void run(const word* parameters, const word* values, word* values_out, const VectorOperation& op,
                    const NormOperation& norm, VectorCounters& counters) {
        NormBuffers<C> buffers;
#pragma HLS ARRAY_PARTITION variable = buffers.gains cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.sums cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.offsets cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.intercepts cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.squares cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.slopes cyclic factor = C::vector_width
        const int per_group = op.normalize ? op.channels / norm.groups : op.channels;
        const int channel = op.normalize ? norm.first_group * per_group : 0;
        const int channels = op.normalize ? norm.end_group * per_group - channel : op.channels;
        const int image = op.kind == POOL ? op.output_height * op.output_width : op.height * op.width;
        const int all = op.samples * image, set = op.normalize ? (norm.per_pixel ? 1 : image) : all;
    run_sets:
        for (int first = 0; first < all; first += set) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
            if (op.normalize && (first == 0 || (norm.conditional && first % image == 0))) {
                load_affine(parameters, norm, norm.conditional ? first / image : 0, channel, channels, buffers, counters);
            }
        run_passes:
            for (int pass = op.normalize ? 0 : 1; pass < 2; ++pass) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 2
                const Pass work = {pass == 0 ? SUMS : op.kind, first, set, channel, channels};
                if (op.normalize && pass == 1) solve(norm, set, per_group, channels, buffers, counters);
                run_pass(values, values_out, op, work, buffers, counters);
            }
        }
    }

    static void run_pass(const word* values, word* values_out, const VectorOperation& op, const Pass& pass,
                         NormBuffers<C>& buffers, VectorCounters& counters) {
#pragma HLS DATAFLOW
        words left("left"), right("right"), results("results"), residues("residues");
#pragma HLS STREAM variable = left depth = 64
#pragma HLS STREAM variable = right depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = residues depth = 64
        count_t input = 0, vectors = 0, output = 0, merged = 0;
        read(values, op, pass, left, right, input);
        compute(left, right, op, pass, buffers, results, residues, vectors);
        write(values_out, op, pass, results, residues, output, merged);
        tally(input, vectors, output, merged, counters);
    }

    static void tally(count_t input, count_t vectors, count_t output, count_t merged, VectorCounters& counters) {
        counters.input_beats += input;
        counters.vectors += vectors;
        counters.output_beats += output;
        counters.merged_beats += merged;
        count_t cycles = input > vectors ? input : vectors;
        counters.cycles += output > cycles ? output : cycles;
    }

    // ------------------------------------------------------------------------------------------------- memory

    // Pixels one after the other, those of a second operand in turn with them; for a pool all pixels of a window.
    static void read(const word* values, const VectorOperation& op, const Pass& pass, words& left, words& right,
                     count_t& beats) {
        const int members = pass.kind == POOL ? op.factor * op.factor : 1, size = input_bytes(op);
    read_pixels:
        for (int i = 0; i < pass.pixels; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
        read_members:
            for (int member = 0; member < members; ++member) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
                const int pixel = pass.kind == POOL ? window_pixel(op, pass.first_pixel + i, member) : pass.first_pixel + i;
                M::read(values, op.input + (address_t(pixel) * op.input_pitch + pass.channel) * size, pass.channels * size, left,
                        beats);
                if (op.add || op.multiply) M::read(values, op.other + 2 * address_t(pixel) * op.other_pitch, 2 * pass.channels, right, beats);
            }
        }
    }

    static int window_pixel(const VectorOperation& op, int window, int member) {
        const int x = window % op.output_width, y = (window / op.output_width) % op.output_height;
        const int sample = window / (op.output_width * op.output_height);
        return (sample * op.height + y * op.factor + member / op.factor) * op.width + x * op.factor + member % op.factor;
    }

    // Results pixel by pixel, behind the codes of all channels their residues; an upsampled pixel to all its places.
    static void write(word* values_out, const VectorOperation& op, const Pass& pass, words& results, words& residues,
                      count_t& beats, count_t& merged) {
        if (pass.kind == SUMS) return;
        const int size = output_bytes(op);
    write_pixels:
        for (int i = 0; i < pass.pixels; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            const int source = pass.first_pixel + i;
            const Copies copies = pass.kind == COPIES ? copies_of(op, source) : Copies{0, 0, 1, 1};
        write_places:
            for (int place = 0; place < copies.rows * copies.columns; ++place) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
                const int pixel = pass.kind == COPIES ? copied_pixel(op, copies, place) : source;
                const address_t offset = op.output + (address_t(pixel) * op.output_pitch + pass.channel) * size;
                M::write(values_out, offset, pass.channels * size, results, beats, merged);
                if (op.finish.fine) M::write(values_out, offset + op.channels, pass.channels, residues, beats, merged);
            }
        }
    }

    static Copies copies_of(const VectorOperation& op, int pixel) {
        const int x = pixel % op.width, y = (pixel / op.width) % op.height, sample = pixel / (op.width * op.height);
        const int rows = op.output_height - y * op.factor, columns = op.output_width - x * op.factor;
        return {sample * op.output_height + y * op.factor, x * op.factor, rows < op.factor ? rows : int(op.factor),
                columns < op.factor ? columns : int(op.factor)};
    }

    static int copied_pixel(const VectorOperation& op, const Copies& copies, int place) {
        return (copies.row + place / copies.columns) * op.output_width + copies.column + place % copies.columns;
    }

    // ------------------------------------------------------------------------------------------------- element functions

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
        if (finish.activation == RELU) return x > 0 ? x : wide(0);
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

    // Value i of a word.
    static wide value_of(const word& w, int i) {
#pragma HLS INLINE
        typedef typename C::template uint<16> bits;
        return typename A::value(bits((bits(C::get_byte(w, 2 * i + 1)) << 8) | bits(C::get_byte(w, 2 * i))));
    }

    static void set_value(word& w, int i, wide x) {
#pragma HLS INLINE
        C::set_byte(w, 2 * i, byte(x & 255));
        C::set_byte(w, 2 * i + 1, byte((x >> 8) & 255));
    }

    // Results of a row on their way to memory: a vector of values is a word; two vectors of codes share one.
    struct Outlet {
        word codes, residues;

        // Vector `index` of the row, the last one where `end`.
        void write(const wide* vector, const Finish& finish, bool code_output, int index, bool end, words& results,
                   words& residue_run) {
#pragma HLS INLINE
            const int half = index % 2 * C::vector_width;
            if (!code_output) {
                for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                    set_value(codes, i, vector[i]);
                }
                results.write(codes);
                return;
            }
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                const wide product = finish.quantize ? A::template multiply<17, 32>(vector[i], finish.multiplier) : wide(0);
                const wide code = finish.quantize ? wide(A::to_code(A::round_shift(product, finish.shift))) : vector[i];
                C::set_byte(codes, half + i, byte(code & 255));
                const wide sixteenths = A::round_shift(wide(product << 4), finish.shift);
                C::set_byte(residues, half + i, byte(wide(A::to_code(sixteenths - (code << 4))) & 255));
            }
            if (half || end) {
                results.write(codes);
                if (finish.fine) residue_run.write(residues);
            }
        }
    };

    // ------------------------------------------------------------------------------------------------- passes

    static void compute(words& left, words& right, const VectorOperation& op, const Pass& pass, NormBuffers<C>& buffers,
                        words& results, words& residues, count_t& vectors) {
        switch (pass.kind) {
            case LINE:
                line_rows(left, right, op, pass, buffers, results, residues, vectors);
                break;
            case SUMS:
                sum_rows(left, pass, buffers, vectors);
                break;
            case SOFTMAX_ROWS:
                softmax_rows(left, op, pass.pixels, results, vectors);
                break;
            case POOL:
                pool_rows(left, op, pass.pixels, results, vectors);
                break;
            case COPIES:
                copy_rows(left, op, pass, results, vectors);
                break;
        }
    }

    // A normalized value, a sum of two values of different scales (ADD), their product, or a value as it is; then what follows.
    static void line_rows(words& left, words& right, const VectorOperation& op, const Pass& pass, const NormBuffers<C>& buffers,
                          words& results, words& residues, count_t& vectors) {
        const int of_row = vectors_of(pass.channels), shift = op.normalize ? int(tables::NORM_SLOPE_BITS) : op.shift;
        Outlet outlet;
    line_pixels:
        for (int pixel = 0; pixel < pass.pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
        line_vectors:
            for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const word first = left.read();
                word second = first;
                if (op.add || op.multiply) second = right.read();
                wide result[C::vector_width];
#pragma HLS ARRAY_PARTITION variable = result complete
                for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                    const int c = k * C::vector_width + i;
                    const wide x = value_of(first, i), slope = op.normalize ? wide(buffers.slopes[c]) : wide(op.multiplier0);
                    const wide scaled = A::template multiply<16, 32>(value_of(second, i), op.multiplier1);
                    const wide summand = op.multiply ? wide(0) : op.normalize ? wide(buffers.intercepts[c]) : scaled;
                    const wide line = A::template multiply<16, 48>(x, op.multiply ? scaled : slope) + summand;
                    const bool computed = op.normalize || op.add || op.multiply;
                    result[i] = activate(computed ? wide(A::to_value(A::round_shift(line, shift))) : x, op.finish);
                }
                outlet.write(result, op.finish, op.code_output, k, k == of_row - 1, results, residues);
                ++vectors;
            }
        }
    }

    // Sums and sums of squares per channel.
    static void sum_rows(words& rows, const Pass& pass, NormBuffers<C>& buffers, count_t& vectors) {
        const int of_row = vectors_of(pass.channels);
    sum_rows_loop:
        for (int pixel = 0; pixel < pass.pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
        sum_vectors:
            for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const word w = rows.read();
                for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                    const int c = k * C::vector_width + i;
                    const wide x = value_of(w, i);
                    buffers.sums[c] = (pixel == 0 ? accumulator(0) : buffers.sums[c]) + accumulator(x);
                    buffers.squares[c] = (pixel == 0 ? wide(0) : buffers.squares[c]) + A::template multiply<16, 16>(x, x);
                }
                ++vectors;
            }
        }
    }

    // Softmax of rows of `channels` logits before its division: to codes 0..127, 127 the largest of a row.
    static void softmax_rows(words& logits, const VectorOperation& op, int rows, words& codes, count_t& vectors) {
        word values[row_words];
        const int of_row = vectors_of(op.channels);
    softmax_rows_loop:
        for (int row = 0; row < rows; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            const wide largest = softmax_largest(logits, op.channels, of_row, values);
            softmax_codes(values, op, of_row, largest, codes);
            vectors += 2 * of_row;
        }
    }

    static wide softmax_largest(words& logits, int channels, int of_row, word values[row_words]) {
        wide largest = -32768;
    softmax_largest_vectors:
        for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            const word w = logits.read();
            values[k] = w;
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (k * C::vector_width + i < channels && value_of(w, i) > largest) largest = value_of(w, i);
            }
        }
        return largest;
    }

    static void softmax_codes(const word values[row_words], const VectorOperation& op, int of_row, wide largest, words& codes) {
        word w;
    softmax_codes_vectors:
        for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            const int half = k % 2 * C::vector_width;
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (k * C::vector_width + i < op.channels) {
                    const wide share = softmax_share(largest - value_of(values[k], i), op);
                    const int threshold = tables::ROUNDING_THRESHOLDS[(k * C::vector_width + i) % 16];
                    C::set_byte(w, half + i, byte((share + threshold) >> tables::SHARE_BITS));
                }
            }
            if (half || k == of_row - 1) codes.write(w);
        }
    }

    // 127 times the power of two that a logit's distance from the largest one stands for, in 32nds.
    static wide softmax_share(wide distance, const VectorOperation& op) {
#pragma HLS INLINE
        const wide exponent = A::template scale<17>(distance, op.multiplier0, op.shift);
        const wide whole = exponent >> tables::EXP_FRACTION_BITS, fraction = exponent & ((1 << tables::EXP_FRACTION_BITS) - 1);
        const int index = int(fraction >> tables::EXP_STEP_BITS);
        const wide entry = interpolate<tables::EXP_STEP_BITS>(tables::EXP2_NEGATIVE[index], tables::EXP2_NEGATIVE[index + 1],
                                                              fraction & ((1 << tables::EXP_STEP_BITS) - 1));
        return wide((entry << 7) - entry) >> (tables::EXP_ENTRY_BITS - tables::SHARE_BITS + (whole > 31 ? 31 : int(whole)));
    }

    // Mean over windows of factor x factor pixels.
    static void pool_rows(words& windows, const VectorOperation& op, int pixels, words& results, count_t& vectors) {
        accumulator sums[most_channels];
#pragma HLS ARRAY_PARTITION variable = sums cyclic factor = C::vector_width
        const int members = op.factor * op.factor, of_row = vectors_of(op.channels);
    pool_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
        pool_members:
            for (int member = 0; member < members; ++member) {
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4
            add_vectors:
                for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                    const word w = windows.read();
                    for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                        accumulator& sum = sums[k * C::vector_width + i];
                        sum = (member == 0 ? accumulator(0) : sum) + accumulator(value_of(w, i));
                    }
                }
            }
        divide_vectors:
            for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                word w;
                for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                    const wide sum = sums[k * C::vector_width + i];
                    set_value(w, i, wide(A::to_value(A::template scale<26>(sum, op.multiplier0, op.shift))));
                }
                results.write(w);
            }
            vectors += (members + 1) * of_row;
        }
    }

    // Every pixel, code or value, as often as it is written.
    static void copy_rows(words& rows, const VectorOperation& op, const Pass& pass, words& results, count_t& vectors) {
        const int bytes = op.channels * input_bytes(op);
        word of_row[row_words];
    copy_rows_loop:
        for (int i = 0; i < pass.pixels; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            const Copies copies = copies_of(op, pass.first_pixel + i);
        copy_copies:
            for (int copy = 0; copy < copies.rows * copies.columns; ++copy) {
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4
            copy_words:
                for (int k = 0; k < M::words_of(bytes); ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                    if (copy == 0) of_row[k] = rows.read();
                    results.write(of_row[k]);
                    ++vectors;
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------- normalization

    static void load_affine(const word* parameters, const NormOperation& norm, int sample, int channel, int channels,
                            NormBuffers<C>& buffers, VectorCounters& counters) {
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
                    buffers.gains[first + i] = A::accumulator_at(of_gains, 4 * i);
                    buffers.offsets[first + i] = A::wide_at(of_offsets, 8 * i);
                }
            }
        }
        counters.parameter_beats += beats;
        counters.cycles += beats;
    }

    // y = slope * x + intercept per channel, from the sums of `pixels` pixels.
    static void solve(const NormOperation& norm, int pixels, int per_group, int channels,
                      NormBuffers<C>& buffers, VectorCounters& counters) {
        const wide count = pixels * per_group, reciprocal = (wide(1) << tables::NORM_RECIPROCAL_BITS) / count;
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
                        total += buffers.sums[c];
                        square += buffers.squares[c];
                    }
                }
            }
            wide root;
            int half_exponent;
            typedef typename C::template uint<64> unsigned_wide;
            const wide magnitude = total < 0 ? wide(-total) : total;
            const unsigned_wide spread = A::template multiply_unsigned<17, 47>(count, square) -
                                         A::template multiply_unsigned<32, 32>(magnitude, magnitude);
            const bool narrow = count <= tables::NARROW_NORM;  // else the sum may have 64 bits, and a quarter of it is taken
            const wide quarter = wide(spread >> 2) + ((norm.epsilon + 3) >> 2);
            reciprocal_square_root(narrow ? wide(wide(spread) + norm.epsilon) : quarter, root, half_exponent);
            if (!narrow) ++half_exponent;
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
                        const wide slope = A::saturate(A::round_shift(A::template multiply<41, 23>(counted_root, buffers.gains[c]), shift), -limit, limit);
                        buffers.slopes[c] = slope;
                        buffers.intercepts[c] = buffers.offsets[c] - A::round_shift(A::template multiply<36, 29>(slope, mean), tables::NORM_MEAN_BITS);
                    }
                }
            }
        }
    }
};

}  // namespace ditto
