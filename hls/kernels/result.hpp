// The finishing stage of a linear operator: sums of chunks are added up, accumulators of the previous step added and
// the new ones kept, the total is requantized and written.
//
//   read accumulators -----> for each tile and core:  add chunk -> exchange -> requantize
//   read parameters  ----'                                             |            `--> write results
//   multipliers of rows --'                                            `--> write accumulators
#pragma once

#include "compute.hpp"
#include "product.hpp"
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
    typedef typename M::word word;
    typedef typename M::words words;
    typedef typename A::accumulator accumulator;
    typedef hls::stream<typename M::sum_t> row_sums_t;

    static constexpr int sum_bytes = formats::SUM_BYTES, accumulators_of_word = C::bus_bytes / sum_bytes;

    // Cycles: the fullest of the adders, the requantizers and the ports; a row's division is one step of a pipeline.
    // `totals` and `row_totals` hold what earlier chunks gave.
    static void finish(const word* parameters, word* activations_out, const word* sums_in, word* sums_out,
                       const Product& p, const Phase& phase, const BlockSums<C>& sums, row_sums_t& row_sums,
                       BlockSums<C>& totals, RowSums<C>& row_totals, ResultCounters& counters) {
        Block blocks[C::cores];
#pragma HLS ARRAY_PARTITION variable = blocks complete
        T::blocks_of(p, phase, blocks);
        finish_blocks(parameters, activations_out, sums_in, sums_out, p, phase, blocks, sums, row_sums, totals,
                      row_totals, counters);
    }

    static void finish_blocks(const word* parameters, word* activations_out, const word* sums_in, word* sums_out,
                              const Product& p, const Phase& phase, const Block blocks[C::cores],
                              const BlockSums<C>& sums, row_sums_t& row_sums, BlockSums<C>& totals,
                              RowSums<C>& row_totals, ResultCounters& counters) {
#pragma HLS DATAFLOW
        words added("added"), kept("kept"), constants("constants"), results("results");
#pragma HLS STREAM variable = added depth = 64
#pragma HLS STREAM variable = kept depth = 64
#pragma HLS STREAM variable = constants depth = 64
#pragma HLS STREAM variable = results depth = 64
        count_t reads = 0, writes = 0, output_beats = 0, parameter_beats = 0, adding = 0, requantizing = 0;
        count_t kept_merged = 0, output_merged = 0;
        RowSums<C> of_rows;
#pragma HLS BIND_STORAGE variable = of_rows.rows type = ram_2p impl = lutram
        read_accumulators(sums_in, p, phase, blocks, added, reads);
        read_parameters(parameters, p, phase, blocks, constants, parameter_beats);
        divide_rows(p, phase, blocks, row_sums, row_totals, of_rows);
        finish_tiles(p, phase, blocks, sums, of_rows, totals, added, kept, constants, results, adding, requantizing);
        write_accumulators(sums_out, p, phase, blocks, kept, writes, kept_merged);
        write_results(activations_out, p, phase, blocks, results, output_beats, output_merged);
        tally(adding, requantizing, reads, writes, output_beats, parameter_beats, output_merged, kept_merged, counters);
    }

    // ------------------------------------------------------------------------------------------------- memory

    static address_t first_pixel(const Product& p, const Block& block) {
        return address_t(block.sample * p.output_height + block.first_row) * p.output_width;
    }

    // Runs of a block's accumulators: per pixel, along channels; where the product is transposed per channel, along
    // pixels.
    static int accumulator_runs(const Product& p, const Block& block, int tile) {
        return p.accumulator_channel == 1 ? block.rows * p.output_width : T::outputs_of(p, tile);
    }

    static int accumulator_run_length(const Product& p, const Block& block, int tile) {
        return p.accumulator_channel == 1 ? T::outputs_of(p, tile) : block.rows * p.output_width;
    }

    static address_t accumulator_offset(const Product& p, const Block& block, int tile, int run) {
        const bool along_channels = p.accumulator_channel == 1;
        const address_t pixel = first_pixel(p, block) + (along_channels ? run : 0);
        const address_t channel = tile * C::oc_tile + (along_channels ? 0 : run);
        return p.accumulators + sum_bytes * (pixel * p.accumulator_pixel + channel * p.accumulator_channel);
    }

    static void read_accumulators(const word* sums_in, const Product& p, const Phase& phase,
                                  const Block blocks[C::cores], words& added, count_t& beats) {
        if (!phase.last_chunk || !p.add_accumulators) return;
    read_accumulators_tiles:
        for (int tile = phase.first_tile; tile < phase.first_tile + phase.tiles; ++tile) {
        read_accumulators_cores:
            for (int core = 0; core < C::cores; ++core) {
                const Block& block = blocks[core];
                const int runs = block.rows ? accumulator_runs(p, block, tile) : 0;
            read_accumulators_runs:
                for (int run = 0; run < runs; ++run) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
                    M::read(sums_in, accumulator_offset(p, block, tile, run),
                            sum_bytes * accumulator_run_length(p, block, tile), added, beats);
                }
            }
        }
    }

    static void write_accumulators(word* sums_out, const Product& p, const Phase& phase, const Block blocks[C::cores],
                                   words& kept, count_t& beats, count_t& merged) {
        if (!phase.last_chunk || !p.keep_accumulators) return;
    write_accumulators_tiles:
        for (int tile = phase.first_tile; tile < phase.first_tile + phase.tiles; ++tile) {
        write_accumulators_cores:
            for (int core = 0; core < C::cores; ++core) {
                const Block& block = blocks[core];
                const int runs = block.rows ? accumulator_runs(p, block, tile) : 0;
            write_accumulators_runs:
                for (int run = 0; run < runs; ++run) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
                    M::write(sums_out, accumulator_offset(p, block, tile, run),
                             sum_bytes * accumulator_run_length(p, block, tile), kept, beats, merged);
                }
            }
        }
    }

    static void read_parameters(const word* parameters, const Product& p, const Phase& phase,
                                const Block blocks[C::cores], words& constants, count_t& beats) {
        if (!phase.last_chunk || !p.finish) return;
    read_parameters_tiles:
        for (int tile = phase.first_tile; tile < phase.first_tile + phase.tiles; ++tile) {
            const int channel = tile * C::oc_tile, bytes = sum_bytes * T::outputs_of(p, tile);
        read_parameters_cores:
            for (int core = 0; core < C::cores; ++core) {
                const Block& block = blocks[core];
                if (block.rows == 0) continue;
                const address_t of_sample = p.conditional_bias ? block.sample * p.bias_stride : 0;
                const address_t of_gates = p.conditional_multipliers ? block.sample * p.bias_stride : 0;
                if (p.has_bias) M::read(parameters, p.bias + of_sample + sum_bytes * channel, bytes, constants, beats);
                if (!p.shared_multiplier) {
                    M::read(parameters, p.multipliers + of_gates + sum_bytes * channel, bytes, constants, beats);
                }
            }
        }
    }

    static void write_results(word* activations_out, const Product& p, const Phase& phase, const Block blocks[C::cores],
                              words& results, count_t& beats, count_t& merged) {
        if (!phase.last_chunk || !p.finish) return;
        const int bytes = element_bytes(p.code_output);
    write_results_tiles:
        for (int tile = phase.first_tile; tile < phase.first_tile + phase.tiles; ++tile) {
        write_results_cores:
            for (int core = 0; core < C::cores; ++core) {
                const Block& block = blocks[core];
                const int pixels = block.rows * p.output_width;
            write_results_pixels:
                for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
                    const address_t element = (first_pixel(p, block) + pixel) * p.output_pitch + tile * C::oc_tile;
                    M::write(activations_out, p.output + element * bytes, T::outputs_of(p, tile) * bytes, results,
                             beats, merged);
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- arithmetic

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
                             words& kept, words& constants, words& results, count_t& adding, count_t& requantizing) {
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
            add_chunk(p, phase, blocks, item, sums, totals, complete, adding);
            exchange(p, phase, blocks, item, complete, added, kept, exchanged);
            take_parameters(p, phase, blocks, item, constants, bias, multipliers);
            requantize(p, phase, blocks, item, exchanged, bias, multipliers, of_rows, results, requantizing);
        }
    }

    static void add_chunk(const Product& p, const Phase& phase, const Block blocks[C::cores], int item,
                          const BlockSums<C>& sums, BlockSums<C>& totals, TileSums<C>& complete, count_t& vectors) {
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
            ++vectors;
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
        const int runs = accumulator_runs(p, block, tile), length = accumulator_run_length(p, block, tile);
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

    static void requantize(const Product& p, const Phase& phase, const Block blocks[C::cores], int item,
                           const TileSums<C>& totals, const accumulator bias[C::oc_tile],
                           const accumulator multipliers[C::oc_tile], const RowSums<C>& of_rows, words& results,
                           count_t& vectors) {
        if (!phase.last_chunk || !p.finish) return;
        const int pixels = blocks[item % C::cores].rows * p.output_width;
        const int outputs = T::outputs_of(p, phase.first_tile + item / C::cores);
    requantize_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
            typename A::byte row[formats::VALUE_BYTES * C::oc_tile];
#pragma HLS ARRAY_PARTITION variable = row complete
        requantize_vectors:
            for (int first = 0; first < outputs; first += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::oc_tile / C::vector_width
                for (int oc = first; oc < first + C::vector_width; ++oc) {
#pragma HLS UNROLL
                    if (oc < outputs) {
                        const typename A::wide x =
                            typename A::wide(totals.pixels[pixel][oc]) + typename A::wide(bias[oc]);
                        const accumulator multiplier =
                            p.weighted_mean ? of_rows.rows[item % C::cores][pixel] : multipliers[oc];
                        typename A::wide y = A::template scale<33>(x, multiplier, p.shift);
                        if (p.relu && y < 0) y = 0;
                        if (p.code_output) {
                            A::template put<formats::CODE_BYTES>(row, oc, typename A::wide(A::to_code(y)));
                        } else {
                            A::template put<formats::VALUE_BYTES>(row, formats::VALUE_BYTES * oc,
                                                                  typename A::wide(A::to_value(y)));
                        }
                    }
                }
                ++vectors;
            }
            M::send(row, outputs * element_bytes(p.code_output), results);
        }
    }

    static void tally(count_t adding, count_t requantizing, count_t reads, count_t writes, count_t output_beats,
                      count_t parameter_beats, count_t output_merged, count_t kept_merged, ResultCounters& counters) {
        counters.vectors += adding + requantizing;
        counters.accumulator_reads += reads;
        counters.accumulator_writes += writes;
        counters.output_beats += output_beats;
        counters.parameter_beats += parameter_beats;
        counters.output_merged += output_merged;
        counters.kept_merged += kept_merged;
        count_t cycles = adding > requantizing ? adding : requantizing;
        if (reads > cycles) cycles = reads;
        if (output_beats > cycles) cycles = output_beats;
        if (parameter_beats > cycles) cycles = parameter_beats;
        counters.lean_cycles += cycles;
        counters.cycles += writes > cycles ? writes : cycles;
    }
};

}  // namespace ditto
