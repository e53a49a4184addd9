// The encoding stage of a linear operator: the operand's codes from DRAM, and those of the previous step, to digit
// lists; and the codes that are kept for the next step back to DRAM.
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
    count_t input_beats, previous_beats, kept_beats, merged_beats;  // merged: of what is kept
    count_t cycles, lean_cycles;                                    // lean: if nothing were kept
};

// Operand codes that lie together in memory: pixels of a row, for one core and those after it whose blocks see the row
// too, or rows of a channel of a gathered operand.
struct Run {
    address_t input, state;  // from the start of the operand in ACTIVATIONS, and of a kept one in STATE
    int bytes, core, last_core, channel;
    bool keep, last;
};

// Rows that are kept without being encoded.
struct CopiedRows {
    int count, bytes;
    address_t source, source_pitch, target, target_pitch;  // ACTIVATIONS, STATE
};

template <class C>
struct Operand {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef Tiling<C> T;
    typedef typename M::word word;
    typedef typename M::words words;
    typedef hls::stream<Run> runs;
    typedef hls::stream<typename M::sum_t> sums;

    // Digit lists of every core's block, and of weighted means the sums of its rows' codes, row by row of all cores in
    // turn. Cycles: the fullest of the ports and of the cores' encoders.
    static void encode(const word* activations, const word* state, word* state_out, const Product& p,
                       const Phase& phase, DigitLists<C> lists[C::cores], sums& row_sums, OperandCounters& counters) {
        Block blocks[C::cores];
#pragma HLS ARRAY_PARTITION variable = blocks complete
        T::blocks_of(p, phase, blocks);
        encode_blocks(activations, state, state_out, p, phase, blocks, lists, row_sums, counters);
    }

