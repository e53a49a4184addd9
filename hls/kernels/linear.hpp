// Every linear operator: y = y_ref + W . (x - x_ref), as a loop nest over tiles.
//
//   for each weight set:  load the set;  for each phase (round, chunk):  encode || compute || finish
//
// A set is a pass where all its chunks fit the weight banks together ("resident"), else one phase's chunk. The stages
// of phases that follow each other overlap, with two buffers between two stages.
#pragma once

#include "operand.hpp"
#include "result.hpp"
#include "weights.hpp"

namespace ditto {

struct LinearCounters {
    EncodeCounters encode;
    ComputeCounters compute;
    count_t vectors;
    count_t weight_beats, input_beats, previous_beats, kept_beats, accumulator_reads, accumulator_writes, output_beats;
    count_t parameter_beats, merged_beats;  // merged: written beats that had to be read first
    count_t dense_products, cycles;
    count_t lean_cycles, keeping_beats;  // if nothing were kept for a next step; what keeping takes of DRAM's traffic
};

// What stays on chip from phase to phase: the weights, and the sums of earlier chunks, also those of rows of codes.
template <class C>
struct LinearBuffers {
    WeightBanks<C> weights;
    BlockSums<C> totals;
    RowSums<C> row_totals;
};

// When the stages of the last phases end: a model of the overlap, in cycles.
struct Timeline {
    count_t encoded, computed, computed_before, finished, finished_before;

    // A stage begins when its input is there, when it is free, and when one of the two buffers behind it is. Sums are
    // there `fill` cycles after the compute unit is free.
    void add(count_t encode, count_t compute, count_t finish, int fill) {
        encoded = (encoded > computed_before ? encoded : computed_before) + encode;
        count_t start = encoded > computed ? encoded : computed;
        if (finished_before > start) start = finished_before;
        computed_before = computed;
        computed = start + compute;
        finished_before = finished;
        finished = (computed + fill > finished ? computed + fill : finished) + finish;
    }
};

template <class C>
struct Linear {
    typedef Tiling<C> T;
    typedef typename Memory<C>::word word;

    // Output-channel tiles [first_tile, end_tile): all of them, or those of a channel group. `state` and `sums` are the
    // same region, on two ports: kept operands, and kept accumulators.
    static void run(const word* weights, const word* parameters, const word* activations, word* activations_out,
                    const word* state, word* state_out, const word* sums, word* sums_out, const Product& p,
                    int first_tile, int end_tile, LinearBuffers<C>& buffers, LinearCounters& counters) {
    run_groups:
        for (int sample = 0; sample < p.samples; sample += C::sample_groups) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
            const int samples = p.samples - sample < C::sample_groups ? p.samples - sample : C::sample_groups;
            const int all = ceil_divide(samples * T::blocks(p), C::cores) * T::chunks(p), phases = p.resident ? all : 1;
        run_passes:
            for (int tile = first_tile; tile < end_tile; tile += p.pass_tiles) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
                const int pass = end_tile - tile < p.pass_tiles ? end_tile - tile : p.pass_tiles;
                const Phase start = {sample, samples, tile, pass, 0, 0, tile + pass == T::tiles(p), false};
            run_sets:
                for (int first = 0; first < all; first += phases) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
                    const Phase phase = T::phase_at(p, start, first);
                    count_t loading = 0;
                    WeightLoader<C>::load(weights, activations, state, p, phase, buffers.weights, counters.weight_beats,
                                          loading);
                    counters.cycles += loading;
                    counters.lean_cycles += loading;
                    run_set(parameters, activations, activations_out, state, state_out, sums, sums_out, p, phase,
                            phases, buffers.weights, buffers.totals, buffers.row_totals, counters);
                }
            }
        }
        if (p.finish) {
            counters.dense_products += count_t(p.samples) * p.output_height * p.output_width * p.kernel_height *
                                       p.kernel_width * p.channels * (end_tile - first_tile) * C::oc_tile;
        }
    }

    // The rounds and chunks that use one weight set, and what they took.
    static void run_set(const word* parameters, const word* activations, word* activations_out, const word* state,
                        word* state_out, const word* sums_in, word* sums_out, const Product& p, const Phase& first,
                        int phases, const WeightBanks<C>& banks, BlockSums<C>& totals, RowSums<C>& row_totals,
                        LinearCounters& counters) {
#pragma HLS DATAFLOW
        hls::stream<OperandCounters> encoded("encoded");
        hls::stream<ComputeCounters> computed("computed");
        hls::stream<ResultCounters> finished("finished");
#pragma HLS STREAM variable = encoded depth = 4
#pragma HLS STREAM variable = computed depth = 4
#pragma HLS STREAM variable = finished depth = 4
        run_phases(parameters, activations, activations_out, state, state_out, sums_in, sums_out, p, first, phases,
                   banks, totals, row_totals, encoded, computed, finished);
        tally(phases, encoded, computed, finished, counters);
    }

    static void run_phases(const word* parameters, const word* activations, word* activations_out, const word* state,
                           word* state_out, const word* sums_in, word* sums_out, const Product& p, const Phase& first,
                           int phases, const WeightBanks<C>& banks, BlockSums<C>& totals, RowSums<C>& row_totals,
                           hls::stream<OperandCounters>& encoded, hls::stream<ComputeCounters>& computed,
                           hls::stream<ResultCounters>& finished) {
    run_phases_loop:
        for (int i = 0; i < phases; ++i) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            DigitLists<C> lists;
            BlockSums<C> sums;
#pragma HLS ARRAY_PARTITION variable = lists.entries complete dim = 1
#pragma HLS ARRAY_PARTITION variable = lists.entries complete dim = 2
#pragma HLS ARRAY_PARTITION variable = lists.entries complete dim = 3
#pragma HLS ARRAY_PARTITION variable = lists.counts complete dim = 1
#pragma HLS ARRAY_PARTITION variable = lists.counts complete dim = 2
#pragma HLS ARRAY_PARTITION variable = lists.counts complete dim = 3
#pragma HLS BIND_STORAGE variable = lists.entries type = ram_2p impl = bram
#pragma HLS BIND_STORAGE variable = lists.counts type = ram_2p impl = lutram
#pragma HLS ARRAY_PARTITION variable = sums.pixels complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = sums.pixels complete dim = 3
#pragma HLS BIND_STORAGE variable = sums.pixels type = ram_2p impl = lutram
            typename Operand<C>::sums row_sums("row_sums");  // past the compute unit: as deep as three phases' rows
#pragma HLS STREAM variable = row_sums depth = 3 * C::cores * C::accumulator_depth
#pragma HLS BIND_STORAGE variable = row_sums type = fifo impl = bram
            encode(activations, state, state_out, p, first, i, lists, row_sums, encoded);
            compute(p, first, i, lists, banks, sums, computed);
            finish(parameters, activations_out, sums_in, sums_out, p, first, i, sums, row_sums, totals, row_totals,
                   finished);
        }
    }

    static void encode(const word* activations, const word* state, word* state_out, const Product& p,
                       const Phase& first, int index, DigitLists<C>& lists, typename Operand<C>::sums& row_sums,
                       hls::stream<OperandCounters>& counters) {
        Operand<C>::encode(activations, state, state_out, p, T::phase_at(p, first, index), lists, row_sums, counters);
    }

    static void compute(const Product& p, const Phase& start, int index, const DigitLists<C>& lists,
                        const WeightBanks<C>& banks, BlockSums<C>& sums, hls::stream<ComputeCounters>& counters) {
        const Phase phase = T::phase_at(p, start, index);
        const int words = ceil_divide(T::chunk_size(p, phase.chunk), C::lanes);
        Block of_cores[C::cores];
#pragma HLS ARRAY_PARTITION variable = of_cores complete
        T::blocks_of(p, phase, of_cores);
        OutputBlock blocks[C::cores];
#pragma HLS ARRAY_PARTITION variable = blocks complete
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            const Block& block = of_cores[core];
            const OutputBlock of_core = {
                block.rows,      p.output_width, block.first - block.low, block.high - block.low, T::encoded_width(p),
                p.kernel_height, p.kernel_width, p.stride_height,         p.stride_width,         p.pad_left,
                p.lead_columns,  p.spatial,      T::chained_block(p)};
            blocks[core] = of_core;
        }
        const int first = T::bank_address(p, 0, phase.chunk), step = T::bank_address(p, 1, phase.chunk) - first;
        const WeightTiles tiles = {first, step, phase.tiles};
        Compute<C>::run(lists, banks, blocks, words, tiles, sums, counters);
