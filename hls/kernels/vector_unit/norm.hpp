// Group and layer normalization: sums of every channel, then a line y = slope * x + intercept for each.
#pragma once

#include "operation.hpp"
#include "tables.hpp"
#include "values.hpp"

namespace ditto {

// What normalization keeps of every channel.
template <class C>
struct NormBuffers {
    static constexpr int most_channels = Values<C>::most_channels;
    typename Arithmetic<C>::accumulator gains[most_channels], sums[most_channels];
    typename C::template sint<64> offsets[most_channels], intercepts[most_channels], squares[most_channels];
    typename C::template sint<36> slopes[most_channels];
};

template <class C>
struct Norm {
    typedef Arithmetic<C> A;
    typedef Values<C> V;
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename M::words words;
    typedef typename A::byte byte;
    typedef typename A::wide wide;
    typedef typename A::accumulator accumulator;

    static constexpr int gain_bytes = formats::SUM_BYTES, offset_bytes = 8;

    // Sums and sums of squares per channel.
    static void sum_rows(words& rows, const Pass& pass, NormBuffers<C>& buffers, count_t& vectors) {
        const int of_row = V::vectors_of(pass.channels);
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
                    const wide x = V::value_of(w, i), square = A::template multiply<16, 16>(x, x);
                    buffers.sums[c] = (pixel == 0 ? accumulator(0) : buffers.sums[c]) + accumulator(x);
                    buffers.squares[c] = (pixel == 0 ? wide(0) : buffers.squares[c]) + square;
                }
                ++vectors;
            }
        }
    }

    static void load_affine(const word* parameters, const NormOperation& norm, int sample, int channel, int channels,
                            NormBuffers<C>& buffers, VectorCounters& counters) {
        const address_t of_sample = sample * norm.sample_stride;
        count_t beats = 0;
    load_affine_runs:
        for (int first = 0; first < channels; first += C::vector_width) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            byte of_gains[gain_bytes * C::vector_width], of_offsets[offset_bytes * C::vector_width];
#pragma HLS ARRAY_PARTITION variable = of_gains complete
#pragma HLS ARRAY_PARTITION variable = of_offsets complete
            const int count = channels - first < C::vector_width ? channels - first : C::vector_width;
            const address_t gains = norm.gain + of_sample + gain_bytes * (channel + first);
            const address_t offsets = norm.offset + of_sample + offset_bytes * (channel + first);
            M::load(parameters, gains, gain_bytes * count, of_gains, beats);
            M::load(parameters, offsets, offset_bytes * count, of_offsets, beats);
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (i < count) {
                    buffers.gains[first + i] = A::accumulator_at(of_gains, gain_bytes * i);
                    buffers.offsets[first + i] = A::wide_at(of_offsets, offset_bytes * i);
                }
            }
        }
        counters.parameter_beats += beats;
        counters.cycles += beats;
    }

    // Slopes and intercepts of all groups, from the sums of `pixels` pixels.
    static void solve(const NormOperation& norm, int pixels, int per_group, int channels, NormBuffers<C>& buffers,
                      VectorCounters& counters) {
        const wide count = pixels * per_group, reciprocal = (wide(1) << tables::NORM_RECIPROCAL_BITS) / count;
        const int vectors = 2 * (channels / per_group) * V::vectors_of(per_group);
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
            root_of(count, total, square, norm.epsilon, root, half_exponent);
            const wide mean = A::round_shift(A::template multiply<33, 44>(total, reciprocal),
                                             tables::NORM_RECIPROCAL_BITS - tables::NORM_MEAN_BITS);
            const wide counted_root = A::template multiply<18, 25>(count, root);
            const int shift = tables::RSQRT_ENTRY_BITS + half_exponent + norm.gain_bits - tables::NORM_SLOPE_BITS;
        solve_channels:
            for (int start = first; start < first + per_group; start += C::vector_width) {
#pragma HLS PIPELINE II = 1
                for (int c = start; c < start + C::vector_width; ++c) {
#pragma HLS UNROLL
                    if (c < first + per_group) solve_channel(c, counted_root, mean, shift, buffers);
                }
            }
        }
    }

    static void solve_channel(int c, wide counted_root, wide mean, int shift, NormBuffers<C>& buffers) {
#pragma HLS INLINE
        const wide limit = (wide(1) << tables::NORM_LARGEST_SLOPE_BITS) - 1;
        const wide product = A::template multiply<41, 23>(counted_root, buffers.gains[c]);
        const wide slope = A::saturate(A::round_shift(product, shift), -limit, limit);
        const wide moved = A::round_shift(A::template multiply<36, 29>(slope, mean), tables::NORM_MEAN_BITS);
        buffers.slopes[c] = slope;
        buffers.intercepts[c] = buffers.offsets[c] - moved;
    }

    // reciprocal_square_root of V = count * squares - total**2 + epsilon. Of many values V may have 64 bits, and a
    // quarter of it is taken.
    static void root_of(wide count, wide total, wide squares, wide epsilon, wide& root, int& half_exponent) {
#pragma HLS INLINE
        typedef typename C::template uint<64> unsigned_wide;
        const wide magnitude = total < 0 ? wide(-total) : total;
        const unsigned_wide spread = A::template multiply_unsigned<17, 47>(count, squares) -
                                     A::template multiply_unsigned<32, 32>(magnitude, magnitude);
        const bool small = count <= tables::SMALL_NORM;
        const wide quarter = wide(spread >> 2) + ((epsilon + 3) >> 2);
        reciprocal_square_root(small ? wide(wide(spread) + epsilon) : quarter, root, half_exponent);
        if (!small) ++half_exponent;
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
        const int knot = int(position >> tables::RSQRT_STEP_BITS);
        root = V::template interpolate<tables::RSQRT_STEP_BITS>(tables::RECIPROCAL_SQUARE_ROOT[knot],
                                                                tables::RECIPROCAL_SQUARE_ROOT[knot + 1],
                                                                position & ((wide(1) << tables::RSQRT_STEP_BITS) - 1));
    }
};

}  // namespace ditto
