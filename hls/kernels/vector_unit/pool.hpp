// Means over windows of factor x factor pixels.
#pragma once

#include "operation.hpp"
#include "values.hpp"

namespace ditto {

template <class C>
struct Pool {
    typedef Arithmetic<C> A;
    typedef Values<C> V;
    typedef typename V::word word;
    typedef typename V::wide wide;
    typedef typename A::accumulator accumulator;
    typedef typename Memory<C>::words words;

    // All pixels of a window, one after the other, for every window.
    static void rows(words& windows, const VectorOperation& op, int pixels, words& results, count_t& vectors) {
        accumulator sums[V::most_channels];
#pragma HLS ARRAY_PARTITION variable = sums cyclic factor = C::vector_width
        const int members = op.factor * op.factor, of_row = V::vectors_of(op.channels);
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
                        sum = (member == 0 ? accumulator(0) : sum) + accumulator(V::value_of(w, i));
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
                    const wide mean = A::template scale<26>(sums[k * C::vector_width + i], op.multiplier0, op.shift);
                    V::set_value(w, i, wide(A::to_value(mean)));
                }
                results.write(w);
            }
            vectors += (members + 1) * of_row;
        }
    }

    // Pixel `member` of a window.
    static int window_pixel(const VectorOperation& op, int window, int member) {
        const int x = window % op.output_width, y = (window / op.output_width) % op.output_height;
        const int sample = window / (op.output_width * op.output_height);
        const int row = y * op.factor + member / op.factor, column = x * op.factor + member % op.factor;
        return (sample * op.height + row) * op.width + column;
    }
};

}  // namespace ditto
