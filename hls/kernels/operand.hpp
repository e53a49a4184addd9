// The encoding stage of a linear operator: the operand's codes from DRAM, and those of the previous step, to digit lists; and
// the codes that are kept for the next step back to DRAM.
//
//   list runs --> read --------------> turn --> encode (per core)
//            \--> read the previous -> turn ----^
//            \--> write what is kept (of what was read)
#pragma once

#include "encoder.hpp"
#include "product.hpp"

namespace ditto {

struct OperandCounters {
    EncodeCounters encode;
    count_t input_beats, previous_beats, kept_beats, merged_beats, cycles;
};

// Operand codes that lie together in memory, for one core: pixels of a row, or rows of a channel of a gathered operand.
struct Run {
    address_t input, state;  // from the start of the operand in ACTIVATIONS, and of a kept one in STATE
    int bytes, core;
    bool keep, last;
};

template <class C>
struct Operand {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef Tiling<C> T;
    typedef typename M::word word;
    typedef typename M::words words;
    typedef hls::stream<Run> runs;

    // Digit lists of every core's block. Cycles: the fullest of the ports and of the cores' encoders.
    static void encode(const word* activations, const word* state, word* state_out, const Product& p, const Phase& phase,
                       DigitLists<C> lists[C::cores], OperandCounters& counters) {
        Block blocks[C::cores];
#pragma HLS ARRAY_PARTITION variable = blocks complete
    encode_blocks_of_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            blocks[core] = T::block_of(p, phase, core);
        }
        encode_blocks(activations, state, state_out, p, phase, blocks, lists, counters);
    }

