// The integer arithmetic of DESIGN section 3, as in hls/arithmetic.py: rounding, saturation, digits, packed products.
#pragma once

#include "types.hpp"

namespace ditto {

template <class C>
struct Arithmetic {
    typedef typename C::template sint<64> wide;
    typedef typename C::template sint<32> accumulator;
    typedef typename C::template sint<16> value;
    typedef typename C::template sint<8> code;
    typedef typename C::template sint<9> difference;
    typedef typename C::template sint<5> digit;
    typedef typename C::template uint<8> byte;

    // x / 2**shift, rounded half up; shift 0 returns x.
    static wide round_shift(wide x, int shift) {
#pragma HLS INLINE
        if (shift == 0) return x;
        return wide(x + (wide(1) << (shift - 1))) >> shift;
    }

    static wide saturate(wide x, wide low, wide high) {
#pragma HLS INLINE
        return x < low ? low : (x > high ? high : x);
    }

    static code to_code(wide x) { return code(saturate(x, -128, 127)); }
    static value to_value(wide x) { return value(saturate(x, -32768, 32767)); }

    // x * y, which fit A and B bits: the width of the multiplier that is built.
    template <int A, int B>
    static wide multiply(wide x, wide y) {
#pragma HLS INLINE
        return wide(wide(typename C::template sint<A>(x)) * wide(typename C::template sint<B>(y)));
    }

    // x * multiplier / 2**shift, x within A bits, not yet saturated.
    template <int A>
    static wide scale(wide x, accumulator multiplier, int shift) {
#pragma HLS INLINE
        return round_shift(multiply<A, 32>(x, wide(multiplier)), shift);
    }

    // Digits of d in [-256, 255]: d = 16 * high + low; one digit where d fits in 5 bits.
    static void split(difference d, digit& high, digit& low) {
#pragma HLS INLINE
        const bool narrow = d >= -16 && d <= 15;
        high = narrow ? digit(0) : digit(d >> 4);
        low = narrow ? digit(d) : digit(d & 15);
    }

    // Products of a digit, times 16 where it is a high one, with two weights.
    static void multiply_pair(code a, code b, digit d, bool high, accumulator& product_a, accumulator& product_b) {
#pragma HLS INLINE
        const int shift = high ? 4 : 0;
        if (!C::packs_products) {
            product_a = accumulator(a) * accumulator(d) << shift;
            product_b = accumulator(b) * accumulator(d) << shift;
        } else if (C::multiplier_bits >= 26) {  // a DSP48E2: the digit is shifted before the multiplication, once for all
            multiply_packed<17>(a, b, difference(difference(d) << shift), product_a, product_b);
        } else {  // a DSP48E1
            multiply_packed<14>(a, b, difference(d), product_a, product_b);
            product_a = product_a << shift;
            product_b = product_b << shift;
        }
    }

    // Both in one DSP multiplier, (b * 2**GAP + a) * d, taken apart again; |a * d| < 2**(GAP - 1). Two codes of -128 need GAP + 9
    // bits: 26 and 23, in multipliers of 27 x 18 (DSP48E2) and of 25 x 18 bits (DSP48E1).
    template <int GAP>
    static void multiply_packed(code a, code b, difference d, accumulator& product_a, accumulator& product_b) {
#pragma HLS INLINE
        const typename C::template sint<GAP + 9> packed = wide(wide(b) << GAP) + wide(a);
        const typename C::template sint<GAP + 18> product = wide(packed) * wide(d);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
        product_a = accumulator(wide(wide(product) << (64 - GAP)) >> (64 - GAP));  // negative, it has borrowed from the upper half
        product_b = accumulator(wide(wide(product) - wide(product_a)) >> GAP);
    }

    // Little-endian elements of a byte buffer.
    static accumulator accumulator_at(const byte* buffer, int index) {
#pragma HLS INLINE
        typedef typename C::template uint<32> bits;
        bits x = 0;
        for (int i = 3; i >= 0; --i) x = bits((x << 8) | bits(buffer[index + i]));
        return accumulator(x);
    }

    static wide wide_at(const byte* buffer, int index) {
#pragma HLS INLINE
        typedef typename C::template uint<64> bits;
        bits x = 0;
        for (int i = 7; i >= 0; --i) x = bits((x << 8) | bits(buffer[index + i]));
        return wide(x);
    }

    template <int BYTES>
    static void put(byte* buffer, int index, wide x) {
#pragma HLS INLINE
        for (int i = 0; i < BYTES; ++i) buffer[index + i] = byte((x >> (8 * i)) & 255);
    }
};

}  // namespace ditto
