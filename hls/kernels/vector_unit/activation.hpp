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

    // Where an activation's table begins, of positive or negative x. One that is added is a line here.
    static int table_of(int activation, bool negative) {
#pragma HLS INLINE
        switch (activation) {
            case ACTIVATION_SILU: return tables::SILU_DEFICIT;
            case ACTIVATION_GELU: return tables::GELU_DEFICIT;
            case ACTIVATION_MISH: return negative ? tables::MISH_NEGATIVE_DEFICIT : tables::MISH_DEFICIT;
            default: return 0;
        }
    }

    // What an activation is below max(x, 0), at a knot of its table over |x| in [0, 16].
    static wide deficit(int table, int knot) {
#pragma HLS INLINE
        return knot == tables::DEFICIT_KNOTS ? wide(0) : wide(tables::DEFICITS[table + knot]);
    }

    // max(x, 0) - deficit(|x|), x and result in steps of 2**-fraction_bits; x itself without an activation.
    static wide activate(wide x, int activation, int fraction_bits) {
#pragma HLS INLINE
        if (activation == NO_ACTIVATION) return x;
        const wide positive = x > 0 ? x : wide(0);
        if (activation == ACTIVATION_RELU) return positive;
        const bool negative = x < 0;
        const wide magnitude = negative ? wide(-x) : x;
        const wide argument = magnitude << (tables::ACTIVATION_FRACTION_BITS - fraction_bits);
        const bool inside = argument < (1 << 15);
        const int knot = inside ? int(argument >> tables::ACTIVATION_STEP_BITS) : 0;
        const wide rest = argument & ((1 << tables::ACTIVATION_STEP_BITS) - 1);
        const int table = table_of(activation, negative);
        const wide low = deficit(table, knot), high = deficit(table, knot + 1);
        const wide entry = Values<C>::template interpolate<tables::ACTIVATION_STEP_BITS>(low, high, rest);
        const wide below = A::round_shift(entry, tables::ACTIVATION_ENTRY_BITS - fraction_bits);
        return positive - (inside ? below : wide(0));
    }
};

}  // namespace ditto