    static void encode_blocks(const word* activations, const word* state, word* state_out, const Product& p,
                              const Phase& phase, const Block blocks[C::cores], DigitLists<C> lists[C::cores],
                              sums& row_sums, OperandCounters& counters) {
#pragma HLS DATAFLOW
        runs reads("reads"), previous_reads("previous_reads"), turns("turns"), previous_turns("previous_turns");
        runs writes("writes");
        words kept("kept"), read("read"), previous_read("previous_read"), current[C::cores], previous[C::cores];
        hls::stream<Place<C>> places[C::cores];
#pragma HLS STREAM variable = reads depth = 8
#pragma HLS STREAM variable = previous_reads depth = 8
#pragma HLS STREAM variable = turns depth = 64
#pragma HLS STREAM variable = previous_turns depth = 64
#pragma HLS STREAM variable = writes depth = 64
#pragma HLS STREAM variable = kept depth = 64
#pragma HLS STREAM variable = read depth = 32
#pragma HLS STREAM variable = previous_read depth = 32
#pragma HLS STREAM variable = current depth = 32
#pragma HLS STREAM variable = previous depth = 32
#pragma HLS STREAM variable = places depth = 64
        EncodeCounters encoded[C::cores] = {};
#pragma HLS ARRAY_PARTITION variable = encoded complete
        count_t input_beats = 0, previous_beats = 0, kept_beats = 0, merged_beats = 0;
        list_runs(p, phase, blocks, reads, previous_reads, turns, previous_turns, writes, places);
        read_current(activations, p, reads, read, kept, row_sums, input_beats);
        read_previous(state, p, previous_reads, previous_read, previous_beats);
        turn(p, phase, turns, read, current);
        turn(p, phase, previous_turns, previous_read, previous);
    encode_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            encode_block(p, phase, blocks[core], places[core], current[core], previous[core], lists[core],
                         encoded[core]);
        }
        write_kept(state_out, p, writes, kept, kept_beats, merged_beats);
        tally(p, phase, blocks, encoded, input_beats, previous_beats, kept_beats, merged_beats, counters);
    }

    // In turn for all cores, which encode side by side; of a gathered operand core by core. A row that several blocks
    // see is read once, for the first core; it is kept by the first block that needs it, in the last pass.
    static void list_runs(const Product& p, const Phase& phase, const Block blocks[C::cores], runs& reads,
                          runs& previous_reads, runs& turns, runs& previous_turns, runs& writes,
                          hls::stream<Place<C>> places[C::cores]) {
        const int size = T::chunk_size(p, phase.chunk), segments = p.gathered ? 1 : p.width / p.segment_pixels;
        const int rows = p.gathered ? C::cores : (p.block_rows - 1) * p.stride_height + p.kernel_height;
        const int columns = p.gathered ? size : C::cores;
        int unread[C::cores];  // the first row that no core before this one reads
#pragma HLS ARRAY_PARTITION variable = unread complete
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            const bool follows = core > 0 && same_image(blocks[core - 1], blocks[core]);
            unread[core] =
                follows && blocks[core - 1].high > blocks[core].low ? blocks[core - 1].high : blocks[core].low;
        }
    list_rows:
        for (int row = 0; row < rows; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 10
        list_segments:
            for (int segment = 0; segment < segments; ++segment) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            list_columns:
                for (int column = 0; column < columns; ++column) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::cores
                    const int core = p.gathered ? row : column, y = unread[core] + row;
                    const Block& block = blocks[core];
                    if (block.rows == 0 || (!p.gathered && y >= block.high)) continue;
                    Run run =
                        p.gathered ? channel_run(p, phase, block, column) : row_run(p, phase, block, y, segment, size);
                    run.core = run.last_core = core;
                    if (!p.gathered) {
                        for (int other = 0; other < C::cores; ++other) {
#pragma HLS UNROLL
                            if (other < core || !same_image(block, blocks[other]) || y < blocks[other].low) continue;
                            Place<C> place;
                            place.row = y - blocks[other].low;
                            place.column = segment * p.segment_pixels;
                            places[other].write(place);
                            run.last_core = other;
                        }
                    }
                    run.keep = run.keep && p.keep_input && phase.last_pass;
                    reads.write(run);
                    turns.write(run);
                    if (p.difference) {
                        previous_reads.write(run);
                        previous_turns.write(run);
                    }
                    if (run.keep) writes.write(run);
                }
            }
        }
        Run end = {};
        end.last = true;
        reads.write(end);
        previous_reads.write(end);
        turns.write(end);
        previous_turns.write(end);
        writes.write(end);
    }

    static bool same_image(const Block& one, const Block& other) {
#pragma HLS INLINE
        return one.rows > 0 && other.rows > 0 && one.sample == other.sample;
    }

    static Run row_run(const Product& p, const Phase& phase, const Block& block, int y, int segment, int size) {
#pragma HLS INLINE
        const int channel = phase.chunk * p.chunk_channels;
        const int kept_from = block.first_row == 0 ? 0 : block.first - p.stride_height + p.kernel_height;
        const address_t pixel = address_t(block.sample * p.height + y) * p.width + segment * p.segment_pixels;
        Run run = {};
        run.input = pixel * p.input_pitch + channel;
        run.state = pixel * p.kept_pitch + channel;
        run.bytes = p.segment_pixels * size;
        run.keep = y >= kept_from;
        return run;
    }

    static Run channel_run(const Product& p, const Phase& phase, const Block& block, int channel) {
#pragma HLS INLINE
        const address_t y = phase.chunk * p.chunk_channels + channel;
        Run run = {};
        run.input = y * p.input_pitch + block.first_row;
        run.state = y * p.kept_pitch + block.first_row;
        run.bytes = block.rows;
        run.channel = channel;
        run.keep = true;
        return run;
    }

    static void read_current(const word* activations, const Product& p, runs& reads, words& read, words& kept,
                             sums& row_sums, count_t& beats) {
        Run run = reads.read();
    read_current_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            const typename M::sum_t sum =
                M::read_twice(activations, p.input + run.input, run.bytes, read, kept, run.keep, beats);
            if (p.weighted_mean) row_sums.write(sum);
            run = reads.read();
        }
    }

    static void read_previous(const word* state, const Product& p, runs& reads, words& read, count_t& beats) {
        Run run = reads.read();
    read_previous_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::read(state, p.previous + run.state, run.bytes, read, beats);
            run = reads.read();
        }
    }

    static void write_kept(word* state_out, const Product& p, runs& writes, words& kept, count_t& beats,
                           count_t& merged) {
        Run run = writes.read();
    write_kept_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::write(state_out, p.kept + run.state, run.bytes, kept, beats, merged);
            run = writes.read();
        }
    }

    // ------------------------------------------------------------------------------------------------- cores

    // Runs to their cores. Those of a gathered operand are turned round, from rows of a channel to channels of a row:
    // bytes lie diagonally in the banks, so that a word of either has one byte in each.
    static void turn(const Product& p, const Phase& phase, runs& turns, words& in, words out[C::cores]) {
        typename A::byte banks[C::bus_bytes][C::gather_bytes / C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = banks complete dim = 1
#pragma HLS BIND_STORAGE variable = banks type = ram_2p impl = lutram
        const int size = T::chunk_size(p, phase.chunk), row_words = M::words_of(size);
        Run run = turns.read();
    turn_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
        turn_words:
            for (int first = 0; first < run.bytes; first += C::bus_bytes) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const word w = in.read();
                if (!p.gathered) {
                    deliver(w, run, out);
                    continue;
                }
                for (int bank = 0; bank < C::bus_bytes; ++bank) {
#pragma HLS UNROLL
                    const int i = (bank + C::bus_bytes - run.channel % C::bus_bytes) % C::bus_bytes;
                    if (first + i < run.bytes) {
                        banks[bank][run.channel / C::bus_bytes * run.bytes + first + i] = C::get_byte(w, i);
                    }
                }
            }
            if (p.gathered && run.channel == size - 1) {
            turn_rows:
                for (int row = 0; row < run.bytes; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                turn_row_words:
                    for (int k = 0; k < row_words; ++k) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
                        word w;
                        for (int bank = 0; bank < C::bus_bytes; ++bank) {
#pragma HLS UNROLL
                            const int i = (bank + C::bus_bytes - row % C::bus_bytes) % C::bus_bytes;
                            C::set_byte(w, i, banks[bank][k * run.bytes + row]);
                        }
                        deliver(w, run, out);
                    }
                }
            }
            run = turns.read();
        }
    }

    static void deliver(const word& w, const Run& run, words out[C::cores]) {
#pragma HLS INLINE
        for (int k = 0; k < C::cores; ++k) {
#pragma HLS UNROLL
            if (k >= run.core && k <= run.last_core) out[k].write(w);
        }
    }

    // Run by run, and with spatial differences the columns right of the image.
    static void encode_block(const Product& p, const Phase& phase, const Block& block, hls::stream<Place<C>>& places,
                             words& current, words& previous, DigitLists<C>& lists, EncodeCounters& counters) {
        if (block.rows == 0) return;
        const int size = T::chunk_size(p, phase.chunk), pixels = p.gathered ? 1 : p.segment_pixels;
        const int rows = p.gathered ? block.rows : block.high - block.low, columns = p.gathered ? 1 : p.width;
        const int runs = rows * (columns / pixels), width = columns + p.extra_columns;
        const int stride = p.stride_width < width ? p.stride_width : width;
        const Reference reference = p.difference ? PREVIOUS_STEP : p.spatial ? NEIGHBOUR : ZERO;
        Neighbours<C> neighbours;
#pragma HLS ARRAY_RESHAPE variable = neighbours.words complete dim = 2
#pragma HLS ARRAY_PARTITION variable = neighbours.latest complete dim = 0
#pragma HLS ARRAY_PARTITION variable = neighbours.addresses complete
#pragma HLS BIND_STORAGE variable = neighbours.words type = ram_2p impl = bram
        neighbours.start();
    encode_runs:
        for (int run = 0; run < runs; ++run) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::positions
            Place<C> place;
            place.row = run;
            place.column = 0;
            if (!p.gathered) place = places.read();
            const bool ends_row = int(place.column) + pixels == columns && p.extra_columns > 0;
            if (T::chained_block(p)) {  // the block is one row
                place.column = place.column + place.row * columns;
                place.row = 0;
            }
        encode_run_and_outside:
            for (int outside = 0; outside <= int(ends_row); ++outside) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 2
                if (outside) place.column = columns;
                Encoder<C>::encode(current, previous, reference, outside, outside ? int(p.extra_columns) : pixels, size,
                                   place, width, T::chained_block(p) ? 1 : stride, neighbours, lists, counters);
            }
        }
    }

    // Turning a gathered operand round takes a cycle for each word that leaves, one core after the other.
    static void tally(const Product& p, const Phase& phase, const Block blocks[C::cores],
                      const EncodeCounters encoded[C::cores], count_t input_beats, count_t previous_beats,
                      count_t kept_beats, count_t merged_beats, OperandCounters& counters) {
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
            turning += rows;
        }
        counters.input_beats += input_beats;
        counters.previous_beats += previous_beats;
        counters.kept_beats += kept_beats;
        counters.merged_beats += merged_beats;
        count_t cycles = input_beats > previous_beats ? input_beats : previous_beats;
        if (encoders > cycles) cycles = encoders;
        counters.lean_cycles += cycles + turning;
        counters.cycles += (kept_beats > cycles ? kept_beats : cycles) + turning;
    }

    // Rows from ACTIVATIONS to STATE as they are.
    static void copy(const word* activations, word* state_out, const CopiedRows& rows, OperandCounters& counters) {
#pragma HLS DATAFLOW
        words copied("copied");
#pragma HLS STREAM variable = copied depth = 64
        count_t input_beats = 0, kept_beats = 0, merged_beats = 0;
        copy_in(activations, rows, copied, input_beats);
        copy_out(state_out, rows, copied, kept_beats, merged_beats);
        tally_copy(input_beats, kept_beats, merged_beats, counters);
    }

    static void copy_in(const word* activations, const CopiedRows& rows, words& copied, count_t& beats) {
    copy_in_rows:
        for (int row = 0; row < rows.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::read(activations, rows.source + row * rows.source_pitch, rows.bytes, copied, beats);
        }
    }

    static void copy_out(word* state_out, const CopiedRows& rows, words& copied, count_t& beats, count_t& merged) {
    copy_out_rows:
        for (int row = 0; row < rows.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::write(state_out, rows.target + row * rows.target_pitch, rows.bytes, copied, beats, merged);
        }
    }

    static void tally_copy(count_t input_beats, count_t kept_beats, count_t merged_beats, OperandCounters& counters) {
        counters.input_beats += input_beats;
        counters.kept_beats += kept_beats;
        counters.merged_beats += merged_beats;
        counters.cycles += input_beats > kept_beats ? input_beats : kept_beats;
    }
};

}  // namespace ditto
