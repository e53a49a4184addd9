// Encoding unit: x - x_ref, split in digits; zeros are dropped, the others queued in one list per lane.
//
// Lane j takes channels c with c % lanes == j. An input pixel has one slot of `words` entries in each lane's list of
// low and of high digits; the compute unit walks the slots of the pixels under its kernel window. With spatial
// differences x_ref is the code of the pixel before it (see hls/contract/spatial.py).
#pragma once

#include "arithmetic.hpp"
#include "isa.hpp"
#include "memory.hpp"

namespace ditto {

enum DigitHalf { LOW = 0, HIGH = 1, HALVES = 2 };

template <class C>
struct DigitEntry {
    typename Arithmetic<C>::digit digit;
    typename C::template uint<C::word_bits> word;  // channel / lanes
};

template <class C>
struct DigitLists {
    typedef typename C::template uint<C::word_bits + 1> count;
    DigitEntry<C> entries[C::cores][C::lanes][HALVES][C::digit_depth];
    count counts[C::cores][C::lanes][HALVES][C::positions];
};

struct EncodeCounters {
    count_t words, elements, zeros, narrow, digits;
};

// The next bytes of a run: two words, of which one is replaced at a time. No more than a word may be taken at once.
template <class C>
struct Window {
    typedef typename Memory<C>::word word;
    word low, high;
    int at, end;  // the bytes that are left

    void start() { at = end = 0; }

    // Makes the next `count` bytes, the first of which is at `at`, lie in the window.
    void need(hls::stream<word>& run, int count) {
#pragma HLS INLINE
        if (at >= C::bus_bytes) {
            low = high;
            at -= C::bus_bytes;
            end -= C::bus_bytes;
        }
        if (at + count > end) {
            if (end == 0) {
                low = run.read();
            } else {
                high = run.read();
            }
            end += C::bus_bytes;
        }
    }

    typename C::template uint<8> byte(int index) const {
#pragma HLS INLINE
        const int i = at + index;
        return i < C::bus_bytes ? C::get_byte(low, i) : C::get_byte(high, i - C::bus_bytes);
    }
};

// Where a run of pixels lies among the encoded ones of a core's block. `phase`: which of its row's words of neighbours
// is the first pixel's.
template <class C>
struct Place {
    typename C::template uint<16> row, column, phase;
};

// Codes of the pixels before, a word of one per lane; those that the next pixel's codes refer to come out again. Runs
// of rows may come in turns: every row has words of its own.
template <class C>
struct Neighbours {
    typedef typename Arithmetic<C>::code code;
    static constexpr int recent = 4;  // words that may still be on their way into the memory
    code words[C::digit_depth][C::lanes];
    code latest[recent][C::lanes];
    int addresses[recent];

    void start() {
#pragma HLS INLINE
        for (int age = 0; age < recent; ++age) {
#pragma HLS UNROLL
            addresses[age] = -1;
        }
    }

    // The word at `address`, if `there`, and `now` in its place.
    void exchange(int address, bool there, const code now[C::lanes], code before[C::lanes]) {
#pragma HLS INLINE
#pragma HLS DEPENDENCE variable = words inter RAW distance = 5 true
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            code kept = words[address][lane];
            for (int age = recent - 1; age >= 0; --age) {
                if (addresses[age] == address) kept = latest[age][lane];
            }
            before[lane] = there ? kept : code(0);
            words[address][lane] = now[lane];
            for (int age = recent - 1; age > 0; --age) {
#pragma HLS UNROLL
                latest[age][lane] = latest[age - 1][lane];
            }
            latest[0][lane] = now[lane];
        }
        for (int age = recent - 1; age > 0; --age) {
#pragma HLS UNROLL
            addresses[age] = addresses[age - 1];
        }
        addresses[0] = address;
    }
};

// What an encoder gets: runs of `pixels` pixels of `channels` codes each, in rows of `width` encoded pixels, of which
// the last `outside` ones lie right of the image: codes of 0, which do not come. Neighbours are `distance` columns
// apart.
struct EncodedRuns {
    Reference reference;
    bool placed;  // whether it is said where each run lies; else a run is a row
    int runs, pixels, channels, columns, outside, width, distance;
};

template <class C>
struct Encoder {
    typedef Arithmetic<C> A;
    typedef hls::stream<typename Memory<C>::word> words;
    typedef DigitEntry<C> entries_t[HALVES][C::digit_depth];
    typedef typename DigitLists<C>::count counts_t[HALVES][C::positions];

