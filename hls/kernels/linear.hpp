// Every linear operator: y = y_ref + W . (x - x_ref), as a loop nest over tiles.
//
// Work is cut so that any size fits the buffers. Output channels come in tiles of oc_tile; a *pass* keeps the weights of one
// or more tiles on chip. Output rows come in *blocks*; in one *round* every core works on its own block, with the same
// weights. Input channels come in *chunks*. Samples come in groups that share each weight fetch. Two nested dataflow regions:
//
//   for each weight set:  load the set  ||  for each phase (round, chunk):  encode || compute || finish
//
// A set is a pass where all its chunks fit the weight banks together ("resident"), else one phase's chunk.
#pragma once

#include "compute.hpp"
#include "memory.hpp"

namespace ditto {

// Where the second operand ("weights") comes from.
enum WeightLayout {
    PACKED = 0,   // WEIGHTS: [tile][chunk][tap][word][lane][oc_tile], as the banks hold it
    ROWS = 1,     // codes (oc, k) at oc * pitch + k: attention's keys
    COLUMNS = 2,  // codes (oc, k) at k * pitch + oc: attention's values
};

// One linear operator on one instance: a convolution over `samples`, or an attention product of one sample and head.
// Addresses are bytes from the base of a region; an operand pixel's codes are contiguous.
struct Product {
    int samples, height, width, channels;
    int output_height, output_width, outputs;
    int kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left;

    address_t input, previous, kept;  // ACTIVATIONS; STATE, read and written
    int input_pitch, kept_pitch;      // codes from pixel to pixel
    bool difference, keep_input;
    bool gathered;                    // (row, channel) at channel * pitch + row: an attention product's values

    WeightLayout layout;
    bool weights_in_state;
    address_t weights;
    int weight_pitch;

    address_t accumulators;                          // STATE
    int accumulator_pixel, accumulator_channel;      // elements from pixel to pixel and from channel to channel
    bool add_accumulators, keep_accumulators;

    bool finish;  // requantize and write the result
    bool shared_multiplier, has_bias, conditional_bias, code_output;
    address_t output, bias, multipliers, bias_stride;
    int output_pitch, multiplier, shift;

    int block_rows, chunk_channels, pass_tiles, segment_pixels;
    bool resident;
};

struct LinearCounters {
    EncodeCounters encode;
    ComputeCounters compute;
    count_t vectors;                                         // iterations of the vector unit
    count_t weight_beats, input_beats, previous_beats, kept_beats, accumulator_reads, accumulator_writes, output_beats;
    count_t parameter_beats, merged_beats;                   // merged: written beats that had to be read first
    count_t dense_products, cycles;
};

template <class C>
struct LinearBuffers {
    typedef Arithmetic<C> A;
    WeightBanks<C> weights[2];
    DigitLists<C> lists[C::cores];
    typename A::accumulator sums[C::cores][C::accumulator_depth][C::oc_tile];
    typename A::accumulator totals[C::cores][C::accumulator_depth][C::oc_tile];
    typename A::byte staging[C::oc_tile][C::staging_depth + 2 * C::bus_bytes];
};

struct Block {
    int sample, first_row, rows;  // output rows
};

struct Phase {
    int first_sample, samples;  // of the sample group
    int first_tile, tiles;      // of the pass
    int round, chunk;
    bool last_pass, last_chunk;
};

template <class C>
struct Linear {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename A::byte byte;

    static int tiles(const Product& p) { return ceil_divide(p.outputs, C::oc_tile); }
    static int chunks(const Product& p) { return ceil_divide(p.channels, p.chunk_channels); }
    static int blocks(const Product& p) { return ceil_divide(p.output_height, p.block_rows); }

    static Block block_of(const Product& p, const Phase& phase, int core) {
        const int index = phase.round * C::cores + core, per_sample = blocks(p);
        Block block = {phase.first_sample + index / per_sample, (index % per_sample) * p.block_rows, 0};
        if (index < phase.samples * per_sample) {
            block.rows = p.output_height - block.first_row < p.block_rows ? p.output_height - block.first_row : p.block_rows;
        }
        return block;
    }

