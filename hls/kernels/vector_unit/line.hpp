// Lines: a normalized value, a sum of two values of different scales (ADD), their product (MULTIPLY), or a value as it
// is; then the activation and the quantizer that follow.
#pragma once

#include "activation.hpp"
#include "norm.hpp"
#include "operation.hpp"
#include "quantize.hpp"

namespace ditto {

template <class C>
struct Line {
    typedef Arithmetic<C> A;
    typedef Values<C> V;
    typedef typename V::word word;
    typedef typename V::wide wide;
    typedef typename Memory<C>::words words;

    static void rows(words& left, words& right, const VectorOperation& op, const Pass& pass,
                     const NormBuffers<C>& buffers, words& results, words& residues, count_t& vectors) {
        const int of_row = V::vectors_of(pass.channels);
        const int shift = op.normalize ? int(tables::NORM_SLOPE_BITS) : op.shift;
        Outlet<C> outlet;
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
                    const wide y = line(V::value_of(first, i), V::value_of(second, i), k * C::vector_width + i, shift,
                                        op, buffers);
                    result[i] = Activation<C>::activate(y, op.finish.activation, op.finish.fraction_bits);
                }
                outlet.write(result, op.finish, op.code_output, k, k == of_row - 1, results, residues);
                ++vectors;
            }
        }
    }

    static wide line(wide x, wide y, int channel, int shift, const VectorOperation& op, const NormBuffers<C>& buffers) {
#pragma HLS INLINE
        const wide slope = op.normalize ? wide(buffers.slopes[channel]) : wide(op.multiplier0);
        const wide scaled = A::template multiply<16, 32>(y, op.multiplier1);
        const wide summand = op.multiply ? wide(0) : op.normalize ? wide(buffers.intercepts[channel]) : scaled;
        const wide sum = A::template multiply<16, 48>(x, op.multiply ? scaled : slope) + summand;
        const bool computed = op.normalize || op.add || op.multiply;
        return computed ? wide(A::to_value(A::round_shift(sum, shift))) : x;
    }
};

}  // namespace ditto
