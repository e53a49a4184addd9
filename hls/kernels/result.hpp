// The finishing stage of a linear operator: sums of chunks are added up, accumulators of the previous step added and
// the new ones kept, the total is requantized and written.
//
//   read accumulators -----> for each tile and core:  add chunk -> exchange -> requantize
//   read parameters  ----'                                             |            `--> write results
//   multipliers of rows --'                                            `--> write accumulators
#pragma once

#include "compute.hpp"
#include "result_memory.hpp"
#include "tables.hpp"

namespace ditto {

struct ResultCounters {
    count_t vectors;  // iterations of the vector unit: one per pixel and chunk, one per vector of the result
    count_t accumulator_reads, accumulator_writes, output_beats, parameter_beats, output_merged, kept_merged;
    count_t cycles, lean_cycles;  // lean: if no accumulators were kept
};

// Sums of a tile's pixels.
template <class C>
struct TileSums {
    typename Arithmetic<C>::accumulator pixels[C::accumulator_depth][C::oc_tile];
};

// Of every row of the cores' blocks: the sum of its codes, or its multiplier. Only of weighted means.
template <class C>
struct RowSums {
    typename Arithmetic<C>::accumulator rows[C::cores][C::accumulator_depth];
};

template <class C>
struct Result {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef Tiling<C> T;
    typedef ResultMemory<C> RM;
    typedef typename M::word word;
    typedef typename M::words words;
    typedef typename A::accumulator accumulator;
    typedef hls::stream<typename M::sum_t> row_sums_t;

    static constexpr int sum_bytes = formats::SUM_BYTES, accumulators_of_word = C::bus_bytes / sum_bytes;

    // Cycles: the fullest of the adders, the requantizers and the ports; a row's division is one step of a pipeline.
    // `totals` and `row_totals` hold what earlier chunks gave.
    static void finish(const word* parameters, word* activations_out, const word* sums_in, word* sums_out,
                       const Product& p, const Phase& phase, const BlockSums<C>& sums, row_sums_t& row_sums,
                       BlockSums<C>& totals, RowSums<C>& row_totals, hls::stream<ResultCounters>& counters) {
        Block blocks[C::cores];
#pragma HLS ARRAY_PARTITION variable = blocks complete
        T::blocks_of(p, phase, blocks);
        finish_blocks(parameters, activations_out, sums_in, sums_out, p, phase, blocks, sums, row_sums, totals,
                      row_totals, counters);
    }

    static void finish_blocks(const word* parameters, word* activations_out, const word* sums_in, word* sums_out,
                              const Product& p, const Phase& phase, const Block blocks[C::cores],
                              const BlockSums<C>& sums, row_sums_t& row_sums, BlockSums<C>& totals,
                              RowSums<C>& row_totals, hls::stream<ResultCounters>& counters) {
#pragma HLS DATAFLOW
        words added("added"), kept("kept"), constants("constants"), results("results");
#pragma HLS STREAM variable = added depth = 64
#pragma HLS STREAM variable = kept depth = 64
#pragma HLS STREAM variable = constants depth = 64
#pragma HLS STREAM variable = results depth = 64
        hls::stream<count_t> reads, parameter_beats;
        hls::stream<WriteCounters> kept_writes, output_writes;
        RowSums<C> of_rows;
#pragma HLS BIND_STORAGE variable = of_rows.rows type = ram_2p impl = lutram
        RM::read_accumulators(sums_in, p, phase, blocks, added, reads);
        RM::read_parameters(parameters, p, phase, blocks, constants, parameter_beats);
        divide_rows(p, phase, blocks, row_sums, row_totals, of_rows);
        finish_tiles(p, phase, blocks, sums, of_rows, totals, added, kept, constants, results);
        RM::write_accumulators(sums_out, p, phase, blocks, kept, kept_writes);
        RM::write_results(activations_out, p, phase, blocks, results, output_writes);
        tally(p, phase, blocks, reads, parameter_beats, kept_writes, output_writes, counters);
    }

    // Of weighted means: the multiplier of every row, from the sum of its codes. Sums come in the order in which rows
    // are read.
    static void divide_rows(const Product& p, const Phase& phase, const Block blocks[C::cores], row_sums_t& row_sums,
                            RowSums<C>& totals, RowSums<C>& multipliers) {
        if (!p.weighted_mean) return;
    divide_rows_loop:
        for (int row = 0; row < p.block_rows; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
        divide_cores:
            for (int core = 0; core < C::cores; ++core) {
#pragma HLS PIPELINE II = 1
                if (row >= blocks[core].rows) continue;
                accumulator sum = row_sums.read();
                if (phase.chunk > 0) sum = sum + totals.rows[core][row];
                totals.rows[core][row] = sum;
                const typename A::wide divisor = sum < A::largest_code ? A::largest_code : int(sum);
                const typename A::wide reciprocal = (typename A::wide(1) << tables::ROW_RECIPROCAL_BITS) / divisor;
                const typename A::wide scaled = A::template multiply<32, 32>(p.multiplier, reciprocal);
                multipliers.rows[core][row] = accumulator(A::round_shift(scaled, tables::ROW_BITS));
            }
        }
    }

