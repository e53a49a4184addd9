// Vector unit: what lies between linear operators, on values, a beat of them (`vector_width`) a cycle.
//
//   for each pass:  read rows || compute || write rows
//
// Each operator is the one of the same name in hls/contract/operators; normalization takes two passes, one for sums and
// one to apply. A fused activation and a fused quantizer follow the operator element by element.
#pragma once

#include "line.hpp"
#include "norm.hpp"
#include "pool.hpp"
#include "softmax.hpp"
#include "upsample.hpp"

namespace ditto {

template <class C>
struct Vector {
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename M::words words;

    // An operator: one pass, or, normalizing, two for every set of pixels that belong together.
    static void run(const word* parameters, const word* values, word* values_out, const VectorOperation& op,
                    const NormOperation& norm, VectorCounters& counters) {
        NormBuffers<C> buffers;
#pragma HLS ARRAY_PARTITION variable = buffers.gains cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.sums cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.offsets cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.intercepts cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.squares cyclic factor = C::vector_width
#pragma HLS ARRAY_PARTITION variable = buffers.slopes cyclic factor = C::vector_width
        const int per_group = op.normalize ? op.channels / norm.groups : op.channels;
        const int channel = op.normalize ? norm.first_group * per_group : 0;
        const int channels = op.normalize ? norm.end_group * per_group - channel : op.channels;
        const int image = op.kind == POOL ? op.output_height * op.output_width : op.height * op.width;
        const int all = op.samples * image, set = op.normalize ? (norm.per_pixel ? 1 : image) : all;
    run_sets:
        for (int first = 0; first < all; first += set) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
            if (op.normalize && (first == 0 || (norm.conditional && first % image == 0))) {
                const int sample = norm.conditional ? first / image : 0;
                Norm<C>::load_affine(parameters, norm, sample, channel, channels, buffers, counters);
            }
        run_passes:
            for (int pass = op.normalize ? 0 : 1; pass < 2; ++pass) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 2
                const Pass work = {pass == 0 ? SUMS : op.kind, first, set, channel, channels};
                if (op.normalize && pass == 1) Norm<C>::solve(norm, set, per_group, channels, buffers, counters);
                run_pass(values, values_out, op, work, buffers, counters);
            }
        }
    }

    static void run_pass(const word* values, word* values_out, const VectorOperation& op, const Pass& pass,
                         NormBuffers<C>& buffers, VectorCounters& counters) {
#pragma HLS DATAFLOW
        words left("left"), right("right"), results("results"), residues("residues");
#pragma HLS STREAM variable = left depth = 64
#pragma HLS STREAM variable = right depth = 64
#pragma HLS STREAM variable = results depth = 64
#pragma HLS STREAM variable = residues depth = 64
        hls::stream<count_t> read_beats, computed;
        hls::stream<WriteCounters> written;
        read(values, op, pass, left, right, read_beats);
        compute(left, right, op, pass, buffers, results, residues, computed);
        write(values_out, op, pass, results, residues, written);
        tally(read_beats, computed, written, counters);
    }

    static void tally(hls::stream<count_t>& read_beats, hls::stream<count_t>& computed,
                      hls::stream<WriteCounters>& written, VectorCounters& counters) {
        const count_t input = read_beats.read(), vectors = computed.read();
        const WriteCounters output = written.read();
        counters.input_beats += input;
        counters.vectors += vectors;
        counters.output_beats += output.beats;
        counters.merged_beats += output.merged;
        const count_t cycles = input > vectors ? input : vectors;
        counters.cycles += output.beats > cycles ? output.beats : cycles;
    }

    // Pixels one after the other, those of a second operand in turn with them; for a pool all pixels of a window.
    static void read(const word* values, const VectorOperation& op, const Pass& pass, words& left, words& right,
                     hls::stream<count_t>& counted) {
        count_t beats = 0;
        const int members = pass.kind == POOL ? op.factor * op.factor : 1, size = input_bytes(op);
    read_pixels:
        for (int i = 0; i < pass.pixels; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 1024
        read_members:
            for (int member = 0; member < members; ++member) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
                const int first = pass.first_pixel + i;
                const int pixel = pass.kind == POOL ? Pool<C>::window_pixel(op, first, member) : first;
                const address_t place = op.input + (address_t(pixel) * op.input_pitch + pass.channel) * size;
                M::read(values, place, pass.channels * size, left, beats);
                if (op.add || op.multiply) {
                    const address_t other = op.other + Values<C>::bytes * address_t(pixel) * op.other_pitch;
                    M::read(values, other, Values<C>::bytes * pass.channels, right, beats);
                }
            }
        }
        counted.write(beats);
    }

    static void compute(words& left, words& right, const VectorOperation& op, const Pass& pass, NormBuffers<C>& buffers,
                        words& results, words& residues, hls::stream<count_t>& counted) {
        count_t vectors = 0;
        switch (pass.kind) {
            case LINE: Line<C>::rows(left, right, op, pass, buffers, results, residues, vectors); break;
            case SUMS: Norm<C>::sum_rows(left, pass, buffers, vectors); break;
            case SOFTMAX_ROWS: Softmax<C>::rows(left, op, pass.pixels, results, vectors); break;
            case POOL: Pool<C>::rows(left, op, pass.pixels, results, vectors); break;
            case COPIES: Upsample<C>::rows(left, op, pass, results, vectors); break;
        }
        counted.write(vectors);
    }

    // Results pixel by pixel, behind the codes of all channels their residues; an upsampled pixel to all its places.
    static void write(word* values_out, const VectorOperation& op, const Pass& pass, words& results, words& residues,
                      hls::stream<WriteCounters>& counted) {
        WriteCounters counters;
        counters.beats = counters.merged = 0;
        const int size = output_bytes(op), pixels = pass.kind == SUMS ? 0 : pass.pixels;
    write_pixels:
        for (int i = 0; i < pixels; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 0 max = 1024
            const int source = pass.first_pixel + i;
            const Copies copies = pass.kind == COPIES ? Upsample<C>::copies_of(op, source) : Copies{0, 0, 1, 1};
        write_places:
            for (int place = 0; place < copies.rows * copies.columns; ++place) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
                const int pixel = pass.kind == COPIES ? Upsample<C>::copied_pixel(op, copies, place) : source;
                const address_t offset = op.output + (address_t(pixel) * op.output_pitch + pass.channel) * size;
                M::write(values_out, offset, pass.channels * size, results, counters.beats, counters.merged);
                if (op.finish.fine) {
                    M::write(values_out, offset + op.channels, pass.channels, residues, counters.beats,
                             counters.merged);
                }
            }
        }
        counted.write(counters);
    }
};

}  // namespace ditto
