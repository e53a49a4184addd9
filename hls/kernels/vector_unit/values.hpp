// Values in a word of memory, and tables of functions of them.
#pragma once

#include "arithmetic.hpp"
#include "memory.hpp"

namespace ditto {

template <class C>
struct Values {
    typedef Arithmetic<C> A;
    typedef typename Memory<C>::word word;
    typedef typename A::byte byte;
    typedef typename A::wide wide;

    static constexpr int bytes = formats::VALUE_BYTES;
    static constexpr int most_channels = C::row_bytes / bytes, row_words = C::row_bytes / C::bus_bytes;
    static_assert(C::vector_width * bytes == C::bus_bytes, "a vector is a beat of values");

    static int vectors_of(int channels) { return ceil_divide(channels, C::vector_width); }

    // Value i of a word.
    static wide value_of(const word& w, int i) {
#pragma HLS INLINE
        typedef typename C::template uint<formats::VALUE_BITS> bits;
        bits x = 0;
        for (int k = bytes - 1; k >= 0; --k) {
#pragma HLS UNROLL
            x = bits((x << 8) | bits(C::get_byte(w, bytes * i + k)));
        }
        return typename A::value(x);
    }

    static void set_value(word& w, int i, wide x) {
#pragma HLS INLINE
        for (int k = 0; k < bytes; ++k) {
#pragma HLS UNROLL
            C::set_byte(w, bytes * i + k, byte((x >> (8 * k)) & 255));
        }
    }

    // Between two entries of a table, which differ by less than 2**20, at `rest / 2**STEP_BITS`.
    template <int STEP_BITS>
    static wide interpolate(wide low, wide high, wide rest) {
#pragma HLS INLINE
        return low + A::round_shift(A::template multiply<21, STEP_BITS + 1>(high - low, rest), STEP_BITS);
    }
};

}  // namespace ditto
