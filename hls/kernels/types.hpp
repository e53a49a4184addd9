// Number and memory types of the kernels, in two sets that give equal bits: exact widths (ap_int) for synthesis and
// native ones for fast C simulation of whole models.
#pragma once

#include <cstdint>
#include <type_traits>

#include <ap_int.h>
#include <hls_stream.h>

namespace ditto {

typedef uint32_t address_t;    // byte offset in a memory region
typedef uint16_t dimension_t;  // sizes of tensors and tiles: 16 bits, so that products of them take one DSP slice
typedef uint64_t count_t;      // what counters hold

constexpr int ceil_divide(int a, int b) { return (a + b - 1) / b; }

struct BitTypes {
    static constexpr bool packs_products = true;
    template <int N>
    using sint = ap_int<N>;
    template <int N>
    using uint = ap_uint<N>;
    template <int BYTES>
    using word = ap_uint<8 * BYTES>;

    template <int BITS>
    static ap_uint<8> get_byte(const ap_uint<BITS>& word, int i) {
#pragma HLS INLINE
        return word.range(8 * i + 7, 8 * i);
    }
    template <int BITS>
    static void set_byte(ap_uint<BITS>& word, int i, ap_uint<8> value) {
#pragma HLS INLINE
        word.range(8 * i + 7, 8 * i) = value;
    }
};

template <int BYTES>
struct NativeWord {
    uint8_t bytes[BYTES];
};

struct NativeTypes {
    static constexpr bool packs_products = false;

    template <int N>
    using sint = typename std::conditional<
        N <= 8, int8_t,
        typename std::conditional<N <= 16, int16_t,
                                  typename std::conditional<N <= 32, int32_t, int64_t>::type>::type>::type;
    template <int N>
    using uint = typename std::make_unsigned<sint<N>>::type;
    template <int BYTES>
    using word = NativeWord<BYTES>;

    template <int BYTES>
    static uint8_t get_byte(const NativeWord<BYTES>& word, int i) {
        return word.bytes[i];
    }
    template <int BYTES>
    static void set_byte(NativeWord<BYTES>& word, int i, uint8_t value) {
        word.bytes[i] = value;
    }
};

}  // namespace ditto
