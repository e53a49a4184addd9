// Compute unit: one core is `lanes` x `oc_tile` multipliers of a digit and a weight, a shift-and-add tree and the sums.
// A core works on one output pixel at a time; its lanes wait for each other once per pixel. With spatial differences a
// pixel's sums go on from those of the one before it. All cores multiply in one loop, and two of them share a copy of
// the weights, whose memories have two read ports.
#pragma once

#include "digits.hpp"
#ifdef DITTO_BLACKBOX  // the multipliers are RTL: hls/build/verilog.py
#include "multiplier_columns.hpp"
#endif

namespace ditto {

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

// Sums of every core's block, tile by tile.
template <class C>
struct BlockSums {
    typename Arithmetic<C>::accumulator pixels[C::cores][C::accumulator_depth][C::oc_tile];
};

// What a core did, and all of them.
struct CoreCounters {
    count_t cycles, products;
};

struct ComputeCounters {
    count_t taps, cycles, products;  // of all cores
    count_t slowest;                 // the core that works longest
};

// A core on its way through the pixels of its block, tile by tile.
template <class C>
struct Walker {
    typedef typename Arithmetic<C>::accumulator accumulator;
    typedef typename C::template uint<16> total;
    accumulator sums[C::oc_tile];
    total lane_totals[C::lanes];
    int column, pixel, pixels, stored, end, cycle, last_cycle;

    void start(const OutputBlock& block, int tiles) {
#pragma HLS INLINE
        column = -block.lead_columns;
        pixels = block.output_rows * block.output_width;
        pixel = stored = cycle = last_cycle = 0;
        end = tiles * pixels;
    }

    bool busy() const {
#pragma HLS INLINE
        return stored < end;
    }
};

template <class C>
struct Compute {
    typedef Arithmetic<C> A;
    typedef Digits<C> D;
    typedef typename D::taps_t taps_t;
    typedef typename D::segments_t segments_t;
    typedef typename D::tokens_t tokens_t;
    typedef typename D::totals_t totals_t;
    typedef typename A::accumulator accumulator;

    static constexpr int pairs = C::cores / 2, uram_pairs = C::uram_copies < pairs ? C::uram_copies : pairs;

    // The two cores of a copy of the weights: every cycle one digit of each lane times oc_tile weights. A pixel takes
    // the digits of its fullest lane, at least 1. Its sums follow those of the pixel before it.
    static void multiply(tokens_t tokens_a[C::lanes], tokens_t tokens_b[C::lanes], totals_t totals_a[C::lanes],
                         totals_t totals_b[C::lanes],
                         const typename A::weight weights[C::lanes][C::weight_depth][C::oc_tile],
                         const OutputBlock& block_a, const OutputBlock& block_b, const WeightTiles& tiles,
                         accumulator sums_a[C::accumulator_depth][C::oc_tile],
                         accumulator sums_b[C::accumulator_depth][C::oc_tile], hls::stream<CoreCounters>& counted_a,
                         hls::stream<CoreCounters>& counted_b) {
        Walker<C> a, b;
#pragma HLS ARRAY_PARTITION variable = a.sums complete
#pragma HLS ARRAY_PARTITION variable = b.sums complete
#pragma HLS ARRAY_PARTITION variable = a.lane_totals complete
#pragma HLS ARRAY_PARTITION variable = b.lane_totals complete
        a.start(block_a, tiles.tiles);
        b.start(block_b, tiles.tiles);
        CoreCounters of_a, of_b;
        of_a.cycles = of_a.products = of_b.cycles = of_b.products = 0;
    multiply_cycles:
        while (a.busy() || b.busy()) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::digit_depth
            if (a.busy()) cycle(block_a, tokens_a, totals_a, weights, a, sums_a, of_a);
            if (b.busy()) cycle(block_b, tokens_b, totals_b, weights, b, sums_b, of_b);
        }
        counted_a.write(of_a);
        counted_b.write(of_b);
    }

