// Softmax of rows of `channels` logits before its division: to codes 0..127, 127 the largest of a row.
#pragma once

#include "operation.hpp"
#include "tables.hpp"
#include "values.hpp"

namespace ditto {

template <class C>
struct Softmax {
    typedef Arithmetic<C> A;
    typedef Values<C> V;
    typedef typename V::word word;
    typedef typename V::byte byte;
    typedef typename V::wide wide;
    typedef typename Memory<C>::words words;
    static constexpr int row_words = V::row_words;

    static void rows(words& logits, const VectorOperation& op, int rows, words& codes, count_t& vectors) {
        word values[row_words];
        const int of_row = V::vectors_of(op.channels);
    softmax_rows_loop:
        for (int row = 0; row < rows; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            const wide largest = largest_of(logits, op.channels, of_row, values);
            write_codes(values, op, of_row, largest, codes);
            vectors += 2 * of_row;
        }
    }

    static wide largest_of(words& logits, int channels, int of_row, word values[row_words]) {
        wide largest = A::least_value;
    softmax_largest_vectors:
        for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            const word w = logits.read();
            values[k] = w;
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (k * C::vector_width + i < channels && V::value_of(w, i) > largest) largest = V::value_of(w, i);
            }
        }
        return largest;
    }

    static void write_codes(const word values[row_words], const VectorOperation& op, int of_row, wide largest,
                            words& codes) {
        word w;
    softmax_codes_vectors:
        for (int k = 0; k < of_row; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            const int half = k % 2 * C::vector_width;
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                if (k * C::vector_width + i < op.channels) {
                    const wide share = share_of(largest - V::value_of(values[k], i), op);
                    const int threshold = tables::ROUNDING_THRESHOLDS[(k * C::vector_width + i) % 16];
                    C::set_byte(w, half + i, byte((share + threshold) >> tables::SHARE_BITS));
                }
            }
            if (half || k == of_row - 1) codes.write(w);
        }
    }

    // 127 times the power of two that a logit's distance from the largest one stands for, in 32nds.
    static wide share_of(wide distance, const VectorOperation& op) {
#pragma HLS INLINE
        const wide exponent = A::template scale<17>(distance, op.multiplier0, op.shift);
        const wide whole = exponent >> tables::EXP_FRACTION_BITS;
        const wide fraction = exponent & ((1 << tables::EXP_FRACTION_BITS) - 1);
        const int knot = int(fraction >> tables::EXP_STEP_BITS);
        const wide entry =
            V::template interpolate<tables::EXP_STEP_BITS>(tables::EXP2_NEGATIVE[knot], tables::EXP2_NEGATIVE[knot + 1],
                                                           fraction & ((1 << tables::EXP_STEP_BITS) - 1));
        const int cut = tables::EXP_ENTRY_BITS - tables::SHARE_BITS + (whole > 31 ? 31 : int(whole));
        return wide((entry << (formats::CODE_BITS - 1)) - entry) >> cut;
    }
};

}  // namespace ditto
