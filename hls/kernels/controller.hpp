// Controller: fetches descriptors and runs each on the linear or the vector unit.
#pragma once

#include "isa.hpp"
#include "linear.hpp"
#include "vector.hpp"

namespace ditto {

template <class C>
struct Controller {
    typedef Arithmetic<C> A;
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename A::byte byte;

    // Runs `count` descriptors; returns 0, or 1 + the index of one that is none.
    static uint32_t run(const word* program, const word* weights, const word* parameters, const word* activations,
                        word* activations_out, const word* state, word* state_out, const word* sums, word* sums_out,
                        word* counters, uint32_t count, LinearBuffers<C>& buffers) {
    run_descriptors:
        for (uint32_t i = 0; i < count; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 256
            Descriptor d, next;
            Scalars s, next_scalars;
            Counters record = {}, next_record = {};
            fetch(program, parameters, i, d, s, record);
            if (d.opcode == CONVOLUTION && d.channel_groups > 1 && i + 1 < count) {
                ++i;
                fetch(program, parameters, i, next, next_scalars, next_record);
                if (next.opcode != GROUP_NORM) return i + 1;
                overlap(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, d, s, next,
                        next_scalars, buffers, record, next_record);
                store_counters(counters, next.node, next_record);
            } else {
                if (!execute(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, d, s, buffers,
                             record)) {
                    return i + 1;
                }
                const count_t dram = dram_cycles(record.cycles, traffic(record));
                record.cycles = dram + START_CYCLES;
            }
            store_counters(counters, d.node, record);
        }
        return 0;
    }

    static void fetch(const word* program, const word* parameters, uint32_t index, Descriptor& d, Scalars& s, Counters& record) {
        byte raw[DESCRIPTOR_BYTES], raw_scalars[SCALARS_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
#pragma HLS ARRAY_PARTITION variable = raw_scalars complete
        count_t beats = 0;
        M::load(program, index * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES, raw, beats);
        d = unpack_descriptor<C>(raw);
        M::load(parameters, d.scalars, SCALARS_BYTES, raw_scalars, beats);
        s = unpack_scalars<C>(raw_scalars);
        record.parameter_beats += beats;
        record.cycles += beats;
    }

    // A convolution in groups of output channels, each normalized while the next one is computed (Diff-Acc). The
    // convolution's cycles are those of the overlap, the normalization's are those of the last group.
    static void overlap(const word* weights, const word* parameters, const word* activations, word* activations_out,
                        const word* state, word* state_out, const word* sums, word* sums_out, const Descriptor& d,
                        const Scalars& s, const Descriptor& next, const Scalars& next_scalars, LinearBuffers<C>& buffers,
                        Counters& record, Counters& next_record) {
        const Product p = convolution_product(d, s);
        const VectorOperation op = vector_operation(next, next_scalars);
        NormOperation norm = norm_operation(next, next_scalars);
        const int parts = d.channel_groups, tiles = Tiling<C>::tiles(p) / parts, groups = norm.groups / parts;
        count_t overlapped = record.cycles + next_record.cycles, last = 0;
    overlap_groups:
        for (int part = 0; part <= parts; ++part) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min = 3 max = 5
            LinearCounters linear = {};
            VectorCounters vector = {};
            if (part < parts) {
                Linear<C>::run(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, p,
                               part * tiles, (part + 1) * tiles, buffers, linear);
            }
            if (part > 0) {
                norm.first_group = (part - 1) * groups;
                norm.end_group = part * groups;
                Vector<C>::normalize(parameters, activations, activations_out, op, norm, vector);
            }
            if (part < parts) {
                overlapped += linear.cycles > vector.cycles ? linear.cycles : vector.cycles;
            } else {
                last = vector.cycles;
            }
            add(record, linear);
            add(next_record, vector);
        }
        record.cycles = dram_cycles(overlapped + last, traffic(record) + traffic(next_record)) - last + START_CYCLES;
        next_record.cycles = last + START_CYCLES;
    }