    static void finish_tiles(const Product& p, const Phase& phase, const Block blocks[C::cores],
                             const BlockSums<C>& sums, const RowSums<C>& of_rows, BlockSums<C>& totals, words& added,
                             words& kept, words& constants, words& results) {
    finish_items:
        for (int item = 0; item < phase.tiles * C::cores; ++item) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = C::cores max = 4 * C::cores
            TileSums<C> complete, exchanged;
#pragma HLS ARRAY_RESHAPE variable = complete.pixels complete dim = 2
#pragma HLS ARRAY_RESHAPE variable = exchanged.pixels complete dim = 2
#pragma HLS BIND_STORAGE variable = complete.pixels type = ram_2p impl = lutram
#pragma HLS BIND_STORAGE variable = exchanged.pixels type = ram_2p impl = lutram
            accumulator bias[C::oc_tile], multipliers[C::oc_tile];
#pragma HLS ARRAY_PARTITION variable = bias complete
#pragma HLS ARRAY_PARTITION variable = multipliers complete
            add_chunk(p, phase, blocks, item, sums, totals, complete);
            exchange(p, phase, blocks, item, complete, added, kept, exchanged);
            take_parameters(p, phase, blocks, item, constants, bias, multipliers);
            requantize(p, phase, blocks, item, exchanged, bias, multipliers, of_rows, results);
        }
    }

