// Defo unit (Ditto, HPCA 2025): the cycles that every linear operator took with each reference, and the cheapest of
// these. Who does not refer to the previous step keeps nothing for a next one, so those counts are without what keeping
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
        static_assert(COUNTERS_BYTES % C::bus_bytes == 0 && DECISION_BYTES % C::bus_bytes == 0,
                      "entries are whole beats");
        typename C::template uint<8> raw[DECISION_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
        M::load(counters, entry_offset(node), DECISION_BYTES, raw, beats);
        return unpack_decision<C>(raw);
    }

    // What the operator refers to: as asked or, where the unit decides, the reference of fewest cycles; one of unknown
    // cost (0) before all others. Who does not refer to the previous step then keeps nothing. Across a change of scales
    // differences are wider: then reference zero may be cheaper for once, and keeps. A follower does as its leader did.
    static void decide(const Decision& entry, bool follows, Scalars& s) {
        if (!is_choice(s.reference)) return;
        if (follows) {
            s.reference = entry.reference;
            s.keep_state = entry.kept;
            return;
        }
        int chosen = -1;
        uint32_t fewest = 0;
        consider(s.reference, ZERO, entry.original_cycles, chosen, fewest);
        consider(s.reference, PREVIOUS_STEP, entry.difference_cycles, chosen, fewest);
        consider(s.reference, NEIGHBOUR, entry.spatial_cycles, chosen, fewest);
        const bool difference = chosen == PREVIOUS_STEP;
        if (difference && s.rescaled && entry.keeping_cycles < entry.rescaled_cycles) chosen = ZERO;
        s.reference = chosen;
        s.keep_state = s.keep_state && difference;
    }

    static void consider(int choice, int reference, uint32_t cycles, int& chosen, uint32_t& fewest) {
        if (!is_candidate(choice, reference) || (chosen >= 0 && cycles >= fewest)) return;
        chosen = reference;
        fewest = cycles;
    }

    // `asked` is the reference of the scalars as the host wrote them. `lean_cycles`: if nothing had been kept. A
    // follower's count with its leader's.
    static void record(Decision& entry, bool follows, int asked, const Scalars& s, count_t cycles,
                       count_t lean_cycles) {
        if (asked == ZERO) {
            enter(entry.original_cycles, follows, lean_cycles);
            enter(entry.keeping_cycles, follows, cycles);
        }
        if (asked == PREVIOUS_STEP) enter(entry.difference_cycles, follows, cycles);
        if (s.reference == PREVIOUS_STEP && s.rescaled) enter(entry.rescaled_cycles, follows, cycles);
        if (asked == NEIGHBOUR) enter(entry.spatial_cycles, follows, lean_cycles);
        entry.reference = s.reference;
        entry.kept = s.keep_state;
    }

    static void enter(uint32_t& count, bool follows, count_t cycles) {
        count = in_32_bits(follows ? count_t(count) + cycles : cycles);
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