    static count_t traffic(const Counters& record) {
        return record.weight_beats + record.input_beats + record.previous_beats + record.accumulator_read_beats +
               record.parameter_beats + record.merged_beats + record.output_beats + record.kept_beats +
               record.accumulator_write_beats;
    }

    // At least what the board's DRAM needs for the traffic of all ports together.
    static count_t dram_cycles(count_t cycles, count_t beats) {
        const count_t dram = (beats * C::bus_bytes * 1000 + C::dram_bytes_per_kilocycle - 1) / C::dram_bytes_per_kilocycle;
        return dram > cycles ? dram : cycles;
    }

    static void store_counters(word* counters, uint32_t node, const Counters& record) {
        static_assert(COUNTERS_BYTES % C::bus_bytes == 0, "counter records are whole beats");
        byte raw[COUNTERS_BYTES];
        pack_counters<C>(record, raw);
        M::store(counters, node * COUNTERS_BYTES, COUNTERS_BYTES, raw);
    }

    static void add(Counters& record, const VectorCounters& counted) {
        record.cycles += counted.cycles;
        record.vector_cycles += counted.vectors;
        record.input_beats += counted.input_beats;
        record.output_beats += counted.output_beats;
        record.parameter_beats += counted.parameter_beats;
        record.merged_beats += counted.merged_beats;
    }

    static void add(Counters& record, const LinearCounters& counted) {
        record.cycles += counted.cycles;
        record.compute_cycles += counted.compute.cycles;
        record.tap_cycles += counted.compute.taps;
        record.encode_cycles += counted.encode.words;
        record.vector_cycles += counted.vectors;
        record.weight_beats += counted.weight_beats;
        record.input_beats += counted.input_beats;
        record.previous_beats += counted.previous_beats;
        record.accumulator_read_beats += counted.accumulator_reads;
        record.parameter_beats += counted.parameter_beats;
        record.merged_beats += counted.merged_beats;
        record.output_beats += counted.output_beats;
        record.kept_beats += counted.kept_beats;
        record.accumulator_write_beats += counted.accumulator_writes;
        record.elements += counted.encode.elements;
        record.zeros += counted.encode.zeros;
        record.narrow += counted.encode.narrow;
        record.digits += counted.encode.digits;
        record.products += counted.compute.products;
        record.dense_products += counted.dense_products;
    }

    static bool execute(const word* weights, const word* parameters, const word* activations, word* activations_out,
                        const word* state, word* state_out, const word* sums, word* sums_out, const Descriptor& d, const Scalars& s, LinearBuffers<C>& buffers,
                        Counters& record) {
        VectorCounters vector = {};
        LinearCounters linear = {};
        const VectorOperation op = vector_operation(d, s);
        switch (d.opcode) {
            case CONVOLUTION:
                convolve(weights, parameters, activations, activations_out, state, state_out, sums, sums_out,
                         convolution_product(d, s), buffers, linear);
                break;
            case SCORES:
            case MIX:
                attend(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, d, s, buffers, linear);
                break;
            case GROUP_NORM:
            case LAYER_NORM:
                Vector<C>::normalize(parameters, activations, activations_out, op, norm_operation(d, s), vector);
                break;
            case ADD:
                Vector<C>::elementwise(activations, activations_out, op, true, vector);
                break;
            case ACTIVATE:
                Vector<C>::elementwise(activations, activations_out, op, false, vector);
                break;
            case SOFTMAX:
                Vector<C>::softmax(activations, activations_out, op, s.reciprocal_scale, vector);
                break;
            case AVERAGE_POOL:
                Vector<C>::average_pool(activations, activations_out, op, vector);
                break;
            case UPSAMPLE:
                Vector<C>::upsample(activations, activations_out, op, vector);
                break;
            default:
                return false;
        }
        add(record, linear);
        add(record, vector);
        return true;
    }

    // ------------------------------------------------------------------------------------------------- vector unit