    static void add_chunk(const Product& p, const Phase& phase, const Block blocks[C::cores], int item,
                          const BlockSums<C>& sums, BlockSums<C>& totals, TileSums<C>& complete) {
        const int core = item % C::cores, pixels = blocks[core].rows * p.output_width;
        const int first = (item / C::cores) * pixels;
    add_chunk_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
            for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                accumulator sum = sums.pixels[core][first + pixel][oc];
                if (phase.chunk > 0) sum = sum + totals.pixels[core][first + pixel][oc];
                totals.pixels[core][first + pixel][oc] = sum;
                complete.pixels[pixel][oc] = sum;
            }
        }
    }

    // Adds the kept sums of the previous step (or of the other half of an attention product), and passes the new ones
    // on to be kept.
    static void exchange(const Product& p, const Phase& phase, const Block blocks[C::cores], int item,
                         const TileSums<C>& complete, words& added, words& kept, TileSums<C>& exchanged) {
        const Block& block = blocks[item % C::cores];
        if (!phase.last_chunk || block.rows == 0) return;
        const int tile = phase.first_tile + item / C::cores, pixels = block.rows * p.output_width;
        if (!p.add_accumulators && !p.keep_accumulators) {
        exchange_nothing:
            for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
                for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                    exchanged.pixels[pixel][oc] = complete.pixels[pixel][oc];
                }
            }
            return;
        }
        const bool along_channels = p.accumulator_channel == 1;
        const int runs = RM::accumulator_runs(p, block, tile), length = RM::accumulator_run_length(p, block, tile);
    exchange_runs:
        for (int run = 0; run < runs; ++run) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
        exchange_words:
            for (int first = 0; first < length; first += accumulators_of_word) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::oc_tile / accumulators_of_word
                word before = {}, now = {};
                if (p.add_accumulators) before = added.read();
                for (int i = 0; i < accumulators_of_word; ++i) {
#pragma HLS UNROLL
                    if (first + i < length) {
                        const int pixel = along_channels ? run : first + i, oc = along_channels ? first + i : run;
                        accumulator sum = complete.pixels[pixel][oc];
                        if (p.add_accumulators) sum = sum + get_accumulator(before, i);
                        exchanged.pixels[pixel][oc] = sum;
                        put_accumulator(now, i, sum);
                    }
                }
                if (p.keep_accumulators) kept.write(now);
            }
        }
    }

    static accumulator get_accumulator(const word& w, int i) {
#pragma HLS INLINE
        typedef typename C::template uint<formats::SUM_BITS> bits;
        bits x = 0;
        for (int k = sum_bytes - 1; k >= 0; --k) {
#pragma HLS UNROLL
            x = bits((x << 8) | bits(C::get_byte(w, sum_bytes * i + k)));
        }
        return accumulator(x);
    }

    static void put_accumulator(word& w, int i, accumulator x) {
#pragma HLS INLINE
        for (int k = 0; k < sum_bytes; ++k) {
#pragma HLS UNROLL
            C::set_byte(w, sum_bytes * i + k, typename A::byte((x >> (8 * k)) & 255));
        }
    }

    static void take_parameters(const Product& p, const Phase& phase, const Block blocks[C::cores], int item,
                                words& constants, accumulator bias[C::oc_tile], accumulator multipliers[C::oc_tile]) {
        if (!phase.last_chunk || !p.finish || blocks[item % C::cores].rows == 0) return;
        const int outputs = T::outputs_of(p, phase.first_tile + item / C::cores);
        take_vector(constants, outputs, p.has_bias, 0, bias);
        take_vector(constants, outputs, !p.shared_multiplier, p.multiplier, multipliers);
    }

    static void take_vector(words& constants, int outputs, bool present, accumulator otherwise,
                            accumulator values[C::oc_tile]) {
    take_vector_words:
        for (int first = 0; first < C::oc_tile; first += accumulators_of_word) {
#pragma HLS PIPELINE II = 1
            word w = {};
            const bool there = present && first < outputs;
            if (there) w = constants.read();
            for (int i = 0; i < accumulators_of_word; ++i) {
#pragma HLS UNROLL
                values[first + i] = there ? get_accumulator(w, i) : otherwise;
            }
        }
    }

    // A vector of results every cycle, pixel by pixel; codes of two vectors share a word.
    static void requantize(const Product& p, const Phase& phase, const Block blocks[C::cores], int item,
                           const TileSums<C>& totals, const accumulator bias[C::oc_tile],
                           const accumulator multipliers[C::oc_tile], const RowSums<C>& of_rows, words& results) {
        static_assert(C::vector_width * formats::VALUE_BYTES == C::bus_bytes, "a vector of values is a word");
        const int core = item % C::cores, outputs = T::outputs_of(p, phase.first_tile + item / C::cores);
        const int of_pixel = ceil_divide(outputs, C::vector_width);
        const int vectors = phase.last_chunk && p.finish ? blocks[core].rows * p.output_width * of_pixel : 0;
        int pixel = 0, vector = 0;
        word w = {};
    requantize_vectors:
        for (int i = 0; i < vectors; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 0 max = C::accumulator_depth * C::oc_tile / C::vector_width
            const int first = vector * C::vector_width;
            const bool second = p.code_output && vector % 2 == 1, last = vector + 1 == of_pixel;
            for (int k = 0; k < C::vector_width; ++k) {
#pragma HLS UNROLL
                const int oc = first + k;
                const typename A::wide x = typename A::wide(totals.pixels[pixel][oc]) + typename A::wide(bias[oc]);
                const accumulator multiplier = p.weighted_mean ? of_rows.rows[core][pixel] : multipliers[oc];
                typename A::wide y = A::template scale<33>(x, multiplier, p.shift);
                if (p.relu && y < 0) y = 0;
                if (p.code_output) {
                    const typename A::byte code = typename A::byte(typename A::wide(A::to_code(y)) & 255);
                    C::set_byte(w, second ? C::vector_width + k : k, oc < outputs ? code : typename A::byte(0));
                } else {
                    const typename A::wide there = A::to_value(y), value = oc < outputs ? there : typename A::wide(0);
                    C::set_byte(w, 2 * k, typename A::byte(value & 255));
                    C::set_byte(w, 2 * k + 1, typename A::byte((value >> 8) & 255));
                }
            }
            if (last || second || !p.code_output) results.write(w);
            vector = last ? 0 : vector + 1;
            if (last) ++pixel;
        }
    }

    static void tally(const Product& p, const Phase& phase, const Block blocks[C::cores], hls::stream<count_t>& reads,
                      hls::stream<count_t>& parameter_beats, hls::stream<WriteCounters>& kept_writes,
                      hls::stream<WriteCounters>& output_writes, hls::stream<ResultCounters>& counters) {
        count_t pixels = 0, of_pixel = 0;
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            pixels += blocks[core].rows * p.output_width;
        }
    tally_tiles:
        for (int tile = phase.first_tile; tile < phase.first_tile + phase.tiles; ++tile) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
            of_pixel += ceil_divide(T::outputs_of(p, tile), C::vector_width);
        }
        const count_t adding = phase.tiles * pixels;
        const count_t requantizing = phase.last_chunk && p.finish ? of_pixel * pixels : count_t(0);
        const WriteCounters kept = kept_writes.read(), output = output_writes.read();
        ResultCounters all;
        all.vectors = adding + requantizing;
        all.accumulator_reads = reads.read();
        all.accumulator_writes = kept.beats;
        all.output_beats = output.beats;
        all.parameter_beats = parameter_beats.read();
        all.output_merged = output.merged;
        all.kept_merged = kept.merged;
        count_t cycles = adding > requantizing ? adding : requantizing;
        if (all.accumulator_reads > cycles) cycles = all.accumulator_reads;
        if (all.output_beats > cycles) cycles = all.output_beats;
        if (all.parameter_beats > cycles) cycles = all.parameter_beats;
        all.lean_cycles = cycles;
        all.cycles = all.accumulator_writes > cycles ? all.accumulator_writes : cycles;
        counters.write(all);
    }
};

}  // namespace ditto
