// Compute unit: one core is `lanes` x `oc_tile` multipliers of a digit and a weight, a shift-and-add tree and the sums.
// A core works on one output pixel at a time; its lanes wait for each other once per pixel. With spatial differences a
// pixel's sums go on from those of the one before it. All cores multiply in one loop, and two of them share a copy of
// the weights, whose memories have two read ports.
#pragma once

#include "encoder.hpp"
#ifdef DITTO_BLACKBOX  // the multipliers are RTL: hls/build/verilog.py
#include "multiplier_columns.hpp"
#endif

namespace ditto {

// The output pixels of one core's block, none where it is idle, and where their windows lie in the encoded pixels.
struct OutputBlock {
    int output_rows, output_width;  // of the block
    int first_row, rows, width;     // encoded input rows: first_row may be negative (padding above the image)
    int kernel_height, kernel_width, stride_height, stride_width, pad_left;
    int lead_columns;                 // windows left of the first pixel of a row, whose sums are not stored
    bool chained_row, chained_block;  // sums go on from pixel to pixel of a row, or of the block
};

// Codes of the second operand, a word of oc_tile of them for every lane and address, in a copy for every two cores: the
// first C::uram_copies of them in UltraRAM, the others in block RAM.
template <class C>
struct WeightBanks {
    typedef typename Arithmetic<C>::weight weight;
    static constexpr int copies = ceil_divide(C::cores, 2), others = copies - C::uram_copies;
    weight in_uram[C::uram_copies > 0 ? C::uram_copies : 1][C::lanes][C::weight_depth][C::oc_tile];
    weight in_bram[others > 0 ? others : 1][C::lanes][C::weight_depth][C::oc_tile];

    void put(int lane, int address, int oc, weight x) {
#pragma HLS INLINE
        for (int copy = 0; copy < copies; ++copy) {
#pragma HLS UNROLL
            if (copy < C::uram_copies) {
                in_uram[copy][lane][address][oc] = x;
            } else {
                in_bram[copy - C::uram_copies][lane][address][oc] = x;
            }
        }
    }

    const weight* word(int copy, int lane, int address) const {
#pragma HLS INLINE
        return copy < C::uram_copies ? in_uram[copy][lane][address] : in_bram[copy - C::uram_copies][lane][address];
    }
};

// Where a chunk's words of weights are: `step` from one of `tiles` tiles of output channels to the next.
struct WeightTiles {
    int first, step, tiles;
};

// Sums of every core's block, tile by tile.
template <class C>
struct BlockSums {
    typename Arithmetic<C>::accumulator pixels[C::cores][C::accumulator_depth][C::oc_tile];
};

template <class C>
struct Tap {  // an input pixel under an output pixel's window, if it is inside the image
    typename C::template uint<C::position_bits> position;
    typename C::template uint<16> slot, weight;  // where its digits begin in a list, and the tap's weights in a bank
    bool inside, last_of_pixel, last;
};

template <class C>
struct Segment {  // the digits of one input pixel in one lane
    typename C::template uint<16> slot, weight;
    typename C::template uint<C::word_bits + 1> low, high;
    bool last;
};

template <class C>
struct Token {
    typename Arithmetic<C>::digit digit;
    bool high;
    typename C::template uint<16> weight;
};

struct ComputeCounters {
    count_t taps, cycles, products;  // of all cores
    count_t slowest;                 // the core that works longest
};

template <class C>
struct Compute {
    typedef Arithmetic<C> A;
    typedef typename C::template uint<16> total;

    // One core: the taps of all its output pixels, for all lanes.
    static void walk(const OutputBlock& block, int words, const WeightTiles& tiles, hls::stream<Tap<C>> taps[C::lanes],
                     count_t& count) {
    walk_tiles:
        for (int tile = 0; tile < tiles.tiles; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
            walk_tile(block, words, tiles.first + tile * tiles.step, taps, count);
        }
        Tap<C> end;
        end.position = end.slot = end.weight = 0;
        end.inside = end.last_of_pixel = false;
        end.last = true;
        send_tap(end, taps);
    }