    static VectorOperation vector_operation(const Descriptor& d, const Scalars& s) {
        VectorOperation op = {};
        op.samples = d.batch;
        op.height = d.height;
        op.width = d.width;
        op.channels = d.channels;
        op.output_height = d.output_height;
        op.output_width = d.output_width;
        op.factor = d.stride_height;
        op.input = d.input;
        op.other = d.other;
        op.output = d.output;
        op.input_pitch = d.input_pitch;
        op.other_pitch = d.other_pitch;
        op.output_pitch = d.output_pitch;
        op.code_input = d.flags & FLAG_CODE_INPUT;
        op.code_output = d.flags & FLAG_CODE_OUTPUT;
        op.finish.activation = d.flags & FLAG_SILU ? SILU : (d.flags & FLAG_GELU ? GELU : NO_ACTIVATION);
        op.finish.fraction_bits = d.activation_bits;
        op.finish.quantize = d.flags & FLAG_QUANTIZE;
        op.finish.fine = d.flags & FLAG_FINE;
        op.finish.multiplier = s.quantize_multiplier;
        op.finish.shift = s.quantize_shift;
        op.multiplier0 = s.multiplier0;
        op.multiplier1 = s.multiplier1;
        op.shift = s.shift;
        return op;
    }

    static NormOperation norm_operation(const Descriptor& d, const Scalars& s) {
        NormOperation norm = {};
        norm.groups = d.groups;
        norm.first_group = 0;
        norm.end_group = d.groups;
        norm.per_pixel = d.opcode == LAYER_NORM;
        norm.conditional = d.flags & FLAG_CONDITIONAL;
        norm.gain_bits = s.gain_bits;
        norm.gain = d.vector0;
        norm.offset = d.vector1;
        norm.sample_stride = d.sample_stride;
        norm.epsilon = s.epsilon;
        return norm;
    }

    // ------------------------------------------------------------------------------------------------- linear unit

    static void convolve(const word* weights, const word* parameters, const word* activations, word* activations_out,
                         const word* state, word* state_out, const word* sums, word* sums_out, const Product& p,
                         LinearBuffers<C>& buffers, LinearCounters& counters) {
        Linear<C>::run(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, p, 0,
                       Tiling<C>::tiles(p), buffers, counters);
    }

    static Product convolution_product(const Descriptor& d, const Scalars& s) {
        Product p = {};
        p.samples = d.batch;
        p.height = d.height;
        p.width = d.width;
        p.channels = d.channels;
        p.output_height = d.output_height;
        p.output_width = d.output_width;
        p.outputs = d.output_channels;
        p.kernel_height = d.kernel_height;
        p.kernel_width = d.kernel_width;
        p.stride_height = d.stride_height;
        p.stride_width = d.stride_width;
        p.pad_top = d.pad_top;
        p.pad_left = d.pad_left;
        p.input = d.input;
        p.input_pitch = d.input_pitch;
        p.kept_pitch = d.channels;
        p.layout = PACKED;
        p.weights = d.weights;
        p.accumulators = d.state_accumulators;
        p.accumulator_pixel = d.output_channels;
        p.accumulator_channel = 1;
        p.has_bias = true;
        p.conditional_bias = d.flags & FLAG_CONDITIONAL;
        p.bias = d.vector0;
        p.multipliers = d.vector1;
        p.bias_stride = d.sample_stride;
        p.output = d.output;
        p.output_pitch = d.output_pitch;
        set_common(p, d, s);
        set_reference(p, s, d.state_input, d.state_input_span);
        return p;
    }

    static void set_common(Product& p, const Descriptor& d, const Scalars& s) {
        p.finish = true;
        p.code_output = d.flags & FLAG_CODE_OUTPUT;
        p.shift = s.shift;
        p.multiplier = s.multiplier0;
        p.keep_accumulators = s.keep_state;
        p.block_rows = d.block_rows;
        p.chunk_channels = d.chunk_channels;
        p.pass_tiles = d.pass_tiles;
        p.segment_pixels = d.segment_pixels;
        p.resident = d.flags & FLAG_RESIDENT;
    }

