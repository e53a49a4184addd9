// Nearest-neighbour upsampling: every pixel, code or value, as often as it is written.
#pragma once

#include "operation.hpp"
#include "values.hpp"

namespace ditto {

// Where a pixel is copied to: `rows` x `columns` pixels, the first in row `row` of all samples'. Fewer at a cut end.
struct Copies {
    int row, column, rows, columns;
};

template <class C>
struct Upsample {
    typedef Values<C> V;
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename M::words words;

    static void rows(words& rows, const VectorOperation& op, const Pass& pass, words& results, count_t& vectors) {
        const int bytes = op.channels * input_bytes(op);
        word of_row[V::row_words];
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

    static Copies copies_of(const VectorOperation& op, int pixel) {
        const int x = pixel % op.width, y = (pixel / op.width) % op.height, sample = pixel / (op.width * op.height);
        const int rows = op.output_height - y * op.factor, columns = op.output_width - x * op.factor;
        return {sample * op.output_height + y * op.factor, x * op.factor, rows < op.factor ? rows : int(op.factor),
                columns < op.factor ? columns : int(op.factor)};
    }

    static int copied_pixel(const VectorOperation& op, const Copies& copies, int place) {
        const int row = copies.row + place / copies.columns;
        return row * op.output_width + copies.column + place % copies.columns;
    }
};

}  // namespace ditto
