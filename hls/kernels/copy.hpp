// Rows of an operand that are kept for the next step without being encoded.
#pragma once

#include "encoder.hpp"

namespace ditto {

struct OperandCounters {
    EncodeCounters encode;
    count_t input_beats, previous_beats, kept_beats, merged_beats;  // merged: of what is kept
    count_t cycles, lean_cycles;                                    // lean: if nothing were kept
};

// Rows that are kept without being encoded.
struct CopiedRows {
    int count, bytes;
    address_t source, source_pitch, target, target_pitch;  // ACTIVATIONS, STATE
};

template <class C>
struct Copy {
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename M::words words;

    // Rows from ACTIVATIONS to STATE as they are.
    static void run(const word* activations, word* state_out, const CopiedRows& rows,
                     hls::stream<OperandCounters>& counters) {
#pragma HLS DATAFLOW
        words copied("copied");
        hls::stream<count_t> read;
        hls::stream<WriteCounters> written;
#pragma HLS STREAM variable = copied depth = 64
        copy_in(activations, rows, copied, read);
        copy_out(state_out, rows, copied, written);
        tally_copy(read, written, counters);
    }

    static void copy_in(const word* activations, const CopiedRows& rows, words& copied, hls::stream<count_t>& counted) {
        count_t beats = 0;
    copy_in_rows:
        for (int row = 0; row < rows.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::read(activations, rows.source + row * rows.source_pitch, rows.bytes, copied, beats);
        }
        counted.write(beats);
    }

    static void copy_out(word* state_out, const CopiedRows& rows, words& copied, hls::stream<WriteCounters>& counted) {
        WriteCounters counters;
        counters.beats = counters.merged = 0;
    copy_out_rows:
        for (int row = 0; row < rows.count; ++row) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
            M::write(state_out, rows.target + row * rows.target_pitch, rows.bytes, copied, counters.beats,
                     counters.merged);
        }
        counted.write(counters);
    }

    static void tally_copy(hls::stream<count_t>& read, hls::stream<WriteCounters>& written,
                           hls::stream<OperandCounters>& counters) {
        const WriteCounters of_kept = written.read();
        OperandCounters all = {};
        all.input_beats = read.read();
        all.kept_beats = of_kept.beats;
        all.merged_beats = of_kept.merged;
        all.cycles = all.input_beats > all.kept_beats ? all.input_beats : all.kept_beats;
        counters.write(all);
    }
};

}  // namespace ditto