    static void walk_tile(const OutputBlock& block, int words, int first_weight, hls::stream<Tap<C>> taps[C::lanes],
                          count_t& count) {
#pragma HLS INLINE
    walk_rows:
        for (int y = 0; y < block.output_rows; ++y) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
        walk_columns:
            for (int x = -block.lead_columns; x < block.output_width; ++x) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            walk_taps_y:
                for (int ky = 0; ky < block.kernel_height; ++ky) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
                walk_taps_x:
                    for (int kx = 0; kx < block.kernel_width; ++kx) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
                        const int row = y * block.stride_height + ky + block.first_row;
                        const int column = x * block.stride_width + kx - block.pad_left;
                        Tap<C> tap;
                        tap.inside = row >= 0 && row < block.rows && column >= 0 && column < block.width;
                        tap.position = tap.inside ? row * block.width + column : 0;
                        tap.slot = int(tap.position) * words;
                        tap.weight = first_weight + (ky * block.kernel_width + kx) * words;
                        tap.last_of_pixel = ky == block.kernel_height - 1 && kx == block.kernel_width - 1;
                        tap.last = false;
                        send_tap(tap, taps);
                        ++count;
                    }
                }
            }
        }
    }

    static void send_tap(const Tap<C>& tap, hls::stream<Tap<C>> taps[C::lanes]) {
#pragma HLS INLINE
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            taps[lane].write(tap);
        }
    }

    // One lane: for every output pixel, the taps that have digits, and the total of these.
    static void enumerate(int lane, const DigitLists<C>& lists, hls::stream<Tap<C>>& taps,
                          hls::stream<Segment<C>>& segments, hls::stream<total>& totals) {
        total sum = 0;
        bool more = true;
    enumerate_taps:
        while (more) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 9 * C::accumulator_depth
            const Tap<C> tap = taps.read();
            Segment<C> segment;
            more = !tap.last;
            segment.last = tap.last;
            segment.slot = tap.slot;
            segment.weight = tap.weight;
            segment.low = tap.inside ? int(lists.counts[lane][LOW][int(tap.position)]) : 0;
            segment.high = tap.inside ? int(lists.counts[lane][HIGH][int(tap.position)]) : 0;
            sum = total(sum + segment.low + segment.high);
            if (tap.last || segment.low != 0 || segment.high != 0) segments.write(segment);
            if (tap.last_of_pixel && !tap.last) {
                totals.write(sum);
                sum = 0;
            }
        }
    }

    // One lane: segments to single digits with the addresses of their weights.
    static void send(int lane, const DigitLists<C>& lists, hls::stream<Segment<C>>& segments,
                     hls::stream<Token<C>>& tokens) {
        Segment<C> segment = segments.read();
    send_segments:
        while (!segment.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::positions
            const int count = int(segment.low) + int(segment.high);
        send_digits:
            for (int i = 0; i < count; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const bool high = i >= int(segment.low);
                const int index = int(segment.slot) + (high ? i - int(segment.low) : i);
                const DigitEntry<C> entry = lists.entries[lane][high ? HIGH : LOW][index];
                Token<C> token;
                token.digit = entry.digit;
                token.high = high;
                token.weight = segment.weight + entry.word;
                tokens.write(token);
            }
            segment = segments.read();
        }
    }

    // All cores and lanes: every cycle one digit of each times oc_tile weights. A pixel takes the digits of its fullest
    // lane, at least 1. Its sums follow those of the pixel before it.
    static void multiply(hls::stream<Token<C>> tokens[C::cores][C::lanes],
                         hls::stream<total> totals[C::cores][C::lanes], const WeightBanks<C>& weights,
                         const OutputBlock blocks[C::cores], int tiles, BlockSums<C>& sums, count_t cycles[C::cores],
                         count_t& products) {
        typename A::accumulator pixel_sums[C::cores][C::oc_tile];
        total lane_totals[C::cores][C::lanes];
        int column[C::cores], pixel[C::cores], pixels[C::cores], stored[C::cores];
        int cycle[C::cores], last_cycle[C::cores];
#pragma HLS ARRAY_PARTITION variable = pixel_sums complete dim = 0
#pragma HLS ARRAY_PARTITION variable = lane_totals complete dim = 0
#pragma HLS ARRAY_PARTITION variable = column complete
#pragma HLS ARRAY_PARTITION variable = pixel complete
#pragma HLS ARRAY_PARTITION variable = pixels complete
#pragma HLS ARRAY_PARTITION variable = stored complete
#pragma HLS ARRAY_PARTITION variable = cycle complete
#pragma HLS ARRAY_PARTITION variable = last_cycle complete
        bool busy = false;
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            pixel[core] = stored[core] = cycle[core] = 0;
            column[core] = -blocks[core].lead_columns;
            pixels[core] = blocks[core].output_rows * blocks[core].output_width;
            busy = busy || pixels[core] > 0;
        }
    multiply_cycles:
        while (busy) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::digit_depth
            busy = false;
        multiply_cores:
            for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
                if (stored[core] == tiles * pixels[core]) continue;
                if (cycle[core] == 0) {
                    const OutputBlock& block = blocks[core];
                    const bool row_starts = column[core] == -block.lead_columns;
                    const bool block_starts = row_starts && pixel[core] == 0;
                    const bool clear = block.chained_block ? block_starts : block.chained_row ? row_starts : true;
                    start_pixel(totals[core], clear, lane_totals[core], last_cycle[core], pixel_sums[core]);
                }
                typename A::difference digits[C::lanes];
                typename C::template uint<16> addresses[C::lanes];
            multiply_lanes:
                for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                    digits[lane] = 0;
                    addresses[lane] = 0;
                    if (cycle[core] < int(lane_totals[core][lane])) {
                        const Token<C> token = tokens[core][lane].read();
                        const typename A::difference digit = token.digit;
                        digits[lane] = token.high ? typename A::difference(digit << formats::RADIX_BITS) : digit;
                        addresses[lane] = token.weight;
                        products += C::oc_tile;
                    }
                }
                add_products(weights, core / 2, addresses, digits, pixel_sums[core]);
                ++cycles[core];
                if (cycle[core] == last_cycle[core]) {
                    if (column[core] >= 0) {
                        for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                            sums.pixels[core][stored[core]][oc] = pixel_sums[core][oc];
                        }
                        ++stored[core];
                        pixel[core] = pixel[core] + 1 == pixels[core] ? 0 : pixel[core] + 1;
                    }
                    const bool row_ends = column[core] + 1 == blocks[core].output_width;
                    column[core] = row_ends ? -blocks[core].lead_columns : column[core] + 1;
                    cycle[core] = 0;
                } else {
                    ++cycle[core];
                }
                busy = busy || stored[core] < tiles * pixels[core];
            }
        }
    }

    static void start_pixel(hls::stream<total> totals[C::lanes], bool clear, total lane_totals[C::lanes],
                            int& last_cycle, typename A::accumulator pixel_sums[C::oc_tile]) {
#pragma HLS INLINE
        last_cycle = 0;
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            lane_totals[lane] = totals[lane].read();
            if (int(lane_totals[lane]) - 1 > last_cycle) last_cycle = int(lane_totals[lane]) - 1;
        }
        for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
            if (clear) pixel_sums[oc] = 0;
        }
    }

    // The products of the lanes' digits, 0 where there is none, with oc_tile weights each, into the sums.
    static void add_products(const WeightBanks<C>& weights, int copy,
                             const typename C::template uint<16> addresses[C::lanes],
                             const typename A::difference digits[C::lanes],
                             typename A::accumulator pixel_sums[C::oc_tile]) {
#pragma HLS INLINE
        if (!C::packs_products) {  // the same sums, quicker to simulate
            for (int lane = 0; lane < C::lanes; ++lane) {
                const typename A::accumulator digit = digits[lane];
                if (digit == 0) continue;
                const typename A::weight* words = weights.word(copy, lane, int(addresses[lane]));
                for (int oc = 0; oc < C::oc_tile; ++oc) pixel_sums[oc] = pixel_sums[oc] + words[oc] * digit;
            }
            return;
        }
#ifdef DITTO_BLACKBOX
        constexpr int digit = formats::DIFFERENCE_BITS, weight = formats::WEIGHT_BITS, sum = formats::SUM_BITS;
        ap_uint<digit * C::lanes> all_digits;
        ap_uint<weight * C::lanes * C::oc_tile> all_weights;
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            all_digits.range(digit * lane + digit - 1, digit * lane) = digits[lane];
            for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                const int place = weight * (lane * C::oc_tile + oc);
                all_weights.range(place + weight - 1, place) = weights.word(copy, lane, int(addresses[lane]))[oc];
            }
        }
        const ap_uint<sum * C::oc_tile> products = ditto_multiplier_columns(all_digits, all_weights);
        for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
            const typename A::accumulator of_column = products.range(sum * oc + sum - 1, sum * oc);
            pixel_sums[oc] = pixel_sums[oc] + of_column;
        }
