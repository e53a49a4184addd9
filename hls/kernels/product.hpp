// A linear operator on one instance, and how it is cut: tiles, passes, rounds, blocks, chunks, phases.
//
// Output channels come in tiles of oc_tile; a *pass* keeps the weights of one or more tiles on chip. Output rows come
// in *blocks*; in one *round* every core works on its own block, with the same weights. Input channels come in
// *chunks*. A *phase* is a round and a chunk. Samples come in groups that share each weight fetch.
#pragma once

#include "formats.hpp"
#include "isa.hpp"

namespace ditto {

// Where the second operand ("weights") comes from.
enum WeightLayout {
    PACKED = 0,   // WEIGHTS: [tile][chunk][tap][word][lane][oc_tile], as the banks hold it
    ROWS = 1,     // codes (oc, k) at oc * pitch + k: attention's keys
    COLUMNS = 2,  // codes (oc, k) at k * pitch + oc: attention's values
};

// A convolution over `samples`, or an attention product of one sample, window and head. Addresses are bytes from the
// base of a region; an operand pixel's codes are contiguous.
struct Product {
    dimension_t samples, height, width, channels;
    dimension_t output_height, output_width, outputs;
    dimension_t kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left;

    address_t input, previous, kept;  // ACTIVATIONS; STATE, read and written
    int input_pitch, kept_pitch;      // codes from pixel to pixel
    bool difference, keep_input;
    bool spatial;                             // codes refer to their neighbours: see hls/contract/spatial.py
    dimension_t lead_columns, extra_columns;  // windows left of the first one, columns right of the image, if spatial
    bool gathered;                            // (row, channel) at channel * pitch + row: an attention product's values

    WeightLayout layout;
    bool weights_in_state;
    int weight_bits;  // of PACKED ones, as many in a byte as fit
    address_t weights;
    int weight_pitch;

    address_t accumulators;                      // STATE
    int accumulator_pixel, accumulator_channel;  // elements from pixel to pixel and from channel to channel
    bool add_accumulators, keep_accumulators;

    bool finish;         // requantize and write the result
    bool weighted_mean;  // results are divided by the sum of the operand's row of codes: attention's, in one column
    bool shared_multiplier, has_bias, conditional_bias, conditional_multipliers, code_output, relu;
    address_t output, bias, multipliers, bias_stride;
    int output_pitch, multiplier, shift;

    dimension_t block_rows, chunk_channels, pass_tiles, segment_pixels;
    bool resident;  // all chunks of a pass fit the weight banks together
};

// ------------------------------------------------------------------------------------------------- descriptors

// That the result is requantized and written, and whether the sums are kept.
template <class F>
void set_finish(Product& p, const F& f, const Scalars& s) {
    p.finish = true;
    p.code_output = f.has(FLAG_CODE_OUTPUT);
    p.shift = s.shift;
    p.multiplier = s.multiplier0;
    p.keep_accumulators = s.keep_state;
}

template <class F>
void set_plan(Product& p, const F& f) {
    p.block_rows = f.block_rows;
    p.chunk_channels = f.chunk_channels;
    p.pass_tiles = f.pass_tiles;
    p.segment_pixels = f.segment_pixels;
    p.resident = f.has(FLAG_RESIDENT);
}

// What the encoded operand refers to, and where it is kept for the next step.
inline void set_reference(Product& p, const Scalars& s, address_t kept, address_t span) {
    p.difference = s.reference == PREVIOUS_STEP;
    p.spatial = s.reference == NEIGHBOUR;
    p.add_accumulators = p.difference;
    p.keep_input = s.keep_state;
    p.kept = kept + (s.parity ? span : 0);
    p.previous = kept + (s.parity ? 0 : span);
}

// ------------------------------------------------------------------------------------------------- tiles

struct Block {
    int sample, first_row, rows;  // output rows; none where a core is idle
    int first, low, high;  // input rows [low, high); `first` is where its windows begin, which may lie above the image
};

struct Phase {
    int first_sample, samples;  // of the sample group
    int first_tile, tiles;      // of the pass
    int round, chunk;
    bool last_pass, last_chunk;
};

template <class C>
struct Tiling {
    static int tiles(const Product& p) { return ceil_divide(p.outputs, C::oc_tile); }
    static int chunks(const Product& p) { return ceil_divide(p.channels, p.chunk_channels); }
    static int blocks(const Product& p) { return ceil_divide(p.output_height, p.block_rows); }

    static int chunk_size(const Product& p, int chunk) {
        const int rest = p.channels - chunk * p.chunk_channels;
        return rest < p.chunk_channels ? rest : p.chunk_channels;
    }

    // Spatial differences of windows that are single pixels side by side: a chain is a block, not a row.
    static bool chained_block(const Product& p) {
        return p.spatial && p.kernel_height == 1 && p.kernel_width == 1 && p.stride_height == 1 &&
               p.stride_width == 1 && p.output_height == p.height && p.output_width == p.width;
    }

    static int encoded_width(const Product& p) { return p.width + p.extra_columns; }

    static int outputs_of(const Product& p, int tile) {
        const int rest = p.outputs - tile * C::oc_tile;
        return rest < C::oc_tile ? rest : C::oc_tile;
    }

    // Words of the weight banks that one tile's chunk takes, and where they begin.
    static int bank_words(const Product& p, int chunk) {
        return p.kernel_height * p.kernel_width * ceil_divide(chunk_size(p, chunk), C::lanes);
    }

    static int bank_address(const Product& p, int tile, int chunk) {
        if (!p.resident) return tile * bank_words(p, chunk);
        const int per_tile = p.kernel_height * p.kernel_width * ceil_divide(p.channels, C::lanes);
        return tile * per_tile + chunk * bank_words(p, 0);
    }

    // Phase `index` of those that begin with `first`, chunk by chunk.
    static Phase phase_at(const Product& p, const Phase& first, int index) {
        Phase phase = first;
        const int position = first.chunk + index;
        phase.round = first.round + position / chunks(p);
        phase.chunk = position % chunks(p);
        phase.last_chunk = phase.chunk == chunks(p) - 1;
        return phase;
    }

    static Block block_of(const Product& p, const Phase& phase, int core) {
        const int index = phase.round * C::cores + core, per_sample = blocks(p);
        Block block = {phase.first_sample + index / per_sample, (index % per_sample) * p.block_rows, 0, 0, 0, 0};
        if (index >= phase.samples * per_sample) return block;
        const int rest = p.output_height - block.first_row;
        block.rows = rest < p.block_rows ? rest : int(p.block_rows);
        block.first = block.first_row * p.stride_height - p.pad_top;
        const int end = block.first + (block.rows - 1) * p.stride_height + p.kernel_height;
        block.low = block.first < 0 ? 0 : block.first;
        block.high = end < p.height ? end : p.height;
        return block;
    }

    static void blocks_of(const Product& p, const Phase& phase, Block blocks[C::cores]) {
    blocks_of_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS PIPELINE off
            blocks[core] = block_of(p, phase, core);
        }
    }
};

}  // namespace ditto
