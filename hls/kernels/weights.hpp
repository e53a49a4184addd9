// Weights, or an attention product's second operand, into the weight banks.
#pragma once

#include "compute.hpp"
#include "product.hpp"

namespace ditto {

template <class C>
struct WeightLoader {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef Tiling<C> T;
    typedef typename M::word word;

    // All weights of a pass, or of one phase's chunk of it. Adds beats, and cycles, which are more where codes are
    // transposed.
    static void load(const word* weights, const word* activations, const word* state, const Product& p,
                     const Phase& phase, WeightBanks<C>& banks, count_t& beats, count_t& cycles) {
        const count_t before = beats;
        const int first = p.resident ? 0 : phase.chunk, end = p.resident ? T::chunks(p) : phase.chunk + 1;
    load_tiles:
        for (int tile = 0; tile < phase.tiles; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
        load_chunks:
            for (int chunk = first; chunk < end; ++chunk) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
                const int address = T::bank_address(p, tile, chunk);
                if (p.layout == PACKED) {
                    load_packed(weights, p, phase.first_tile + tile, chunk, address, banks, beats);
                } else if (p.weights_in_state) {
                    load_codes(state, p, phase.first_tile + tile, chunk, address, banks, beats, cycles);
                } else {
                    load_codes(activations, p, phase.first_tile + tile, chunk, address, banks, beats, cycles);
                }
            }
        }
        cycles += beats - before;
    }

    // A lane's word, the weights of a tile's output channels, is a row of whole beats.
    static void load_packed(const word* weights, const Product& p, int tile, int chunk, int address,
                            WeightBanks<C>& banks, count_t& beats) {
        static_assert(C::oc_tile % C::bus_bytes == 0, "a word of weights is a whole number of beats");
        const int in_beat = 8 * C::bus_bytes / p.weight_bits, row_beats = ceil_divide(C::oc_tile, in_beat);
        const int taps = p.kernel_height * p.kernel_width, tile_words = taps * ceil_divide(p.channels, C::lanes);
        const int before = chunk * taps * (p.chunk_channels / C::lanes);
        address_t beat = p.weights / C::bus_bytes + address_t(tile * tile_words + before) * C::lanes * row_beats;
        const int words = T::bank_words(p, chunk);
    load_packed_words:
        for (int index = 0; index < words; ++index) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::weight_depth
        load_packed_lanes:
            for (int lane = 0; lane < C::lanes; ++lane) {
            load_packed_beats:
                for (int oc = 0; oc < C::oc_tile; oc += in_beat) {
#pragma HLS PIPELINE II = 1
                    const word w = weights[beat++];
                    for (int i = 0; i < 8 * C::bus_bytes / formats::LEAST_WEIGHT_BITS; ++i) {
#pragma HLS UNROLL
                        if (i < in_beat && oc + i < C::oc_tile)
                            banks.put(lane, address + index, oc + i, weight(w, i, p.weight_bits));
                    }
                    ++beats;
                }
            }
        }
    }

    // Weight i of a beat, the first of a byte in its lowest bits.
    static typename A::weight weight(const word& w, int i, int bits) {
#pragma HLS INLINE
        const int field = (int(C::get_byte(w, i * bits / 8)) >> (i * bits % 8)) & ((1 << bits) - 1);
        const int sign = 1 << (bits - 1);
        return typename A::weight((field ^ sign) - sign);
    }

    // An attention product's second operand.
    static void load_codes(const word* memory, const Product& p, int tile, int chunk, int address,
                           WeightBanks<C>& banks, count_t& beats, count_t& cycles) {
        if (p.layout == ROWS) {
            count_t turned = 0;
            load_rows(memory, p, tile, chunk, address, T::outputs_of(p, tile), T::chunk_size(p, chunk), banks, beats,
                      turned);
            cycles += turned;
        } else {
            load_columns(memory, p, tile, chunk, address, banks, beats);
        }
    }

    // Codes (oc, k) in rows of k: a tile's rows are read, then turned into words of oc.
    static void load_rows(const word* memory, const Product& p, int tile, int chunk, int address, int outputs, int size,
                          WeightBanks<C>& banks, count_t& beats, count_t& cycles) {
#pragma HLS DATAFLOW
        typename M::words rows;
#pragma HLS STREAM variable = rows depth = 64
        read_rows(memory, p, tile, chunk, outputs, size, rows, beats);
        turn_rows(rows, outputs, size, address, banks, cycles);
    }

    static void read_rows(const word* memory, const Product& p, int tile, int chunk, int outputs, int size,
                          typename M::words& rows, count_t& beats) {
    read_rows_loop:
        for (int oc = 0; oc < outputs; ++oc) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::oc_tile
            const address_t row = p.weights + address_t(tile * C::oc_tile + oc) * p.weight_pitch;
            M::read(memory, row + chunk * p.chunk_channels, size, rows, beats);
        }
    }

    static void turn_rows(typename M::words& rows, int outputs, int size, int address, WeightBanks<C>& banks,
                          count_t& cycles) {
        word buffer[C::oc_tile][ceil_divide(C::staging_depth, C::bus_bytes)];
#pragma HLS ARRAY_PARTITION variable = buffer complete dim = 1
#pragma HLS BIND_STORAGE variable = buffer type = ram_2p impl = lutram
    turn_rows_in:
        for (int oc = 0; oc < outputs; ++oc) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::oc_tile
        turn_rows_words:
            for (int i = 0; i < M::words_of(size); ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::staging_depth / C::bus_bytes
                buffer[oc][i] = rows.read();
            }
        }
    turn_rows_out:
        for (int k = 0; k < size; k += C::lanes) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::staging_depth / C::lanes
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                const int at = k + lane;
                for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                    if (oc < outputs && at < size) {
                        const word& w = buffer[oc][at / C::bus_bytes];
                        banks.put(lane, address + k / C::lanes, oc,
                                  typename A::weight(C::get_byte(w, at % C::bus_bytes)));
                    }
                }
            }
            ++cycles;
        }
    }

    // Codes (oc, k) in columns: a run is a word.
    static void load_columns(const word* memory, const Product& p, int tile, int chunk, int address,
                             WeightBanks<C>& banks, count_t& beats) {
        const int outputs = T::outputs_of(p, tile), size = T::chunk_size(p, chunk), first = chunk * p.chunk_channels;
    load_columns_runs:
        for (int k = 0; k < size; ++k) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::staging_depth
            typename A::byte column[C::oc_tile];
#pragma HLS ARRAY_PARTITION variable = column complete
            M::load(memory, p.weights + address_t(first + k) * p.weight_pitch + tile * C::oc_tile, outputs, column,
                    beats);
            for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                if (oc < outputs) banks.put(k % C::lanes, address + k / C::lanes, oc, typename A::weight(column[oc]));
            }
        }
    }
};

}  // namespace ditto
