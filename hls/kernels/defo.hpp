// Defo unit (Ditto, HPCA 2025): the cycles that every linear operator took with each reference, and the cheapest of these. Who
// does not refer to the previous step keeps nothing for a next one, so those counts are without what keeping costs. The table of
// 32-bit counts lies behind the counter records, so every batch has its own.
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

    // What the operator refers to: as asked or, where the unit decides, the reference of fewest cycles; one of unknown cost
    // (0) before all others. Who does not refer to the previous step then keeps nothing.
    static void decide(const Decision& entry, Scalars& s) {
        if (s.reference != DEFO && s.reference != DEFO_PLUS) return;
        const bool plus = s.reference == DEFO_PLUS;
        int chosen = ZERO;
        uint32_t fewest = entry.original_cycles;
        if (entry.difference_cycles < fewest) {
            chosen = PREVIOUS_STEP;
            fewest = entry.difference_cycles;
        }
        if (plus && entry.spatial_cycles < fewest) chosen = NEIGHBOUR;
        s.reference = chosen;
        s.keep_state = s.keep_state && chosen == PREVIOUS_STEP;
    }

    // `asked` is the reference of the scalars, `taken` what was decided. `lean_cycles`: if nothing had been kept.
    static void record(Decision& entry, int asked, int taken, count_t cycles, count_t lean_cycles) {
        if (asked == ZERO) entry.original_cycles = in_32_bits(lean_cycles);
        if (asked == PREVIOUS_STEP) entry.difference_cycles = in_32_bits(cycles);
        if (asked == NEIGHBOUR) entry.spatial_cycles = in_32_bits(lean_cycles);
        entry.reference = taken;
    }

    static uint32_t in_32_bits(count_t cycles) { return cycles < 0xFFFFFFFFu ? uint32_t(cycles) : 0xFFFFFFFFu; }

    static void store(word* counters, uint32_t node, const Decision& entry) {
        typename C::template uint<8> raw[DECISION_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
        pack_decision<C>(entry, raw);
        M::store(counters, entry_offset(node), DECISION_BYTES, raw);
    }
};

}  // namespace ditto