    static void encode_blocks(const word* activations, const word* state, word* state_out, const Product& p,
                              const Phase& phase, const Block blocks[C::cores], DigitLists<C> lists[C::cores],
                              OperandCounters& counters) {
#pragma HLS DATAFLOW
        runs reads("reads"), previous_reads("previous_reads"), writes("writes");
        words kept("kept"), read[C::cores], previous_read[C::cores], current[C::cores], previous[C::cores];
#pragma HLS STREAM variable = reads depth = 8
#pragma HLS STREAM variable = previous_reads depth = 8
#pragma HLS STREAM variable = writes depth = 64
#pragma HLS STREAM variable = kept depth = 64
#pragma HLS STREAM variable = read depth = 32
#pragma HLS STREAM variable = previous_read depth = 32
        EncodeCounters encoded[C::cores] = {};
#pragma HLS ARRAY_PARTITION variable = encoded complete
        count_t input_beats = 0, previous_beats = 0, kept_beats = 0, merged_beats = 0;
        list_runs(p, phase, blocks, reads, previous_reads, writes);
        read_current(activations, p, reads, read, kept, input_beats);
        read_previous(state, p, previous_reads, previous_read, previous_beats);
    encode_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            turn(p, phase, blocks[core], true, read[core], current[core]);
            turn(p, phase, blocks[core], p.difference, previous_read[core], previous[core]);
            encode_block(p, phase, blocks[core], current[core], previous[core], lists[core], encoded[core]);
        }
        write_kept(state_out, p, writes, kept, kept_beats, merged_beats);
        tally(p, phase, blocks, encoded, input_beats, previous_beats, kept_beats, merged_beats, counters);
    }

    // In turn for all cores, which encode side by side. A row is kept by the first block that needs it, in the last pass.
    static void list_runs(const Product& p, const Phase& phase, const Block blocks[C::cores], runs& reads,
                          runs& previous_reads, runs& writes) {
        const int channel = phase.chunk * p.chunk_channels, size = T::chunk_size(p, phase.chunk);
        const int rows = p.gathered ? size : (p.block_rows - 1) * p.stride_height + p.kernel_height;
        const int segments = p.gathered ? 1 : ceil_divide(p.width, p.segment_pixels);
    list_rows:
        for (int row = 0; row < rows; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 10
        list_segments:
            for (int segment = 0; segment < segments; ++segment) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            list_cores:
                for (int core = 0; core < C::cores; ++core) {
#pragma HLS PIPELINE II = 1
                    const Block& block = blocks[core];
                    const int y = p.gathered ? channel + row : block.low + row;
                    if (block.rows == 0 || (!p.gathered && y >= block.high)) continue;
                    const int kept_from = block.first_row == 0 ? 0 : block.first - p.stride_height + p.kernel_height;
                    Run run = {};
                    run.core = core;
                    run.keep = p.keep_input && phase.last_pass && (p.gathered || y >= kept_from);
                    if (p.gathered) {
                        run.input = address_t(y) * p.input_pitch + block.first_row;
                        run.state = address_t(y) * p.kept_pitch + block.first_row;
                        run.bytes = block.rows;
                    } else {
                        const address_t pixel = address_t(block.sample * p.height + y) * p.width + segment * p.segment_pixels;
                        run.input = pixel * p.input_pitch + channel;
                        run.state = pixel * p.kept_pitch + channel;
                        run.bytes = p.segment_pixels * size;
                    }
                    reads.write(run);
                    if (p.difference) previous_reads.write(run);
                    if (run.keep) writes.write(run);
                }
            }
        }
        Run end = {};
        end.last = true;
        reads.write(end);
        previous_reads.write(end);
        writes.write(end);
    }

    static void read_current(const word* activations, const Product& p, runs& reads, words read[C::cores], words& kept,
                             count_t& beats) {
        Run run = reads.read();
    read_current_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::template read_to<C::cores>(activations, p.input + run.input, run.bytes, read, run.core, kept, run.keep, beats);
            run = reads.read();
        }
    }

    static void read_previous(const word* state, const Product& p, runs& reads, words read[C::cores], count_t& beats) {
        words unused;
        Run run = reads.read();
    read_previous_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::template read_to<C::cores>(state, p.previous + run.state, run.bytes, read, run.core, unused, false, beats);
            run = reads.read();
        }
    }

    static void write_kept(word* state_out, const Product& p, runs& writes, words& kept, count_t& beats, count_t& merged) {
        Run run = writes.read();
    write_kept_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::write(state_out, p.kept + run.state, run.bytes, kept, beats, merged);
            run = writes.read();
        }
    }

    // ------------------------------------------------------------------------------------------------- cores

    // Runs of a gathered operand's channels to runs of its rows; any other operand passes. Bytes lie diagonally in the banks, so
    // that both a word of a channel and a word of a row have one byte in each.
    static void turn(const Product& p, const Phase& phase, const Block& block, bool present, words& in, words& out) {
        if (block.rows == 0 || !present) return;
        const int size = T::chunk_size(p, phase.chunk), row_words = M::words_of(size);
        if (!p.gathered) {
            const int runs_of_row = p.width / p.segment_pixels;
            const int count = (block.high - block.low) * runs_of_row * M::words_of(p.segment_pixels * size);
        turn_pass:
            for (int i = 0; i < count; ++i) {
#pragma HLS PIPELINE II = 1
                out.write(in.read());
            }
            return;
        }
        typename A::byte banks[C::bus_bytes][C::row_bytes / C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = banks complete dim = 1
#pragma HLS BIND_STORAGE variable = banks type = ram_2p impl = lutram
    turn_channels:
        for (int channel = 0; channel < size; ++channel) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
        turn_channel_words:
            for (int row = 0; row < block.rows; row += C::bus_bytes) {
#pragma HLS PIPELINE II = 1
                const word w = in.read();
                for (int bank = 0; bank < C::bus_bytes; ++bank) {
#pragma HLS UNROLL
                    const int i = (bank + C::bus_bytes - channel % C::bus_bytes) % C::bus_bytes;
                    if (row + i < block.rows) banks[bank][(row + i) * row_words + channel / C::bus_bytes] = C::get_byte(w, i);
                }
            }
        }
    turn_rows:
        for (int row = 0; row < block.rows; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
        turn_row_words:
            for (int k = 0; k < row_words; ++k) {
#pragma HLS PIPELINE II = 1
                word w;
                for (int bank = 0; bank < C::bus_bytes; ++bank) {
#pragma HLS UNROLL
                    const int i = (bank + C::bus_bytes - row % C::bus_bytes) % C::bus_bytes;
                    C::set_byte(w, i, banks[bank][row * row_words + k]);
                }
                out.write(w);
            }
        }
    }

    static void encode_block(const Product& p, const Phase& phase, const Block& block, words& current, words& previous,
                             DigitLists<C>& lists, EncodeCounters& counters) {
        if (block.rows == 0) return;
        const int size = T::chunk_size(p, phase.chunk), pixels = p.gathered ? 1 : p.segment_pixels;
        const int positions = p.gathered ? block.rows : (block.high - block.low) * p.width;
    encode_runs:
        for (int position = 0; position < positions; position += pixels) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::positions
            Encoder<C>::encode(current, previous, p.difference, pixels, size, position, lists, counters);
        }
    }

    // What turning a gathered operand takes after its last beat has come: its rows leave word by word.
    static void tally(const Product& p, const Phase& phase, const Block blocks[C::cores], const EncodeCounters encoded[C::cores],
                      count_t input_beats, count_t previous_beats, count_t kept_beats, count_t merged_beats,
                      OperandCounters& counters) {
        count_t encoders = 0, turning = 0;
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            counters.encode.words += encoded[core].words;
            counters.encode.elements += encoded[core].elements;
            counters.encode.zeros += encoded[core].zeros;
            counters.encode.narrow += encoded[core].narrow;
            counters.encode.digits += encoded[core].digits;
            if (encoded[core].words > encoders) encoders = encoded[core].words;
            const count_t rows = p.gathered ? blocks[core].rows * M::words_of(T::chunk_size(p, phase.chunk)) : 0;
            if (rows > turning) turning = rows;
        }
        counters.input_beats += input_beats;
        counters.previous_beats += previous_beats;
        counters.kept_beats += kept_beats;
        counters.merged_beats += merged_beats;
        count_t cycles = input_beats > previous_beats ? input_beats : previous_beats;
        if (kept_beats > cycles) cycles = kept_beats;
        if (encoders > cycles) cycles = encoders;
        counters.cycles += cycles + turning;
    }
};

}  // namespace ditto
