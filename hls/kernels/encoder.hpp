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
    DigitEntry<C> entries[C::lanes][HALVES][C::digit_depth];
    typename C::template uint<C::word_bits + 1> counts[C::lanes][HALVES][C::positions];
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

// Where a run of pixels lies among the encoded ones of a core's block.
template <class C>
struct Place {
    typename C::template uint<16> row, column;
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

template <class C>
struct Encoder {
    typedef Arithmetic<C> A;
    typedef hls::stream<typename Memory<C>::word> words;

    // A run of `pixels` of `channels` codes each, into the slots from `place` on, in rows of `width`. `outside`: no
    // codes come, all are 0. Neighbours are `distance` columns apart.
    static void encode(words& current, words& previous, Reference reference, bool outside, int pixels, int channels,
                       const Place<C>& place, int width, int distance, Neighbours<C>& neighbours, DigitLists<C>& lists,
                       EncodeCounters& counters) {
        static_assert(C::lanes <= C::bus_bytes, "the lanes' codes of a cycle come from one word or from two");
        const int words_of_pixel = ceil_divide(channels, C::lanes);
        Window<C> now, before;
        const int position = int(place.row) * width + int(place.column);
        int phase = int(place.column) % distance;  // which of the row's words of neighbours is the next pixel's
        now.start();
        before.start();
        typename C::template uint<C::word_bits + 1> filled[C::lanes][HALVES];
#pragma HLS ARRAY_PARTITION variable = filled complete dim = 0
    encode_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
        encode_words:
            for (int word = 0; word < words_of_pixel; ++word) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const int rest = channels - word * C::lanes, count = rest < C::lanes ? rest : C::lanes;
                if (!outside) now.need(current, count);
                if (reference == PREVIOUS_STEP) before.need(previous, count);
                typename A::code codes[C::lanes], references[C::lanes];
#pragma HLS ARRAY_PARTITION variable = codes complete
#pragma HLS ARRAY_PARTITION variable = references complete
                for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                    const bool inside = lane < count;
                    const bool coded = inside && !outside, refers = inside && reference == PREVIOUS_STEP;
                    codes[lane] = coded ? typename A::code(now.byte(lane)) : typename A::code(0);
                    references[lane] = refers ? typename A::code(before.byte(lane)) : typename A::code(0);
                }
                if (reference == NEIGHBOUR) {
                    neighbours.exchange((int(place.row) * distance + phase) * words_of_pixel + word,
                                        int(place.column) + pixel >= distance, codes, references);
                }
                if (word == words_of_pixel - 1) phase = phase + 1 == distance ? 0 : phase + 1;
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
                            const int slot = (position + pixel) * words_of_pixel + queued;
                            DigitEntry<C>& entry = lists.entries[lane][half][slot];
                            entry.digit = digits[half];
                            entry.word = word;
                        }
                        filled[lane][half] = queued + sent;
                        if (word == words_of_pixel - 1) lists.counts[lane][half][position + pixel] = queued + sent;
                        counters.digits += sent;
                    }
                    counters.elements += inside;
                    counters.zeros += inside && d == 0;
                    counters.narrow += inside && d != 0 && A::template fits<formats::NARROW_BITS>(d);
                }
                now.at += count;
                before.at += count;
                ++counters.words;
            }
        }
    }
};

}  // namespace ditto