    // The reference of the encoded operand, and where it is kept for the next step.
    static void set_reference(Product& p, const Scalars& s, address_t kept, address_t span) {
        p.difference = s.reference == PREVIOUS_STEP;
        p.add_accumulators = p.difference;
        p.keep_input = s.keep_state;
        p.kept = kept + (s.parity ? span : 0);
        p.previous = kept + (s.parity ? 0 : span);
    }

    // A product of every sample and head: left . right, or with differences left . d(right), kept, then d(left) . right_prev.
    static void attend(const word* weights, const word* parameters, const word* activations, word* activations_out,
                       const word* state, word* state_out, const word* sums, word* sums_out, const Descriptor& d, const Scalars& s, LinearBuffers<C>& buffers,
                       LinearCounters& counters) {
        const bool difference = s.reference == PREVIOUS_STEP;
    attend_samples:
        for (uint32_t sample = 0; sample < d.batch; ++sample) {
        attend_heads:
            for (uint32_t head = 0; head < d.groups; ++head) {
                if (difference) {
                    const Product second = second_product(d, s, sample, head);
                    Linear<C>::run(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, second, 0,
                                   Tiling<C>::tiles(second), buffers, counters);
                }
                const Product first = first_product(d, s, sample, head);
                Linear<C>::run(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, first, 0,
                               Tiling<C>::tiles(first), buffers, counters);
                if (!difference && s.keep_state) keep_other(activations, state_out, d, s, sample, head, counters);
            }
        }
    }

    // Sizes of an attention product: rows x inner times inner x columns, per head.
    struct Sizes {
        int rows, inner, columns;
    };

    static Sizes sizes_of(const Descriptor& d) {
        if (d.opcode == SCORES) return {int(d.output_width), int(d.channels / d.groups), int(d.output_channels)};
        return {int(d.width), int(d.channels), int(d.output_channels / d.groups)};
    }

    // Where the codes of one sample and head begin, and how far it is from token to token; `kept` in STATE.
    static void left_place(const Descriptor& d, int sample, int head, address_t& first, int& pitch, address_t& kept, int& kept_pitch) {
        const Sizes n = sizes_of(d);
        if (d.opcode == SCORES) {
            first = d.input + address_t(sample) * n.rows * d.input_pitch + head * n.inner;
            kept = address_t(sample) * n.rows * d.channels + head * n.inner;
            pitch = d.input_pitch;
            kept_pitch = d.channels;
        } else {
            const address_t row = (address_t(sample) * d.groups + head) * n.rows;
            first = d.input + row * d.input_pitch;
            kept = row * n.inner;
            pitch = d.input_pitch;
            kept_pitch = n.inner;
        }
    }

    static void right_place(const Descriptor& d, int sample, int head, address_t& first, int& pitch, address_t& kept, int& kept_pitch) {
        const Sizes n = sizes_of(d);
        const int tokens = d.opcode == SCORES ? n.columns : n.inner, width = d.opcode == SCORES ? n.inner : n.columns;
        first = d.other + address_t(sample) * tokens * d.other_pitch + head * width;
        pitch = d.other_pitch;
        kept_pitch = width * d.groups;
        kept = address_t(sample) * tokens * kept_pitch + head * width;
    }

    static void set_attention(Product& p, const Descriptor& d, int rows, int inner, int columns, int sample, int head) {
        const Sizes n = sizes_of(d);
        p.samples = 1;
        p.height = p.output_height = rows;
        p.width = p.output_width = 1;
        p.channels = inner;
        p.outputs = columns;
        p.kernel_height = p.kernel_width = p.stride_height = p.stride_width = 1;
        p.accumulators = d.state_accumulators + 4 * (address_t(sample) * d.groups + head) * n.rows * n.columns;
        p.shared_multiplier = true;
    }