    // Input rows [low, high) of a block; `first` is where its windows begin, which may lie above the image.
    static void input_rows(const Product& p, const Block& block, int& first, int& low, int& high) {
        first = block.first_row * p.stride_height - p.pad_top;
        const int end = first + (block.rows - 1) * p.stride_height + p.kernel_height;
        low = first < 0 ? 0 : first;
        high = end < p.height ? end : p.height;
    }

    static int chunk_size(const Product& p, int chunk) {
        const int rest = p.channels - chunk * p.chunk_channels;
        return rest < p.chunk_channels ? rest : p.chunk_channels;
    }

    // Words of the weight banks that one tile's chunk takes.
    static int bank_words(const Product& p, int chunk) {
        return p.kernel_height * p.kernel_width * ceil_divide(chunk_size(p, chunk), C::lanes);
    }

    static int bank_address(const Product& p, int tile, int chunk) {
        if (!p.resident) return tile * bank_words(p, chunk);
        const int per_tile = p.kernel_height * p.kernel_width * ceil_divide(p.channels, C::lanes);
        return tile * per_tile + chunk * bank_words(p, 0);
    }

    // Output-channel tiles [first_tile, end_tile): all of them, or those of a channel group. `state` and `sums` are the same
    // region, on two ports: kept operands, and kept accumulators.
    static void run(const word* weights, const word* parameters, const word* activations, word* activations_out,
                    const word* state, word* state_out, const word* sums, word* sums_out, const Product& p, int first_tile,
                    int end_tile,
                    LinearBuffers<C>& buffers, LinearCounters& counters) {
        count_t loaded = 0, finished[2] = {0, 0};  // ends of the last load and of the last two sets
        int set = 0;
    run_groups:
        for (int sample = 0; sample < p.samples; sample += C::sample_groups) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
            const int samples = p.samples - sample < C::sample_groups ? p.samples - sample : C::sample_groups;
            const int rounds = ceil_divide(samples * blocks(p), C::cores), all = rounds * chunks(p);
        run_passes:
            for (int tile = first_tile; tile < end_tile; tile += p.pass_tiles) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
                const int pass = end_tile - tile < p.pass_tiles ? end_tile - tile : p.pass_tiles;
                const int phases = p.resident ? all : 1;
            run_sets:
                for (int first = 0; first < all; first += phases) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
                    Phase phase = {sample, samples, tile, pass, first / chunks(p), first % chunks(p), tile + pass == tiles(p), false};
                    WeightBanks<C>& banks = buffers.weights[set % 2];
                    const count_t beats = load_set(weights, activations, state, p, phase, banks, buffers, counters);
                    const count_t cycles = run_phases(parameters, activations, activations_out, state, state_out, sums, sums_out, p, phase,
                                                      phases, banks, buffers, counters);
                    loaded = (loaded > finished[1] ? loaded : finished[1]) + beats;
                    finished[1] = finished[0];
                    finished[0] = (loaded > finished[0] ? loaded : finished[0]) + cycles;
                    ++set;
                }
            }
        }
        counters.cycles += finished[0];
        if (p.finish) counters.dense_products += count_t(p.samples) * p.output_height * p.output_width * p.kernel_height * p.kernel_width *
                                   p.channels * (end_tile - first_tile) * C::oc_tile;
    }

    // ------------------------------------------------------------------------------------------------ weights

    // All weights of a set; returns the beats it took.
    static count_t load_set(const word* weights, const word* activations, const word* state, const Product& p,
                            const Phase& phase, WeightBanks<C>& banks, LinearBuffers<C>& buffers, LinearCounters& counters) {
        count_t beats = 0;
        const int first = p.resident ? 0 : phase.chunk, end = p.resident ? chunks(p) : phase.chunk + 1;
    load_tiles:
        for (int tile = 0; tile < phase.tiles; ++tile) {
        load_chunks:
            for (int chunk = first; chunk < end; ++chunk) {
                const int address = bank_address(p, tile, chunk);
                if (p.layout == PACKED) {
                    load_packed(weights, p, phase.first_tile + tile, chunk, address, banks, beats);
                } else {
                    load_codes(p.weights_in_state ? state : activations, p, phase.first_tile + tile, chunk, address, banks,
                               buffers, beats);
                }
            }
        }
        counters.weight_beats += beats;
        return beats;
    }

    static void load_packed(const word* weights, const Product& p, int tile, int chunk, int address, WeightBanks<C>& banks,
                            count_t& beats) {
        static_assert(C::oc_tile % C::bus_bytes == 0, "a word of weights is a whole number of beats");
        const int row = C::lanes * C::oc_tile, taps = p.kernel_height * p.kernel_width;
        const int tile_words = taps * ceil_divide(p.channels, C::lanes);
        const int before = chunk * taps * (p.chunk_channels / C::lanes);
        const address_t first = (p.weights + address_t(tile * tile_words + before) * row) / C::bus_bytes;
        const int count = bank_words(p, chunk) * (row / C::bus_bytes);
    load_packed_beats:
        for (int beat = 0; beat < count; ++beat) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::weight_depth
            const word w = weights[first + beat];
            const int byte_index = beat * C::bus_bytes, oc = byte_index % C::oc_tile;
            const int lane = (byte_index / C::oc_tile) % C::lanes;
            for (int i = 0; i < C::bus_bytes; ++i) {
#pragma HLS UNROLL
                banks.words[lane][address + byte_index / row][oc + i] = typename A::code(C::get_byte(w, i));
            }
            ++beats;
        }
    }

    // Attention: codes of a second operand in ACTIVATIONS or STATE as weights.
    static void load_codes(const word* memory, const Product& p, int tile, int chunk, int address, WeightBanks<C>& banks,
                           LinearBuffers<C>& buffers, count_t& beats) {
        const int rest = p.outputs - tile * C::oc_tile, outputs = rest < C::oc_tile ? rest : C::oc_tile;
        const int size = chunk_size(p, chunk), first = chunk * p.chunk_channels;
        if (p.layout == ROWS) {
            int skews[C::oc_tile];
#pragma HLS ARRAY_PARTITION variable = skews complete
        load_rows:
            for (int oc = 0; oc < outputs; ++oc) {
                const address_t offset = p.weights + address_t(tile * C::oc_tile + oc) * p.weight_pitch + first;
                skews[oc] = M::load(memory, offset, size, buffers.staging[oc], beats);
            }
        transpose_words:
            for (int k = 0; k < size; k += C::lanes) {
#pragma HLS PIPELINE II = 1
                for (int lane = 0; lane < C::lanes; ++lane) {
                    for (int oc = 0; oc < outputs; ++oc) {
                        if (k + lane < size) {
                            banks.words[lane][address + k / C::lanes][oc] = typename A::code(buffers.staging[oc][skews[oc] + k + lane]);
                        }
                    }
                }
            }
        } else {
        load_columns:
            for (int k = 0; k < size; ++k) {
                const address_t offset = p.weights + address_t(first + k) * p.weight_pitch + tile * C::oc_tile;
                const int skew = M::load(memory, offset, outputs, buffers.staging[0], beats);
                for (int oc = 0; oc < outputs; ++oc) {
#pragma HLS UNROLL
                    banks.words[k % C::lanes][address + k / C::lanes][oc] = typename A::code(buffers.staging[0][skew + oc]);
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- phases

    // Rounds and chunks that use one weight set; returns the cycles of the three overlapping stages.
    static count_t run_phases(const word* parameters, const word* activations, word* activations_out, const word* state,
                              word* state_out, const word* sums, word* sums_out, const Product& p, const Phase& first, int phases,
                              const WeightBanks<C>& banks, LinearBuffers<C>& buffers, LinearCounters& counters) {
        count_t ends[3][2] = {};  // of each stage, in the last phase and the one before
        Phase phase = first;
    run_phases_loop:
        for (int i = 0; i < phases; ++i) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            phase.last_chunk = phase.chunk == chunks(p) - 1;
            count_t durations[3];
            durations[0] = encode(activations, state, state_out, p, phase, buffers, counters);
            durations[1] = compute(p, phase, banks, buffers, counters);
            durations[2] = finish(parameters, activations_out, sums, sums_out, p, phase, buffers, counters);
            advance(ends, durations);
            if (phase.last_chunk) {
                phase.chunk = 0;
                ++phase.round;
            } else {
                ++phase.chunk;
            }
        }
        return ends[2][0];
    }

    // A stage begins when its input is there, when it is free, and when one of the two buffers behind it is.
    static void advance(count_t ends[3][2], const count_t durations[3]) {
        count_t before = 0;
        for (int stage = 0; stage < 3; ++stage) {
            count_t start = before > ends[stage][0] ? before : ends[stage][0];
            if (stage < 2 && ends[stage + 1][1] > start) start = ends[stage + 1][1];
            before = start + durations[stage];
            ends[stage][1] = ends[stage][0];
            ends[stage][0] = before;
        }
    }

    // Digit lists of every core's block. Cycles: the fullest of the ports and of the cores' encoders.
    static count_t encode(const word* activations, const word* state, word* state_out, const Product& p, const Phase& phase,
                          LinearBuffers<C>& buffers, LinearCounters& counters) {
        count_t input = 0, previous = 0, kept = 0, words = 0;
    encode_cores:
        for (int core = 0; core < C::cores; ++core) {
            const Block block = block_of(p, phase, core);
            if (block.rows > 0) {
                EncodeCounters of_core = {};
                encode_block(activations, state, state_out, p, phase, block, buffers.lists[core], of_core, input, previous,
                             kept, counters.merged_beats);
                counters.encode.words += of_core.words;
                counters.encode.elements += of_core.elements;
                counters.encode.zeros += of_core.zeros;
                counters.encode.narrow += of_core.narrow;
                counters.encode.digits += of_core.digits;
                if (of_core.words > words) words = of_core.words;
            }
        }
        counters.input_beats += input;
        counters.previous_beats += previous;
        counters.kept_beats += kept;
        count_t cycles = input > previous ? input : previous;
        if (kept > cycles) cycles = kept;
        return words > cycles ? words : cycles;
    }

    static void encode_block(const word* activations, const word* state, word* state_out, const Product& p,
                             const Phase& phase, const Block& block, DigitLists<C>& lists, EncodeCounters& encoded,
                             count_t& input, count_t& previous, count_t& kept, count_t& merged) {
        byte current_row[C::row_bytes + 2 * C::bus_bytes], previous_row[C::row_bytes + 2 * C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = current_row cyclic factor = C::bus_bytes
#pragma HLS ARRAY_PARTITION variable = previous_row cyclic factor = C::bus_bytes
        int first, low, high;
        input_rows(p, block, first, low, high);
        if (p.gathered) {
            gather_block(activations, state, state_out, p, phase, block, lists, encoded, input, previous, kept, merged);
            return;
        }
        // A row is kept by the first block that needs it.
        const int kept_from = block.first_row == 0 ? 0 : first - p.stride_height + p.kernel_height;
        const int channel = phase.chunk * p.chunk_channels, size = chunk_size(p, phase.chunk);
        const int bytes = p.segment_pixels * size;
    encode_rows:
        for (int row = low; row < high; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 10
        encode_segments:
            for (int x = 0; x < p.width; x += p.segment_pixels) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const address_t pixel = address_t(block.sample * p.height + row) * p.width + x;
                const address_t state_offset = pixel * p.kept_pitch + channel;
                const int skew = M::load(activations, p.input + pixel * p.input_pitch + channel, bytes, current_row, input);
                int previous_skew = 0;
                if (p.difference) previous_skew = M::load(state, p.previous + state_offset, bytes, previous_row, previous);
                Encoder<C>::encode(current_row, skew, previous_row, previous_skew, p.difference, p.segment_pixels, size,
                                   (row - low) * p.width + x, lists, encoded);
                if (p.keep_input && phase.last_pass && row >= kept_from) {
                    keep_codes(state_out, p.kept + state_offset, bytes, current_row, skew, kept, merged);
                }
            }
        }
    }

    // The same for an operand whose rows lie side by side: one run per channel, turned round on chip.
    static void gather_block(const word* activations, const word* state, word* state_out, const Product& p,
                             const Phase& phase, const Block& block, DigitLists<C>& lists, EncodeCounters& encoded,
                             count_t& input, count_t& previous, count_t& kept, count_t& merged) {
        byte run[C::row_bytes + 2 * C::bus_bytes], current_rows[C::row_bytes], previous_rows[C::row_bytes];
#pragma HLS ARRAY_PARTITION variable = run cyclic factor = C::bus_bytes
        const int channel = phase.chunk * p.chunk_channels, size = chunk_size(p, phase.chunk);
    gather_channels:
        for (int c = 0; c < size; ++c) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            const address_t offset = address_t(channel + c) * p.input_pitch + block.first_row;
            const address_t state_offset = address_t(channel + c) * p.kept_pitch + block.first_row;
            int skew = M::load(activations, p.input + offset, block.rows, run, input);
            turn(run, skew, current_rows, c, size, block.rows);
            if (p.keep_input && phase.last_pass) {
                keep_codes(state_out, p.kept + state_offset, block.rows, run, skew, kept, merged);
            }
            if (p.difference) {
                skew = M::load(state, p.previous + state_offset, block.rows, run, previous);
                turn(run, skew, previous_rows, c, size, block.rows);
            }
        }
        Encoder<C>::encode(current_rows, 0, previous_rows, 0, p.difference, block.rows, size, 0, lists, encoded);
    }

    static void turn(const byte* run, int skew, byte* rows, int channel, int channels, int count) {
    turn_rows:
        for (int row = 0; row < count; ++row) {
#pragma HLS PIPELINE II = 1
            rows[row * channels + channel] = run[skew + row];
        }
    }

    // Stores a run that was loaded with another skew.
    static void keep_codes(word* state_out, address_t offset, int bytes, const byte* row, int skew, count_t& beats,
                           count_t& merged) {
        byte aligned[C::row_bytes + 2 * C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = aligned cyclic factor = C::bus_bytes
        count_t moved = 0;
        M::realign(row, skew, aligned, int(offset % C::bus_bytes), bytes, moved);
        M::store(state_out, offset, bytes, aligned, beats, merged);
    }

    // Sums of every core's block for the pass's tiles. Cycles: of the slowest core, tile by tile.
    static count_t compute(const Product& p, const Phase& phase, const WeightBanks<C>& banks, LinearBuffers<C>& buffers,
                           LinearCounters& counters) {
        count_t cycles = 0;
        const int words = ceil_divide(chunk_size(p, phase.chunk), C::lanes);
    compute_tiles:
        for (int tile = 0; tile < phase.tiles; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
            const int address = bank_address(p, tile, phase.chunk);
            count_t slowest = 0;
        compute_cores:
            for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
                const Block block = block_of(p, phase, core);
                if (block.rows > 0) {
                    int first, low, high;
                    input_rows(p, block, first, low, high);
                    const Window window = {block.rows,       p.output_width,  first - low,     high - low,    p.width,
                                           p.kernel_height,  p.kernel_width,  p.stride_height, p.stride_width, p.pad_left};
                    ComputeCounters of_core = {};
                    Compute<C>::run(buffers.lists[core], banks, window, words, address,
                                    buffers.sums[core] + tile * block.rows * p.output_width, of_core);
                    const count_t time = of_core.taps > of_core.cycles ? of_core.taps : of_core.cycles;
                    if (time > slowest) slowest = time;
                    counters.compute.taps += of_core.taps;
                    counters.compute.cycles += of_core.cycles;
                    counters.compute.products += of_core.products;
                }
            }
            cycles += slowest;
        }
        return cycles;
    }

    // ------------------------------------------------------------------------------------------------- finish

    // Adds chunks, adds and keeps accumulators, requantizes, writes. Cycles: the fullest of the vector unit and the ports.
    static count_t finish(const word* parameters, word* activations_out, const word* sums, word* sums_out, const Product& p,
                          const Phase& phase, LinearBuffers<C>& buffers, LinearCounters& counters) {
        LinearCounters of_phase = {};
    finish_tiles:
        for (int tile = 0; tile < phase.tiles; ++tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
        finish_cores:
            for (int core = 0; core < C::cores; ++core) {
#pragma HLS LOOP_TRIPCOUNT min = C::cores max = C::cores
                const Block block = block_of(p, phase, core);
                if (block.rows > 0) {
                    const int pixels = block.rows * p.output_width;
                    typename A::accumulator(*totals)[C::oc_tile] = buffers.totals[core] + tile * pixels;
                    add_chunk(buffers.sums[core] + tile * pixels, totals, pixels, phase.chunk == 0, of_phase.vectors);
                    if (phase.last_chunk) {
                        finish_block(parameters, activations_out, sums, sums_out, p, block, phase.first_tile + tile, totals,
                                     of_phase);
                    }
                }
            }
        }
        counters.vectors += of_phase.vectors;
        counters.accumulator_reads += of_phase.accumulator_reads;
        counters.accumulator_writes += of_phase.accumulator_writes;
        counters.output_beats += of_phase.output_beats;
        counters.parameter_beats += of_phase.parameter_beats;
        counters.merged_beats += of_phase.merged_beats;
        count_t cycles = of_phase.vectors;
        if (of_phase.accumulator_reads > cycles) cycles = of_phase.accumulator_reads;
        if (of_phase.accumulator_writes > cycles) cycles = of_phase.accumulator_writes;
        if (of_phase.output_beats > cycles) cycles = of_phase.output_beats;
        return of_phase.parameter_beats > cycles ? of_phase.parameter_beats : cycles;
    }

    static void add_chunk(const typename A::accumulator sums[][C::oc_tile], typename A::accumulator totals[][C::oc_tile],
                          int pixels, bool first, count_t& vectors) {
    add_chunk_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
            for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                totals[pixel][oc] = first ? sums[pixel][oc] : typename A::accumulator(totals[pixel][oc] + sums[pixel][oc]);
            }
            ++vectors;
        }
    }

    static void finish_block(const word* parameters, word* activations_out, const word* sums, word* sums_out,
                             const Product& p, const Block& block, int tile, typename A::accumulator totals[][C::oc_tile],
                             LinearCounters& counters) {
        const int channel = tile * C::oc_tile, rest = p.outputs - channel, outputs = rest < C::oc_tile ? rest : C::oc_tile;
        const int pixels = block.rows * p.output_width;
        const address_t first_pixel = address_t(block.sample * p.output_height + block.first_row) * p.output_width;
        if (p.add_accumulators || p.keep_accumulators) {
            exchange_accumulators(sums, sums_out, p, first_pixel, pixels, channel, outputs, totals, counters);
        }
        if (!p.finish) return;
        typename A::accumulator bias[C::oc_tile], multipliers[C::oc_tile];
#pragma HLS ARRAY_PARTITION variable = bias complete
#pragma HLS ARRAY_PARTITION variable = multipliers complete
        load_parameters(parameters, p, block.sample, channel, outputs, bias, multipliers, counters.parameter_beats);
        const int bytes = p.code_output ? 1 : 2;
    finish_pixels:
        for (int pixel = 0; pixel < pixels; ++pixel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
            const address_t offset = p.output + ((first_pixel + pixel) * p.output_pitch + channel) * bytes;
            byte row[2 * C::oc_tile + 2 * C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = row complete
            const int skew = int(offset % C::bus_bytes);
        requantize_vectors:
            for (int oc = 0; oc < outputs; oc += C::vector_width) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::oc_tile / C::vector_width
                for (int i = 0; i < C::vector_width; ++i) {
#pragma HLS UNROLL
                    if (oc + i < outputs) {
                        const typename A::wide x = typename A::wide(totals[pixel][oc + i]) + typename A::wide(bias[oc + i]);
                        const typename A::wide y = A::scale(x, multipliers[oc + i], p.shift);
                        if (p.code_output) {
                            A::template put<1>(row, skew + oc + i, typename A::wide(A::to_code(y)));
                        } else {
                            A::template put<2>(row, skew + 2 * (oc + i), typename A::wide(A::to_value(y)));
                        }
                    }
                }
                ++counters.vectors;
            }
            M::store(activations_out, offset, outputs * bytes, row, counters.output_beats, counters.merged_beats);
        }
    }

    static void load_parameters(const word* parameters, const Product& p, int sample, int channel, int outputs,
                                typename A::accumulator bias[C::oc_tile], typename A::accumulator multipliers[C::oc_tile],
                                count_t& beats) {
        byte row[4 * C::oc_tile + 2 * C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = row complete
        int skew = 0;
        if (p.has_bias) {
            const address_t of_sample = p.conditional_bias ? sample * p.bias_stride : 0;
            skew = M::load(parameters, p.bias + of_sample + 4 * channel, 4 * outputs, row, beats);
        }
    spread_bias:
        for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
            bias[oc] = p.has_bias && oc < outputs ? A::accumulator_at(row, skew + 4 * oc) : typename A::accumulator(0);
        }
        if (!p.shared_multiplier) skew = M::load(parameters, p.multipliers + 4 * channel, 4 * outputs, row, beats);
    spread_multipliers:
        for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
            multipliers[oc] = p.shared_multiplier ? typename A::accumulator(p.multiplier)
                                                  : (oc < outputs ? A::accumulator_at(row, skew + 4 * oc) : typename A::accumulator(0));
        }
    }

    // Adds the kept sums of the previous step (or of the other half of an attention product) and keeps the new ones. Runs
    // go along channels, or along pixels where the product is transposed.
    static void exchange_accumulators(const word* sums, word* sums_out, const Product& p, address_t first_pixel, int pixels,
                                      int channel, int outputs, typename A::accumulator totals[][C::oc_tile],
                                      LinearCounters& counters) {
        const bool along_channels = p.accumulator_channel == 1;
        const int runs = along_channels ? pixels : outputs, length = along_channels ? outputs : pixels;
    exchange_runs:
        for (int run = 0; run < runs; ++run) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::accumulator_depth
            const address_t pixel = first_pixel + (along_channels ? run : 0), oc = channel + (along_channels ? 0 : run);
            const address_t offset = p.accumulators + 4 * (pixel * p.accumulator_pixel + oc * p.accumulator_channel);
            byte row[4 * (C::oc_tile > C::accumulator_depth ? C::oc_tile : C::accumulator_depth) + 2 * C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = row cyclic factor = C::bus_bytes
            if (p.add_accumulators) M::load(sums, offset, 4 * length, row, counters.accumulator_reads);
            const int skew = int(offset % C::bus_bytes);
        exchange_words:
            for (int first = 0; first < length; first += C::bus_bytes / 4) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4 * C::oc_tile / C::bus_bytes
                for (int i = first; i < first + C::bus_bytes / 4; ++i) {
#pragma HLS UNROLL
                    if (i < length) {
                        typename A::accumulator& total = totals[along_channels ? run : i][along_channels ? i : run];
                        if (p.add_accumulators) total = total + A::accumulator_at(row, skew + 4 * i);
                        A::template put<4>(row, skew + 4 * i, typename A::wide(total));
                    }
                }
            }
            if (p.keep_accumulators) {
                M::store(sums_out, offset, 4 * length, row, counters.accumulator_writes, counters.merged_beats);
            }
        }
    }
};

}  // namespace ditto
