// The encoding stage of a linear operator: the operand's codes from DRAM, and those of the previous step, to digit
// lists; and the codes that are kept for the next step back to DRAM.
//
//   list runs --> read --------------> turn --> encode (per core)
//            \--> read the previous -> turn ----^
//            \--> write what is kept (of what was read)
#pragma once

#include "copy.hpp"
#include "product.hpp"

namespace ditto {

// Operand codes that lie together in memory: pixels of a row, for one core and those after it whose blocks see the row
// too, or rows of a channel of a gathered operand.
struct Run {
    address_t input, state;  // from the start of the operand in ACTIVATIONS, and of a kept one in STATE
    int bytes, core, last_core, channel;
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
    typedef hls::stream<typename M::sum_t> sums;

    // Digit lists of every core's block, and of weighted means the sums of its rows' codes, row by row of all cores in
    // turn. Cycles: the fullest of the ports and of the cores' encoders.
    static void encode(const word* activations, const word* state, word* state_out, const Product& p,
                       const Phase& phase, DigitLists<C>& lists, sums& row_sums,
                       hls::stream<OperandCounters>& counters) {
        Block blocks[C::cores];
#pragma HLS ARRAY_PARTITION variable = blocks complete
        T::blocks_of(p, phase, blocks);
        EncodedRuns encoded[C::cores];
#pragma HLS ARRAY_PARTITION variable = encoded complete
        encoded_runs(p, phase, blocks, encoded);
        encode_blocks(activations, state, state_out, p, phase, blocks, encoded, lists, row_sums, counters);
    }

    static void encode_blocks(const word* activations, const word* state, word* state_out, const Product& p,
                              const Phase& phase, const Block blocks[C::cores], const EncodedRuns encoded[C::cores],
                              DigitLists<C>& lists, sums& row_sums, hls::stream<OperandCounters>& counters) {
#pragma HLS DATAFLOW
        runs reads("reads"), previous_reads("previous_reads"), turns("turns"), previous_turns("previous_turns");
        runs writes("writes");
        words kept("kept"), read("read"), previous_read("previous_read"), current[C::cores], previous[C::cores];
        hls::stream<Place<C>> places[C::cores];
        hls::stream<EncodeCounters> of_cores[C::cores];
        hls::stream<count_t> input_beats, previous_beats, turned, previous_turned;
        hls::stream<WriteCounters> written;
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
        list_runs(p, phase, blocks, reads, previous_reads, turns, previous_turns, writes, places);
        read_current(activations, p, reads, read, kept, row_sums, input_beats);
        read_previous(state, p, previous_reads, previous_read, previous_beats);
        turn(p, phase, turns, read, current, turned);
        turn(p, phase, previous_turns, previous_read, previous, previous_turned);
    encode_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            Encoder<C>::encode(encoded[core], places[core], current[core], previous[core], lists.entries[core],
                               lists.counts[core], of_cores[core]);
        }
        write_kept(state_out, p, writes, kept, written);
        tally(of_cores, input_beats, previous_beats, turned, previous_turned, written, counters);
    }

    // What every core's encoder gets. Of a gathered operand a run is a row of all channels.
    static void encoded_runs(const Product& p, const Phase& phase, const Block blocks[C::cores],
                             EncodedRuns encoded[C::cores]) {
        EncodedRuns of;
        of.reference = p.difference ? PREVIOUS_STEP : p.spatial ? NEIGHBOUR : ZERO;
        of.placed = !p.gathered;
        of.pixels = p.gathered ? 1 : int(p.segment_pixels);
        of.channels = T::chunk_size(p, phase.chunk);
        of.columns = p.gathered ? 1 : int(p.width);
        of.outside = p.extra_columns;
        of.width = of.columns + of.outside;
        of.distance = T::chained_block(p) ? 1 : p.stride_width < of.width ? int(p.stride_width) : of.width;
        const int segments = p.gathered ? 1 : p.width / p.segment_pixels;
    encoded_runs_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            const Block& block = blocks[core];
            of.runs = p.gathered ? block.rows : block.rows == 0 ? 0 : (block.high - block.low) * segments;
            encoded[core] = of;
        }
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
                            places[other].write(place_of(p, y - blocks[other].low, segment * p.segment_pixels));
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

