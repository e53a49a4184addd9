// Encoding unit: x - x_ref, split in 5-bit digits; zeros are dropped, the others queued in one list per lane.
//
// Lane j takes channels c with c % lanes == j. An input pixel has one slot of `words` entries in each lane's list of low and
// of high digits; the compute unit walks the slots of the pixels under its kernel window.
#pragma once

#include "arithmetic.hpp"

namespace ditto {

enum DigitHalf { LOW = 0, HIGH = 1, HALVES = 2 };

template <class C>
struct DigitEntry {
    typename C::template sint<5> digit;
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

template <class C>
struct Encoder {
    typedef Arithmetic<C> A;

    // Pixels of `channels` codes each, from index `skew` on of `current` (and of `previous`, where it is the reference),
    // into the slots from `position` on.
    static void encode(const typename A::byte* current, int skew, const typename A::byte* previous, int previous_skew,
                       bool difference, int pixels, int channels, int position, DigitLists<C>& lists,
                       EncodeCounters& counters) {
        const int words = ceil_divide(channels, C::lanes);
        typename C::template uint<C::word_bits + 1> filled[C::lanes][HALVES];
#pragma HLS ARRAY_PARTITION variable = filled complete dim = 0
    encode_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
        encode_words:
            for (int word = 0; word < words; ++word) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            encode_lanes:
                for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                    const int channel = word * C::lanes + lane;
                    const bool inside = channel < channels;
                    const int index = pixel * channels + channel;
                    typename A::difference d = 0;
                    if (inside) {
                        d = typename A::difference(typename A::code(current[skew + index]));
                        if (difference) d = typename A::difference(d - typename A::code(previous[previous_skew + index]));
                    }
                    typename A::digit digits[HALVES];
                    A::split(d, digits[HIGH], digits[LOW]);
                    for (int half = 0; half < HALVES; ++half) {
#pragma HLS UNROLL
                        const int before = word == 0 ? 0 : int(filled[lane][half]);
                        const bool sent = digits[half] != 0;
                        if (sent) {
                            DigitEntry<C>& entry = lists.entries[lane][half][(position + pixel) * words + before];
                            entry.digit = digits[half];
                            entry.word = word;
                        }
                        filled[lane][half] = before + sent;
                        if (word == words - 1) lists.counts[lane][half][position + pixel] = before + sent;
                        counters.digits += sent;
                    }
                    counters.elements += inside;
                    counters.zeros += inside && d == 0;
                    counters.narrow += inside && d != 0 && d >= -8 && d <= 7;
                }
                ++counters.words;
            }
        }
    }
};

}  // namespace ditto