    // A core's block, run by run, and after the last run of a row the pixels right of the image: a word of a pixel, one
    // code for each lane, every cycle.
    static void encode(const EncodedRuns& of, hls::stream<Place<C>>& places, words& current, words& previous,
                       entries_t entries[C::lanes], counts_t counts[C::lanes], hls::stream<EncodeCounters>& counted) {
        static_assert(C::lanes <= C::bus_bytes, "the lanes' codes of a cycle come from one word or from two");
        const int last_word = ceil_divide(of.channels, C::lanes) - 1, words_of_pixel = last_word + 1;
        Window<C> now, before;
        Neighbours<C> neighbours;
#pragma HLS ARRAY_RESHAPE variable = neighbours.words complete dim = 2
#pragma HLS ARRAY_PARTITION variable = neighbours.latest complete dim = 0
#pragma HLS ARRAY_PARTITION variable = neighbours.addresses complete
#pragma HLS BIND_STORAGE variable = neighbours.words type = ram_2p impl = bram
        typename DigitLists<C>::count filled[C::lanes][HALVES];
#pragma HLS ARRAY_PARTITION variable = filled complete dim = 0
        EncodeCounters counters;
        counters.words = counters.elements = counters.zeros = counters.narrow = counters.digits = 0;
        neighbours.start();
        bool starts = true, outside = false;
        int run = 0, pixel = 0, word = 0, position = 0, row = 0, column = 0, phase = 0;
    encode_words:
        while (run < of.runs) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::digit_depth
            if (starts) {
                row = run;
                column = phase = 0;
                if (of.placed) {
                    const Place<C> place = places.read();
                    row = place.row;
                    column = place.column;
                    phase = place.phase;
                }
                position = row * of.width + column;
                now.start();
                before.start();
            }
            const int rest = of.channels - word * C::lanes, count = rest < C::lanes ? rest : C::lanes;
            const bool coded = !outside, differs = of.reference == PREVIOUS_STEP;
            if (coded) now.need(current, count);
            if (differs) before.need(previous, count);
            typename A::code codes[C::lanes], references[C::lanes];
#pragma HLS ARRAY_PARTITION variable = codes complete
#pragma HLS ARRAY_PARTITION variable = references complete
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                const bool inside = lane < count;
                codes[lane] = inside && coded ? typename A::code(now.byte(lane)) : typename A::code(0);
                references[lane] = inside && differs ? typename A::code(before.byte(lane)) : typename A::code(0);
            }
            if (of.reference == NEIGHBOUR) {
                neighbours.exchange((row * of.distance + phase) * words_of_pixel + word, column >= of.distance, codes,
                                    references);
            }
        encode_lanes:
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                const bool inside = lane < count;
                const typename A::difference d = typename A::difference(codes[lane] - references[lane]);
                typename A::digit digits[HALVES];
                A::split(d, digits[HIGH], digits[LOW]);
                for (int half = 0; half < HALVES; ++half) {
#pragma HLS UNROLL
                    const int queued = word == 0 ? 0 : int(filled[lane][half]);
                    const bool sent = digits[half] != 0;
                    if (sent) {
                        DigitEntry<C> entry;
                        entry.digit = digits[half];
                        entry.word = word;
                        entries[lane][half][position * words_of_pixel + queued] = entry;
                    }
                    filled[lane][half] = queued + sent;
                    if (word == last_word) counts[lane][half][position] = queued + sent;
                    counters.digits += sent;
                }
                counters.elements += inside;
                counters.zeros += inside && d == 0;
                counters.narrow += inside && d != 0 && A::template fits<formats::NARROW_BITS>(d);
            }
            now.at += count;
            before.at += count;
            ++counters.words;
            starts = false;
            if (word < last_word) {
                ++word;
                continue;
            }
            word = 0;
            ++position;
            ++column;
            phase = phase + 1 == of.distance ? 0 : phase + 1;
            ++pixel;
            if (pixel < (outside ? of.outside : of.pixels)) continue;
            pixel = 0;
            outside = !outside && column == of.columns && of.outside > 0;
            if (outside) {  // its codes are no run's
                before.start();
                continue;
            }
            starts = true;
            ++run;
        }
        counted.write(counters);
    }
};

}  // namespace ditto