    // A chained block is one row.
    static Place<C> place_of(const Product& p, int row, int column) {
#pragma HLS INLINE
        const bool chained = T::chained_block(p);
        const int width = p.width + p.extra_columns;
        const int distance = p.stride_width < width ? int(p.stride_width) : width;
        Place<C> place;
        place.row = chained ? 0 : row;
        place.column = chained ? column + row * p.width : column;
        place.phase = chained ? 0 : column % distance;
        return place;
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
                             sums& row_sums, hls::stream<count_t>& counted) {
        count_t beats = 0;
        Run run = reads.read();
    read_current_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            const typename M::sum_t sum =
                M::read_twice(activations, p.input + run.input, run.bytes, read, kept, run.keep, beats);
            if (p.weighted_mean) row_sums.write(sum);
            run = reads.read();
        }
        counted.write(beats);
    }

    static void read_previous(const word* state, const Product& p, runs& reads, words& read,
                              hls::stream<count_t>& counted) {
        count_t beats = 0;
        Run run = reads.read();
    read_previous_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::read(state, p.previous + run.state, run.bytes, read, beats);
            run = reads.read();
        }
        counted.write(beats);
    }

    static void write_kept(word* state_out, const Product& p, runs& writes, words& kept,
                           hls::stream<WriteCounters>& counted) {
        WriteCounters counters;
        counters.beats = counters.merged = 0;
        Run run = writes.read();
    write_kept_runs:
        while (!run.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
            M::write(state_out, p.kept + run.state, run.bytes, kept, counters.beats, counters.merged);
            run = writes.read();
        }
        counted.write(counters);
    }

    // ------------------------------------------------------------------------------------------------- cores

    // Runs to their cores. Those of a gathered operand are turned round, from rows of a channel to channels of a row:
    // bytes lie diagonally in the banks, so that a word of either has one byte in each.
    // Counts the words that leave turned round.
    static void turn(const Product& p, const Phase& phase, runs& turns, words& in, words out[C::cores],
                     hls::stream<count_t>& counted) {
        typename A::byte banks[C::bus_bytes][C::gather_bytes / C::bus_bytes];
#pragma HLS ARRAY_PARTITION variable = banks complete dim = 1
#pragma HLS BIND_STORAGE variable = banks type = ram_2p impl = lutram
        const int size = T::chunk_size(p, phase.chunk), row_words = M::words_of(size);
        count_t turned = 0;
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
                        ++turned;
                    }
                }
            }
            run = turns.read();
        }
        counted.write(turned);
    }

    static void deliver(const word& w, const Run& run, words out[C::cores]) {
#pragma HLS INLINE
        for (int k = 0; k < C::cores; ++k) {
#pragma HLS UNROLL
            if (k >= run.core && k <= run.last_core) out[k].write(w);
        }
    }

    // Turning a gathered operand round takes a cycle for each word that leaves, one core after the other.
    static void tally(hls::stream<EncodeCounters> of_cores[C::cores], hls::stream<count_t>& input_beats,
                      hls::stream<count_t>& previous_beats, hls::stream<count_t>& turned,
                      hls::stream<count_t>& previous_turned, hls::stream<WriteCounters>& written,
                      hls::stream<OperandCounters>& counters) {
        OperandCounters all;
        all.encode.words = all.encode.elements = all.encode.zeros = all.encode.narrow = all.encode.digits = 0;
        count_t encoders = 0;
    tally_cores:
        for (int core = 0; core < C::cores; ++core) {
#pragma HLS UNROLL
            const EncodeCounters of_core = of_cores[core].read();
            all.encode.words += of_core.words;
            all.encode.elements += of_core.elements;
            all.encode.zeros += of_core.zeros;
            all.encode.narrow += of_core.narrow;
            all.encode.digits += of_core.digits;
            if (of_core.words > encoders) encoders = of_core.words;
        }
        const WriteCounters of_kept = written.read();
        const count_t turning = turned.read();
        previous_turned.read();  // as many, at the same time
        all.input_beats = input_beats.read();
        all.previous_beats = previous_beats.read();
        all.kept_beats = of_kept.beats;
        all.merged_beats = of_kept.merged;
        count_t cycles = all.input_beats > all.previous_beats ? all.input_beats : all.previous_beats;
        if (encoders > cycles) cycles = encoders;
        all.lean_cycles = cycles + turning;
        all.cycles = (all.kept_beats > cycles ? all.kept_beats : cycles) + turning;
        counters.write(all);
    }
};

}  // namespace ditto