#ifdef DITTO_OBSERVED  // by a test (tests/hls/rtl/record.cpp)
        C::observe(lists, banks, blocks, words, tiles, sums);
#endif
    }

    static void finish(const word* parameters, word* activations_out, const word* sums_in, word* sums_out,
                       const Product& p, const Phase& first, int index, const BlockSums<C>& sums,
                       typename Operand<C>::sums& row_sums, BlockSums<C>& totals, RowSums<C>& row_totals,
                       hls::stream<ResultCounters>& counters) {
        Result<C>::finish(parameters, activations_out, sums_in, sums_out, p, T::phase_at(p, first, index), sums,
                          row_sums, totals, row_totals, counters);
    }

    // Of all phases, which overlap.
    static void tally(int phases, hls::stream<OperandCounters>& encoded, hls::stream<ComputeCounters>& computed,
                      hls::stream<ResultCounters>& finished, LinearCounters& counters) {
        Timeline timeline = {}, lean = {};
    tally_phases:
        for (int i = 0; i < phases; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            add(encoded.read(), computed.read(), finished.read(), timeline, lean, counters);
        }
        counters.cycles += timeline.finished;
        counters.lean_cycles += lean.finished;
    }

    static void add(const OperandCounters& encoded, const ComputeCounters& computed, const ResultCounters& finished,
                    Timeline& timeline, Timeline& lean, LinearCounters& counters) {
        timeline.add(encoded.cycles, computed.slowest, finished.cycles, C::fill_cycles);
        lean.add(encoded.lean_cycles, computed.slowest, finished.lean_cycles, C::fill_cycles);
        counters.keeping_beats +=
            encoded.kept_beats + encoded.merged_beats + finished.accumulator_writes + finished.kept_merged;
        counters.encode.words += encoded.encode.words;
        counters.encode.elements += encoded.encode.elements;
        counters.encode.zeros += encoded.encode.zeros;
        counters.encode.narrow += encoded.encode.narrow;
        counters.encode.digits += encoded.encode.digits;
        counters.compute.taps += computed.taps;
        counters.compute.cycles += computed.cycles;
        counters.compute.products += computed.products;
        counters.vectors += finished.vectors;
        counters.input_beats += encoded.input_beats;
        counters.previous_beats += encoded.previous_beats;
        counters.kept_beats += encoded.kept_beats;
        counters.merged_beats += encoded.merged_beats + finished.output_merged + finished.kept_merged;
        counters.accumulator_reads += finished.accumulator_reads;
        counters.accumulator_writes += finished.accumulator_writes;
        counters.output_beats += finished.output_beats;
        counters.parameter_beats += finished.parameter_beats;
    }
};

}  // namespace ditto