    // A core that shares its copy of the weights with none.
    static void multiply_alone(tokens_t tokens[C::lanes], totals_t totals[C::lanes],
                               const typename A::weight weights[C::lanes][C::weight_depth][C::oc_tile],
                               const OutputBlock& block, const WeightTiles& tiles,
                               accumulator sums[C::accumulator_depth][C::oc_tile],
                               hls::stream<CoreCounters>& counted) {
        Walker<C> at;
#pragma HLS ARRAY_PARTITION variable = at.sums complete
#pragma HLS ARRAY_PARTITION variable = at.lane_totals complete
        at.start(block, tiles.tiles);
        CoreCounters counters;
        counters.cycles = counters.products = 0;
    multiply_alone_cycles:
        while (at.busy()) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::digit_depth
            cycle(block, tokens, totals, weights, at, sums, counters);
        }
        counted.write(counters);
    }

    static void cycle(const OutputBlock& block, tokens_t tokens[C::lanes], totals_t totals[C::lanes],
                      const typename A::weight weights[C::lanes][C::weight_depth][C::oc_tile], Walker<C>& at,
                      accumulator sums[C::accumulator_depth][C::oc_tile], CoreCounters& counters) {
#pragma HLS INLINE
        if (at.cycle == 0) {
            const bool row_starts = at.column == -block.lead_columns, block_starts = row_starts && at.pixel == 0;
            start_pixel(totals, block.chained_block ? block_starts : block.chained_row ? row_starts : true, at);
        }
        typename A::difference digits[C::lanes];
        typename C::template uint<16> addresses[C::lanes];
#pragma HLS ARRAY_PARTITION variable = digits complete
#pragma HLS ARRAY_PARTITION variable = addresses complete
    cycle_lanes:
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            digits[lane] = 0;
            addresses[lane] = 0;
            if (at.cycle < int(at.lane_totals[lane])) {
                const Token<C> token = tokens[lane].read();
                const typename A::difference digit = token.digit;
                digits[lane] = token.high ? typename A::difference(digit << formats::RADIX_BITS) : digit;
                addresses[lane] = token.weight;
                counters.products += C::oc_tile;
            }
        }
        add_products(weights, addresses, digits, at.sums);
        ++counters.cycles;
        if (at.cycle != at.last_cycle) {
            ++at.cycle;
            return;
        }
        at.cycle = 0;
        if (at.column >= 0) {
            for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                sums[at.stored][oc] = at.sums[oc];
            }
            ++at.stored;
            at.pixel = at.pixel + 1 == at.pixels ? 0 : at.pixel + 1;
        }
        at.column = at.column + 1 == block.output_width ? -block.lead_columns : at.column + 1;
    }

    static void start_pixel(totals_t totals[C::lanes], bool clear, Walker<C>& at) {
#pragma HLS INLINE
        at.last_cycle = 0;
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            at.lane_totals[lane] = totals[lane].read();
            if (int(at.lane_totals[lane]) - 1 > at.last_cycle) at.last_cycle = int(at.lane_totals[lane]) - 1;
        }
        for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
            if (clear) at.sums[oc] = 0;
        }
    }

    // The products of the lanes' digits, 0 where there is none, with oc_tile weights each, into the sums.
    static void add_products(const typename A::weight weights[C::lanes][C::weight_depth][C::oc_tile],
                             const typename C::template uint<16> addresses[C::lanes],
                             const typename A::difference digits[C::lanes], accumulator pixel_sums[C::oc_tile]) {
#pragma HLS INLINE
        if (!C::packs_products) {  // the same sums, quicker to simulate
        simulate_lanes:
            for (int lane = 0; lane < C::lanes; ++lane) {
                const typename A::accumulator digit = digits[lane];
                if (digit == 0) continue;
                const typename A::weight* words = weights[lane][int(addresses[lane])];
            simulate_products:
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
                all_weights.range(place + weight - 1, place) = weights[lane][int(addresses[lane])][oc];
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
                a[lane] = weights[lane][int(addresses[lane])][oc];
                b[lane] = weights[lane][int(addresses[lane])][oc + 1];
            }
            typename A::accumulator sum_a, sum_b;
            A::multiply_lanes(a, b, digits, sum_a, sum_b);
            pixel_sums[oc] = pixel_sums[oc] + sum_a;
            pixel_sums[oc + 1] = pixel_sums[oc + 1] + sum_b;
        }
#endif
    }

    // One block of output pixels per core: lists of digits and tiles of weights to int32 sums. Cores 2 i and 2 i + 1
    // share copy i of the weights, whose memories have two read ports; of an odd number the last one has its own.
    static void run(const DigitLists<C>& lists, const WeightBanks<C>& banks, const OutputBlock blocks[C::cores],
                    int words, const WeightTiles& tiles, BlockSums<C>& sums, hls::stream<ComputeCounters>& counters) {
#pragma HLS DATAFLOW
        taps_t taps[C::cores][C::lanes];
        segments_t segments[C::cores][C::lanes];
        tokens_t tokens[C::cores][C::lanes];
        totals_t totals[C::cores][C::lanes];
        hls::stream<count_t> walked[C::cores];
        hls::stream<CoreCounters> multiplied[C::cores];
        // A pixel's segments all have to fit: none of its digits is multiplied before its total is there.
#pragma HLS STREAM variable = segments depth = C::queued_segments
#pragma HLS STREAM variable = taps depth = C::queued_taps
#pragma HLS STREAM variable = tokens depth = C::queued_tokens
#pragma HLS STREAM variable = totals depth = C::queued_totals
    run_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            D::walk(blocks[core], words, tiles, taps[core], walked[core]);
        run_lanes:
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                D::enumerate(lists.counts[core][lane], taps[core][lane], segments[core][lane], totals[core][lane]);
                D::send(lists.entries[core][lane], segments[core][lane], tokens[core][lane]);
            }
        }
    pairs_in_uram:
        for (int copy = 0; copy < uram_pairs; ++copy) {
#pragma HLS UNROLL
            multiply(tokens[2 * copy], tokens[2 * copy + 1], totals[2 * copy], totals[2 * copy + 1],
                     banks.in_uram[copy], blocks[2 * copy], blocks[2 * copy + 1], tiles, sums.pixels[2 * copy],
                     sums.pixels[2 * copy + 1], multiplied[2 * copy], multiplied[2 * copy + 1]);
        }
    pairs_in_bram:
        for (int copy = uram_pairs; copy < pairs; ++copy) {
#pragma HLS UNROLL
            multiply(tokens[2 * copy], tokens[2 * copy + 1], totals[2 * copy], totals[2 * copy + 1],
                     banks.in_bram[copy - C::uram_copies], blocks[2 * copy], blocks[2 * copy + 1], tiles,
                     sums.pixels[2 * copy], sums.pixels[2 * copy + 1], multiplied[2 * copy], multiplied[2 * copy + 1]);
        }
    last_in_uram:
        for (int core = 2 * pairs; core < C::cores && pairs < C::uram_copies; ++core) {
#pragma HLS UNROLL
            multiply_alone(tokens[core], totals[core], banks.in_uram[pairs], blocks[core], tiles, sums.pixels[core],
                           multiplied[core]);
        }
    last_in_bram:
        for (int core = 2 * pairs; core < C::cores && pairs >= C::uram_copies; ++core) {
#pragma HLS UNROLL
            multiply_alone(tokens[core], totals[core], banks.in_bram[pairs - C::uram_copies], blocks[core], tiles,
                           sums.pixels[core], multiplied[core]);
        }
        tally(walked, multiplied, counters);
    }

    static void tally(hls::stream<count_t> walked[C::cores], hls::stream<CoreCounters> multiplied[C::cores],
                      hls::stream<ComputeCounters>& counters) {
        ComputeCounters all;
        all.taps = all.cycles = all.products = all.slowest = 0;
    tally_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            const count_t taps = walked[core].read();
            const CoreCounters of_core = multiplied[core].read();
            const count_t longest = taps > of_core.cycles ? taps : of_core.cycles;
            if (longest > all.slowest) all.slowest = longest;
            all.taps += taps;
            all.cycles += of_core.cycles;
            all.products += of_core.products;
        }
        counters.write(all);
    }
};

}  // namespace ditto
