// Byte runs between DRAM and on-chip buffers, over a port of bus_bytes a beat.
//
// A buffer holds whole beats: byte `offset` of the run lies at index offset % bus_bytes ("skew"), so no shifter is needed
// here. Every beat is counted: the traffic model predicts beats, not wishes.
#pragma once

#include "types.hpp"

namespace ditto {

template <class C>
struct Memory {
    typedef typename C::template word<C::bus_bytes> word;
    typedef typename C::template uint<8> byte;

    // Reads bytes [offset, offset + bytes); returns the skew.
    static int load(const word* memory, address_t offset, int bytes, byte* buffer, count_t& beats) {
        if (bytes <= 0) return 0;
        const address_t first = offset / C::bus_bytes, last = (offset + bytes - 1) / C::bus_bytes;
    load_beats:
        for (address_t beat = first; beat <= last; ++beat) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::row_bytes / C::bus_bytes
            const word w = memory[beat];
        load_bytes:
            for (int i = 0; i < C::bus_bytes; ++i) {
#pragma HLS UNROLL
                buffer[int(beat - first) * C::bus_bytes + i] = C::get_byte(w, i);
            }
            ++beats;
        }
        return int(offset % C::bus_bytes);
    }

    // Writes bytes [offset, offset + bytes) from buffer[skew...]; beats at the ends keep the bytes that are not the run's.
    static void store(word* memory, address_t offset, int bytes, const byte* buffer, count_t& beats, count_t& merged) {
        if (bytes <= 0) return;
        const address_t first = offset / C::bus_bytes, last = (offset + bytes - 1) / C::bus_bytes;
        const int skew = int(offset % C::bus_bytes), end = skew + bytes;
    store_beats:
        for (address_t beat = first; beat <= last; ++beat) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::row_bytes / C::bus_bytes
            const int base = int(beat - first) * C::bus_bytes;
            const bool whole = base >= skew && base + C::bus_bytes <= end;
            word w;
            if (!whole) {
                w = memory[beat];
                ++merged;
            }
        store_bytes:
            for (int i = 0; i < C::bus_bytes; ++i) {
#pragma HLS UNROLL
                if (base + i >= skew && base + i < end) C::set_byte(w, i, buffer[base + i]);
            }
            memory[beat] = w;
            ++beats;
        }
    }

    // A run to another place in its beats.
    static void realign(const byte* source, int skew, byte* target, int target_skew, int bytes, count_t& vectors) {
    realign_beats:
        for (int first = 0; first < bytes; first += C::bus_bytes) {
#pragma HLS PIPELINE II = 1
            for (int i = 0; i < C::bus_bytes; ++i) {
#pragma HLS UNROLL
                if (first + i < bytes) target[target_skew + first + i] = source[skew + first + i];
            }
            ++vectors;
        }
    }
};

}  // namespace ditto
