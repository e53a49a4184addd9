// Byte runs between DRAM and the units, over a port of bus_bytes a beat.
//
// A run may begin and end anywhere in a beat; the units see it from its first byte on, in words of bus_bytes. Reading
// and writing are processes of their own, which go on through all runs of an operator, so that DRAM's latency need not
// be paid for every run. Every beat is counted: the traffic model predicts beats, not wishes.
#pragma once

#include "formats.hpp"
#include "types.hpp"

namespace ditto {

// Beats that were written, and those of them that had to be read first.
struct WriteCounters {
    count_t beats, merged;
};

template <class C>
struct Memory {
    typedef typename C::template word<C::bus_bytes> word;
    typedef typename C::template uint<8> byte;
    typedef hls::stream<word> words;
    typedef typename C::template sint<formats::SUM_BITS> sum_t;
    typedef typename C::template sint<formats::CODE_BITS> code;

    static int words_of(int bytes) { return ceil_divide(bytes, C::bus_bytes); }

    // Bytes [skew, skew + bus_bytes) of two beats that follow each other.
    static word align(const word& low, const word& high, int skew) {
#pragma HLS INLINE
        word result;
        for (int i = 0; i < C::bus_bytes; ++i) {
#pragma HLS UNROLL
            const int at = i + skew;
            C::set_byte(result, i, at < C::bus_bytes ? C::get_byte(low, at) : C::get_byte(high, at - C::bus_bytes));
        }
        return result;
    }

    // Bytes [offset, offset + bytes) as a stream of words. Where the run is not aligned, the first beat gives none yet,
    // and the last one may give two.
    static void read(const word* memory, address_t offset, int bytes, words& run, count_t& beats) {
        const address_t first = offset / C::bus_bytes;
        const int skew = int(offset % C::bus_bytes), reads = bytes > 0 ? words_of(skew + bytes) : 0;
        word before, now;
    read_beats:
        for (int i = 0; i < reads; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::row_bytes / C::bus_bytes
            now = memory[first + i];
            if (skew == 0 || i > 0) run.write(skew == 0 ? now : align(before, now, skew));
            before = now;
        }
        if (reads > 0 && words_of(bytes) + (skew != 0) > reads) run.write(align(now, now, skew));
        beats += reads;
    }

    // The same to a second stream too, where it is to be kept. Returns the sum of the run's bytes, as signed codes.
    static sum_t read_twice(const word* memory, address_t offset, int bytes, words& run, words& kept, bool keep,
                            count_t& beats) {
        const address_t first = offset / C::bus_bytes;
        const int skew = int(offset % C::bus_bytes), reads = bytes > 0 ? words_of(skew + bytes) : 0;
        sum_t sum = 0;
        int left = bytes;
        word before, now;
    read_twice_beats:
        for (int i = 0; i < reads; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::row_bytes / C::bus_bytes
            now = memory[first + i];
            if (skew == 0 || i > 0) pass_on(skew == 0 ? now : align(before, now, skew), run, kept, keep, left, sum);
            before = now;
        }
        if (reads > 0 && words_of(bytes) + (skew != 0) > reads) {
            pass_on(align(now, now, skew), run, kept, keep, left, sum);
        }
        beats += reads;
        return sum;
    }

    // A word of a run of which so many bytes are left.
    static void pass_on(const word& w, words& run, words& kept, bool keep, int& left, sum_t& sum) {
#pragma HLS INLINE
        run.write(w);
        if (keep) kept.write(w);
        for (int k = 0; k < C::bus_bytes; ++k) {
#pragma HLS UNROLL
            if (k < left) sum = sum + sum_t(code(C::get_byte(w, k)));
        }
        left -= C::bus_bytes;
    }

    // Words to bytes [offset, offset + bytes); beats at the ends keep the bytes that are not the run's.
    static void write(word* memory, address_t offset, int bytes, words& run, count_t& beats, count_t& merged) {
        if (bytes <= 0) return;
        const int skew = int(offset % C::bus_bytes), end = skew + bytes, inputs = words_of(bytes);
        const address_t first = offset / C::bus_bytes;
        word before, now;
    write_beats:
        for (int i = 0; i < words_of(end); ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::row_bytes / C::bus_bytes
            if (i < inputs) now = run.read();
            word beat = skew == 0 ? now : align(before, now, C::bus_bytes - skew);
            const int base = i * C::bus_bytes;
            if (base < skew || base + C::bus_bytes > end) {
                const word old = memory[first + i];
                for (int k = 0; k < C::bus_bytes; ++k) {
#pragma HLS UNROLL
                    if (base + k < skew || base + k >= end) C::set_byte(beat, k, C::get_byte(old, k));
                }
                ++merged;
            }
            memory[first + i] = beat;
            before = now;
            ++beats;
        }
    }

    // A buffer, which holds whole words, as a run.
    static void send(const byte* buffer, int bytes, words& run) {
    send_words:
        for (int i = 0; i < words_of(bytes); ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::row_bytes / C::bus_bytes
            word w;
            for (int k = 0; k < C::bus_bytes; ++k) {
#pragma HLS UNROLL
                C::set_byte(w, k, buffer[i * C::bus_bytes + k]);
            }
            run.write(w);
        }
    }

    // A short run that is read at once: descriptors, parameters, an attention product's second operand.
    static void load(const word* memory, address_t offset, int bytes, byte* buffer, count_t& beats) {
        if (bytes <= 0) return;
        const int skew = int(offset % C::bus_bytes);
        const address_t first = offset / C::bus_bytes;
    load_beats:
        for (int beat = 0; beat < words_of(skew + bytes); ++beat) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
            const word w = memory[first + beat];
            for (int k = 0; k < C::bus_bytes; ++k) {
#pragma HLS UNROLL
                const int index = beat * C::bus_bytes + k - skew;
                if (index >= 0 && index < bytes) buffer[index] = C::get_byte(w, k);
            }
            ++beats;
        }
    }

    // Bytes of a buffer to a run that begins and ends with a beat.
    static void store(word* memory, address_t offset, int bytes, const byte* buffer) {
    store_beats:
        for (int beat = 0; beat < bytes / C::bus_bytes; ++beat) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
            word w;
            for (int k = 0; k < C::bus_bytes; ++k) {
#pragma HLS UNROLL
                C::set_byte(w, k, buffer[beat * C::bus_bytes + k]);
            }
            memory[offset / C::bus_bytes + beat] = w;
        }
    }
};

}  // namespace ditto
