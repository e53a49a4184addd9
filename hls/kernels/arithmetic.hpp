// The integer arithmetic of the number contract (hls/README.md), as in hls/contract/arithmetic.py: rounding,
// saturation, digits, chains of packed products.
#pragma once

#include "formats.hpp"
#include "types.hpp"

namespace ditto {

template <class C>
struct Arithmetic {
    typedef typename C::template sint<64> wide;
    typedef typename C::template sint<formats::SUM_BITS> accumulator;
    typedef typename C::template sint<formats::VALUE_BITS> value;
    typedef typename C::template sint<formats::CODE_BITS> code;
    typedef typename C::template sint<formats::WEIGHT_BITS> weight;
    typedef typename C::template sint<formats::DIFFERENCE_BITS> difference;
    typedef typename C::template sint<formats::DIGIT_BITS> digit;
    typedef typename C::template uint<8> byte;

    static constexpr int largest_code = (1 << (formats::CODE_BITS - 1)) - 1;
    static constexpr int least_value = -(1 << (formats::VALUE_BITS - 1));

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

    template <int BITS>
    static bool fits(wide x) {
#pragma HLS INLINE
        const wide end = wide(1) << (BITS - 1);
        return x >= -end && x < end;
    }

    static code to_code(wide x) { return code(saturate(x, -largest_code - 1, largest_code)); }
    static value to_value(wide x) { return value(saturate(x, least_value, -least_value - 1)); }

    // x * y, which fit A and B bits: the width of the multiplier that is built.
    template <int A, int B>
    static wide multiply(wide x, wide y) {
#pragma HLS INLINE
        return wide(wide(typename C::template sint<A>(x)) * wide(typename C::template sint<B>(y)));
    }

    // The same of two numbers that are not negative; the product may have 64 bits.
    template <int A, int B>
    static typename C::template uint<64> multiply_unsigned(wide x, wide y) {
#pragma HLS INLINE
        typedef typename C::template uint<64> result;
        return result(result(typename C::template uint<A>(x)) * result(typename C::template uint<B>(y)));
    }

    // x * multiplier / 2**shift, x within A bits, not yet saturated.
    template <int A>
    static wide scale(wide x, accumulator multiplier, int shift) {
#pragma HLS INLINE
        return round_shift(multiply<A, 32>(x, wide(multiplier)), shift);
    }

    // Digits of a difference d = RADIX * high + low, of which low is not negative, or d alone where it fits a digit:
    // the rule of split_digits in hls/contract/arithmetic.py. In Verilog: hls/rtl/encoding_unit.sv.
    static void split(difference d, digit& high, digit& low) {
#pragma HLS INLINE
        const bool single = fits<formats::DIGIT_BITS>(d);
        high = single ? digit(0) : digit(d >> formats::RADIX_BITS);
        low = single ? digit(d) : digit(d & (formats::RADIX - 1));
    }

    // A multiplier takes two weights, GAP bits apart, times one digit; slices of a chain add up inside: 4 lanes in
    // DSP48E2s (27 x 18 bits), 1 in a DSP48E1 (25 x 18). The lower sum, of codes of -128 and digits of -256 at most, is
    // then 2**(GAP - 1).
    static constexpr int packed_bits = C::multiplier_bits, gap = packed_bits - formats::WEIGHT_BITS - 1;
    static constexpr int chained = C::multiplier_bits >= 27 ? 4 : 1;

    // Sums of the lanes' products with weights a and with weights b. Of high digits 16 times them are given.
    static void multiply_chain(const weight a[chained], const weight b[chained], const difference digits[chained],
                               accumulator& sum_a, accumulator& sum_b) {
#pragma HLS INLINE
        typename C::template sint<48> chain = 0;
        for (int lane = 0; lane < chained; ++lane) {
#pragma HLS UNROLL
            const typename C::template sint<packed_bits> packed = wide(wide(b[lane]) << gap) + wide(a[lane]);
            const typename C::template sint<packed_bits + formats::DIFFERENCE_BITS> product =
                wide(packed) * wide(digits[lane]);
#pragma HLS BIND_OP variable = product op = mul impl = dsp
            chain = chain + product;
        }
        const wide low = wide(chain) & ((wide(1) << gap) - 1), half = wide(1) << (gap - 1);
        const bool negative = low > half;  // half itself is the largest sum, never the least
        sum_a = accumulator(negative ? wide(low - (wide(1) << gap)) : low);
        sum_b = accumulator(wide(wide(chain) - wide(sum_a)) >> gap);
    }

    // The same of all lanes, in chains of `chained`.
    static void multiply_lanes(const weight a[C::lanes], const weight b[C::lanes], const difference digits[C::lanes],
                               accumulator& sum_a, accumulator& sum_b) {
#pragma HLS INLINE
        sum_a = sum_b = 0;
        for (int first = 0; first < C::lanes; first += chained) {
#pragma HLS UNROLL
            weight of_a[chained], of_b[chained];
            difference of_chain[chained];
            for (int link = 0; link < chained; ++link) {
#pragma HLS UNROLL
                const bool there = first + link < C::lanes;
                const int lane = there ? first + link : 0;
                of_a[link] = a[lane];
                of_b[link] = b[lane];
                of_chain[link] = there ? digits[lane] : difference(0);
            }
            accumulator chain_a, chain_b;
            multiply_chain(of_a, of_b, of_chain, chain_a, chain_b);
            sum_a = sum_a + chain_a;
            sum_b = sum_b + chain_b;
        }
    }

    // Little-endian elements of a byte buffer.
    static accumulator accumulator_at(const byte* buffer, int index) {
#pragma HLS INLINE
        typedef typename C::template uint<formats::SUM_BITS> bits;
        bits x = 0;
        for (int i = formats::SUM_BYTES - 1; i >= 0; --i) {
#pragma HLS UNROLL
            x = bits((x << 8) | bits(buffer[index + i]));
        }
        return accumulator(x);
    }

    static wide wide_at(const byte* buffer, int index) {
#pragma HLS INLINE
        typedef typename C::template uint<64> bits;
        bits x = 0;
        for (int i = 7; i >= 0; --i) {
#pragma HLS UNROLL
            x = bits((x << 8) | bits(buffer[index + i]));
        }
        return wide(x);
    }

    template <int BYTES>
    static void put(byte* buffer, int index, wide x) {
#pragma HLS INLINE
        for (int i = 0; i < BYTES; ++i) {
#pragma HLS UNROLL
            buffer[index + i] = byte((x >> (8 * i)) & 255);
        }
    }
};

}  // namespace ditto
