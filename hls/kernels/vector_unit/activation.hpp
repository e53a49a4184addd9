// Activations: functions of one value, element by element.
#pragma once

#include "isa.hpp"
#include "tables.hpp"
#include "values.hpp"

namespace ditto {

template <class C>
struct Activation {
    typedef Arithmetic<C> A;
    typedef typename A::wide wide;

    // What the activation with a flag is below max(x, 0), at the knots of its table over |x| in [0, 16). One that is
    // added to the ISA is a line here; ReLU is below nowhere.
    static wide deficit(int flag, int knot) {
#pragma HLS INLINE
        switch (flag) {
            case FLAG_SILU: return tables::SILU_DEFICIT[knot];
            case FLAG_GELU: return tables::GELU_DEFICIT[knot];
            default: return 0;
        }
    }

    // max(x, 0) - deficit(|x|), x and result in steps of 2**-fraction_bits; x itself where `flag` is 0.
    static wide activate(wide x, int flag, int fraction_bits) {
#pragma HLS INLINE
        if (flag == 0) return x;
        const wide positive = x > 0 ? x : wide(0);
        if (flag == FLAG_RELU) return positive;
        const wide magnitude = x < 0 ? wide(-x) : x;
        const wide argument = magnitude << (tables::SILU_FRACTION_BITS - fraction_bits);
        const bool inside = argument < (1 << 15);
        const int knot = inside ? int(argument >> tables::SILU_STEP_BITS) : 0;
        const wide rest = argument & ((1 << tables::SILU_STEP_BITS) - 1);
        const wide entry =
            Values<C>::template interpolate<tables::SILU_STEP_BITS>(deficit(flag, knot), deficit(flag, knot + 1), rest);
        const wide below = A::round_shift(entry, tables::SILU_ENTRY_BITS - fraction_bits);
        return positive - (inside ? below : wide(0));
    }
};

}  // namespace ditto
