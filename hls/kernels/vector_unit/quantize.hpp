// The fused quantizer, and results on their way to memory.
#pragma once

#include "operation.hpp"
#include "values.hpp"

namespace ditto {

// Results of a row on their way to memory: a vector of values is a word; two vectors of codes share one.
template <class C>
struct Outlet {
    typedef Arithmetic<C> A;
    typedef Values<C> V;
    typedef typename V::word word;
    typedef typename V::byte byte;
    typedef typename V::wide wide;
    typedef typename Memory<C>::words words;

    word codes, residues;

    // Vector `index` of the row, the last one where `end`.
    void write(const wide* vector, const Finish& finish, bool code_output, int index, bool end, words& results,
               words& residue_run) {
#pragma HLS INLINE
        const int half = index % 2 * C::vector_width;
        if (!code_output) {
            for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                V::set_value(codes, i, vector[i]);
            }
            results.write(codes);
            return;
        }
        for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
            const wide product = finish.quantize ? A::template multiply<17, 32>(vector[i], finish.multiplier) : wide(0);
            const wide code = finish.quantize ? wide(A::to_code(A::round_shift(product, finish.shift))) : vector[i];
            C::set_byte(codes, half + i, byte(code & 255));
            const wide fine = A::round_shift(wide(product << formats::FINE_BITS), finish.shift);
            C::set_byte(residues, half + i, byte(wide(A::to_code(fine - (code << formats::FINE_BITS))) & 255));
        }
        if (half || end) {
            results.write(codes);
            if (finish.fine) residue_run.write(residues);
        }
    }
};

}  // namespace ditto