#else
    multiply_pairs:
        for (int oc = 0; oc < C::oc_tile; oc += 2) {
#pragma HLS UNROLL
            typename A::weight a[C::lanes], b[C::lanes];
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                a[lane] = weights.word(copy, lane, int(addresses[lane]))[oc];
                b[lane] = weights.word(copy, lane, int(addresses[lane]))[oc + 1];
            }
            typename A::accumulator sum_a, sum_b;
            A::multiply_lanes(a, b, digits, sum_a, sum_b);
            pixel_sums[oc] = pixel_sums[oc] + sum_a;
            pixel_sums[oc + 1] = pixel_sums[oc + 1] + sum_b;
        }
#endif
    }

    // One block of output pixels per core: lists of digits and tiles of weights to int32 sums.
    static void run(const DigitLists<C> lists[C::cores], const WeightBanks<C>& weights,
                    const OutputBlock blocks[C::cores], int words, const WeightTiles& tiles, BlockSums<C>& sums,
                    ComputeCounters& counters) {
#pragma HLS DATAFLOW
        hls::stream<Tap<C>> taps[C::cores][C::lanes];
        hls::stream<Segment<C>> segments[C::cores][C::lanes];
        hls::stream<Token<C>> tokens[C::cores][C::lanes];
        hls::stream<total> totals[C::cores][C::lanes];
        // A pixel's segments all have to fit: none of its digits is multiplied before its total is there.
#pragma HLS STREAM variable = segments depth = C::queued_segments
#pragma HLS STREAM variable = taps depth = C::queued_taps
#pragma HLS STREAM variable = tokens depth = C::queued_tokens
#pragma HLS STREAM variable = totals depth = C::queued_totals
        count_t tap_cycles[C::cores] = {}, cycles[C::cores] = {}, products = 0;
#pragma HLS ARRAY_PARTITION variable = tap_cycles complete
#pragma HLS ARRAY_PARTITION variable = cycles complete
    run_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            walk(blocks[core], words, tiles, taps[core], tap_cycles[core]);
        run_lanes:
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                enumerate(lane, lists[core], taps[core][lane], segments[core][lane], totals[core][lane]);
                send(lane, lists[core], segments[core][lane], tokens[core][lane]);
            }
        }
        multiply(tokens, totals, weights, blocks, tiles.tiles, sums, cycles, products);
        tally(tap_cycles, cycles, products, counters);
#ifndef __SYNTHESIS__
        C::observe(lists, weights, blocks, words, tiles, sums, tap_cycles, cycles);
#endif
    }

    static void tally(const count_t taps[C::cores], const count_t cycles[C::cores], count_t products,
                      ComputeCounters& counters) {
        count_t slowest = 0;
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            const count_t longest = taps[core] > cycles[core] ? taps[core] : cycles[core];
            if (longest > slowest) slowest = longest;
            counters.taps += taps[core];
            counters.cycles += cycles[core];
        }
        counters.slowest += slowest;
        counters.products += products;
    }
};

}  // namespace ditto