    // left . right, or d(left) . right_prev: requantized and written.
    static Product first_product(const Descriptor& d, const Scalars& s, int sample, int head) {
        const Sizes n = sizes_of(d);
        Product p = {};
        set_attention(p, d, n.rows, n.inner, n.columns, sample, head);
        set_common(p, d, s);
        p.segment_pixels = 1;
        address_t kept, right, right_kept;
        int right_pitch, right_kept_pitch;
        left_place(d, sample, head, p.input, p.input_pitch, kept, p.kept_pitch);
        set_reference(p, s, d.state_input + kept, d.state_input_span);
        right_place(d, sample, head, right, right_pitch, right_kept, right_kept_pitch);
        p.layout = d.opcode == SCORES ? ROWS : COLUMNS;
        p.weights_in_state = p.difference;
        p.weights = p.difference ? d.state_other + (s.parity ? 0 : d.state_other_span) + right_kept : right;
        p.weight_pitch = p.difference ? right_kept_pitch : right_pitch;
        p.accumulator_pixel = n.columns;
        p.accumulator_channel = 1;
        if (d.opcode == SCORES) {
            p.output = d.output + 2 * (address_t(sample) * d.groups + head) * n.rows * d.output_pitch;
        } else {
            p.output = d.output + (address_t(sample) * n.rows * d.output_pitch + head * n.columns) * (p.code_output ? 1 : 2);
        }
        p.output_pitch = d.output_pitch;
        return p;
    }

    // left . d(right), transposed: the right operand is encoded, the left one stands as weights. Kept, not written.
    static Product second_product(const Descriptor& d, const Scalars& s, int sample, int head) {
        const Sizes n = sizes_of(d);
        Product p = {};
        set_attention(p, d, n.columns, n.inner, n.rows, sample, head);
        set_common(p, d, s);
        p.finish = false;
        p.keep_accumulators = true;
        p.block_rows = d.other_block_rows;
        p.chunk_channels = d.other_chunk_channels;
        p.pass_tiles = d.other_pass_tiles;
        p.segment_pixels = 1;
        p.resident = d.flags & FLAG_OTHER_RESIDENT;
        p.gathered = d.opcode == MIX;
        address_t kept, left_kept;
        int left_kept_pitch;
        right_place(d, sample, head, p.input, p.input_pitch, kept, p.kept_pitch);
        set_reference(p, s, d.state_other + kept, d.state_other_span);
        left_place(d, sample, head, p.weights, p.weight_pitch, left_kept, left_kept_pitch);
        p.layout = ROWS;
        p.accumulator_pixel = 1;
        p.accumulator_channel = n.columns;
        return p;
    }

    // Without a second product nothing has kept the right operand yet.
    static void keep_other(const word* activations, word* state_out, const Descriptor& d, const Scalars& s, int sample, int head,
                           LinearCounters& counters) {
        const Sizes n = sizes_of(d);
        const int tokens = d.opcode == SCORES ? n.columns : n.inner, width = d.opcode == SCORES ? n.inner : n.columns;
        address_t first, kept;
        int pitch, kept_pitch;
        right_place(d, sample, head, first, pitch, kept, kept_pitch);
        kept += d.state_other + (s.parity ? d.state_other_span : 0);
        count_t read = 0, written = 0, merged = 0;
        const typename Vector<C>::Rows from = {first, address_t(pitch), width, tokens};
        const typename Vector<C>::Rows to = {kept, address_t(kept_pitch), width, tokens};
        copy(activations, state_out, from, to, read, written, merged);
        counters.merged_beats += merged;
        counters.input_beats += read;
        counters.kept_beats += written;
        counters.cycles += read > written ? read : written;
    }

    static void copy(const word* source, word* target, const typename Vector<C>::Rows& from, const typename Vector<C>::Rows& to,
                     count_t& read, count_t& written, count_t& merged) {
#pragma HLS DATAFLOW
        typename M::words rows, no_residues;
#pragma HLS STREAM variable = rows depth = 64
        Vector<C>::read_rows(source, from, rows, read);
        Vector<C>::write_rows(target, to, 0, false, rows, no_residues, written, merged);
    }
};

}  // namespace ditto
