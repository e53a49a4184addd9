// What the finishing stage of a linear operator reads and writes: accumulators, parameters, results.
#pragma once

#include "memory.hpp"
#include "product.hpp"

namespace ditto {

template <class C>
struct ResultMemory {
    typedef Memory<C> M;
    typedef Tiling<C> T;
    typedef typename M::word word;
    typedef typename M::words words;

    static constexpr int sum_bytes = formats::SUM_BYTES;

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
                                  const Block blocks[C::cores], words& added, hls::stream<count_t>& counted) {
        count_t beats = 0;
        const int end = phase.first_tile + (phase.last_chunk && p.add_accumulators ? phase.tiles : 0);
    read_accumulators_tiles:
        for (int tile = phase.first_tile; tile < end; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 0 max = 8
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
        counted.write(beats);
    }

    static void write_accumulators(word* sums_out, const Product& p, const Phase& phase, const Block blocks[C::cores],
                                   words& kept, hls::stream<WriteCounters>& counted) {
        WriteCounters counters;
        counters.beats = counters.merged = 0;
        const int end = phase.first_tile + (phase.last_chunk && p.keep_accumulators ? phase.tiles : 0);
    write_accumulators_tiles:
        for (int tile = phase.first_tile; tile < end; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 0 max = 8
        write_accumulators_cores:
            for (int core = 0; core < C::cores; ++core) {
                const Block& block = blocks[core];
                const int runs = block.rows ? accumulator_runs(p, block, tile) : 0;
            write_accumulators_runs:
                for (int run = 0; run < runs; ++run) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
                    M::write(sums_out, accumulator_offset(p, block, tile, run),
                             sum_bytes * accumulator_run_length(p, block, tile), kept, counters.beats,
                             counters.merged);
                }
            }
        }
        counted.write(counters);
    }

    static void read_parameters(const word* parameters, const Product& p, const Phase& phase,
                                const Block blocks[C::cores], words& constants, hls::stream<count_t>& counted) {
        count_t beats = 0;
        const int end = phase.first_tile + (phase.last_chunk && p.finish ? phase.tiles : 0);
    read_parameters_tiles:
        for (int tile = phase.first_tile; tile < end; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 0 max = 8
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
        counted.write(beats);
    }

    static void write_results(word* activations_out, const Product& p, const Phase& phase, const Block blocks[C::cores],
                              words& results, hls::stream<WriteCounters>& counted) {
        WriteCounters counters;
        counters.beats = counters.merged = 0;
        const int end = phase.first_tile + (phase.last_chunk && p.finish ? phase.tiles : 0);
        const int bytes = element_bytes(p.code_output);
    write_results_tiles:
        for (int tile = phase.first_tile; tile < end; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 0 max = 8
        write_results_cores:
            for (int core = 0; core < C::cores; ++core) {
                const Block& block = blocks[core];
                const int pixels = block.rows * p.output_width;
            write_results_pixels:
                for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
                    const address_t element = (first_pixel(p, block) + pixel) * p.output_pitch + tile * C::oc_tile;
                    M::write(activations_out, p.output + element * bytes, T::outputs_of(p, tile) * bytes, results,
                             counters.beats, counters.merged);
                }
            }
        }
        counted.write(counters);
    }
};

}  // namespace ditto
