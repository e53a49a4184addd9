// Defo unit (Ditto, HPCA 2025): the cycles of every linear operator with reference zero and with the previous step, and the
// cheaper of the two. Who takes reference zero for good keeps nothing for a next step, so the first count is without what keeping
// costs. The table of 32-bit counts lies behind the counter records, so every batch has its own.
#pragma once

#include "isa.hpp"
#include "memory.hpp"

namespace ditto {

template <class C>
struct Defo {
    typedef Memory<C> M;
    typedef typename M::word word;

    static address_t entry_offset(uint32_t node) { return node * COUNTER_RECORD_BYTES + COUNTERS_BYTES; }

    static Decision read(const word* counters, uint32_t node, count_t& beats) {
        static_assert(COUNTERS_BYTES % C::bus_bytes == 0 && DECISION_BYTES % C::bus_bytes == 0, "entries are whole beats");
        typename C::template uint<8> raw[DECISION_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
        M::load(counters, entry_offset(node), DECISION_BYTES, raw, beats);
        return unpack_decision<C>(raw);
    }

    // What the operator refers to: as asked or, where the unit decides, the cheaper one. Unknown costs are tried first. An
    // operator that is decided for reference zero keeps nothing for a next step.
    static void decide(const Decision& entry, Scalars& s) {
        if (s.reference != DEFO) return;
        const bool difference = entry.original_cycles != 0 &&
                                (entry.difference_cycles == 0 || entry.difference_cycles < entry.original_cycles);
        s.reference = difference ? PREVIOUS_STEP : ZERO;
        s.keep_state = s.keep_state && difference;
    }

    // `asked` is the reference of the scalars, `taken` what was decided.
    static void record(Decision& entry, int asked, int taken, count_t cycles) {
        const uint32_t count = cycles < 0xFFFFFFFFu ? uint32_t(cycles) : 0xFFFFFFFFu;
        if (asked == ZERO) entry.original_cycles = count;
        if (asked == PREVIOUS_STEP) entry.difference_cycles = count;
        entry.reference = taken;
    }

    static void store(word* counters, uint32_t node, const Decision& entry) {
        typename C::template uint<8> raw[DECISION_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
        pack_decision<C>(entry, raw);
        M::store(counters, entry_offset(node), DECISION_BYTES, raw);
    }
};

}  // namespace ditto
