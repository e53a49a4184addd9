// Steps: what the linear and the vector unit do at the same time, one after the other, for a descriptor.
#pragma once

#include "isa.hpp"
#include "linear.hpp"
#include "vector_unit/unit.hpp"

namespace ditto {

// What the two units do at the same time.
struct Step {
    bool linear, copy, vector;
    Product product;
    int first_tile, end_tile;
    CopiedRows rows;
    VectorOperation operation;
    NormOperation norm;
};

template <class C>
struct Steps {
    typedef Tiling<C> T;

    // A convolution that overlaps with the GroupNorm after it (Diff-Acc's channel groups) takes a step for each group and one
    // for the last group's normalization; an attention product one for each sample, window and head and, with
    // differences, two.
    static int count(const Descriptor& d, const Scalars& s, bool overlapped) {
        if (overlapped) return int(d.channel_groups) + 1;
        if (d.opcode == SCORES || d.opcode == MIX) return int(d.batch * d.windows * d.groups) * (two_products(d, s) ? 2 : 1);
        return 1;
    }

    // Of an attention product whose operands both change.
    static bool two_products(const Descriptor& d, const Scalars& s) {
        return s.reference == PREVIOUS_STEP && !(d.flags & FLAG_CONSTANT_OTHER);
    }

    // `overlapped`: step `index` of a convolution and the GroupNorm after it; `paired`: of a linear operation, and all of the
    // vector operation `next` with the first one.
    static Step at(const Descriptor& d, const Scalars& s, const Descriptor& next, const Scalars& next_scalars,
                        bool overlapped, bool paired, int index) {
        Step step = {};
        if (paired && index == 0 && !next_scalars.skip) set_vector(step, next, next_scalars);
        if (s.skip) return step;
        if (overlapped) {
            const int parts = d.channel_groups, groups = next.groups / parts;
            set_convolution(step, d, s);
            const int tiles = step.end_tile / parts;
            step.linear = index < parts;
            step.first_tile = index * tiles;
            step.end_tile = (index + 1) * tiles;
            set_vector(step, next, next_scalars);
            step.vector = index > 0;
            step.norm.first_group = (index - 1) * groups;
            step.norm.end_group = index * groups;
        } else if (d.opcode == CONVOLUTION) {
            set_convolution(step, d, s);
        } else if (d.opcode == SCORES || d.opcode == MIX) {
            set_attention_step(step, d, s, index);
        } else {
            set_vector(step, d, s);
        }
        return step;
    }

    static void set_convolution(Step& step, const Descriptor& d, const Scalars& s) {
        step.linear = true;
        step.product = convolution_product(d, s);
        step.end_tile = T::tiles(step.product);
    }

    static void set_vector(Step& step, const Descriptor& d, const Scalars& s) {
        step.vector = true;
        step.operation = vector_operation(d, s);
        step.norm = norm_operation(d, s);
    }

    // left . right, or with differences left . d(right), kept, then d(left) . right_prev.
    static void set_attention_step(Step& step, const Descriptor& d, const Scalars& s, int index) {
        const bool both = two_products(d, s);
        const int instance = both ? index / 2 : index;
        const int window = instance / int(d.groups), head = instance % int(d.groups);  // of all samples
        step.linear = true;
        step.product = both && index % 2 == 0 ? second_product(d, s, window, head) : first_product(d, s, window, head);
        step.end_tile = T::tiles(step.product);
        step.copy = !both && s.keep_state && !(d.flags & FLAG_CONSTANT_OTHER);  // else a second product keeps the right operand
        if (step.copy) step.rows = right_rows(d, s, window, head);
    }

    // ------------------------------------------------------------------------------------------------- vector unit

    static PassKind pass_kind(uint32_t opcode) {
        switch (opcode) {
            case SOFTMAX:
                return SOFTMAX_ROWS;
            case AVERAGE_POOL:
                return POOL;
            case UPSAMPLE:
                return COPIES;
            default:
                return LINE;
        }
    }

    static VectorOperation vector_operation(const Descriptor& d, const Scalars& s) {
        VectorOperation op = {};
        op.kind = pass_kind(d.opcode);
        op.add = d.opcode == ADD;
        op.multiply = d.opcode == MULTIPLY;
        op.normalize = d.opcode == GROUP_NORM || d.opcode == LAYER_NORM;
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
        op.finish.activation = d.flags & ACTIVATION_FLAGS;
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
        p.conditional_multipliers = d.flags & FLAG_GATED;
        p.multipliers = d.vector1;
        p.bias_stride = d.sample_stride;
        p.output = d.output;
        p.output_pitch = d.output_pitch;
        set_common(p, d, s);
        set_reference(p, s, d.state_input, d.state_input_span);
        set_neighbour(p, d, s);
        p.keep_input = p.keep_input && !(d.flags & FLAG_SHARES_OPERAND);
        return p;
    }

    static void set_neighbour(Product& p, const Descriptor& d, const Scalars& s) {
        p.spatial = s.reference == NEIGHBOUR;
        p.lead_columns = p.spatial ? int(d.lead_columns) : 0;
        p.extra_columns = p.spatial ? int(d.extra_columns) : 0;
    }

    static void set_common(Product& p, const Descriptor& d, const Scalars& s) {
        p.finish = true;
        p.code_output = d.flags & FLAG_CODE_OUTPUT;
        p.relu = d.flags & FLAG_RELU;
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

    // Sizes of an attention product: rows x inner times inner x columns, per head.
    struct Sizes {
        int rows, inner, columns;
    };

    static Sizes sizes_of(const Descriptor& d) {
        if (d.opcode == SCORES) return {int(d.output_width), int(d.channels / d.groups), int(d.output_channels)};
        return {int(d.width), int(d.channels), int(d.output_channels / d.groups)};
    }

    // Where the tokens of one window begin, in pixels, and how far it is from one to the next.
    static address_t first_pixel(const Descriptor& d, int window, int tokens) {
        if (!(d.flags & FLAG_INTERLEAVED)) return address_t(window) * tokens;
        const address_t sample = window / int(d.windows), column = window % int(d.windows);
        return sample * tokens * d.windows + column;
    }

    static int token_pixels(const Descriptor& d) { return d.flags & FLAG_INTERLEAVED ? int(d.windows) : 1; }

    // Where the codes of one window and head begin, and how far it is from token to token; `kept` in STATE, window by window.
    static void left_place(const Descriptor& d, int window, int head, address_t& first, int& pitch, address_t& kept, int& kept_pitch) {
        const Sizes n = sizes_of(d);
        if (d.opcode == SCORES) {
            first = d.input + first_pixel(d, window, n.rows) * d.input_pitch + head * n.inner;
            kept = address_t(window) * n.rows * d.channels + head * n.inner;
            pitch = token_pixels(d) * int(d.input_pitch);
            kept_pitch = d.channels;
        } else {
            const address_t row = (address_t(window) * d.groups + head) * n.rows;
            first = d.input + row * d.input_pitch;
            kept = row * n.inner;
            pitch = d.input_pitch;
            kept_pitch = n.inner;
        }
    }

    static void right_place(const Descriptor& d, int window, int head, address_t& first, int& pitch, address_t& kept, int& kept_pitch) {
        const Sizes n = sizes_of(d);
        const int tokens = d.opcode == SCORES ? n.columns : n.inner, width = d.opcode == SCORES ? n.inner : n.columns;
        first = d.other + first_pixel(d, window, tokens) * d.other_pitch + head * width;
        pitch = token_pixels(d) * int(d.other_pitch);
        kept_pitch = width * d.groups;
        kept = address_t(window) * tokens * kept_pitch + head * width;
    }

    static void set_attention(Product& p, const Descriptor& d, int rows, int inner, int columns, int window, int head) {
        const Sizes n = sizes_of(d);
        p.samples = 1;
        p.height = p.output_height = rows;
        p.width = p.output_width = 1;
        p.channels = inner;
        p.outputs = columns;
        p.kernel_height = p.kernel_width = p.stride_height = p.stride_width = 1;
        p.accumulators = d.state_accumulators + 4 * (address_t(window) * d.groups + head) * n.rows * n.columns;
        p.shared_multiplier = true;
    }

    // left . right, or d(left) . right_prev: requantized and written.
    static Product first_product(const Descriptor& d, const Scalars& s, int window, int head) {
        const Sizes n = sizes_of(d);
        Product p = {};
        set_attention(p, d, n.rows, n.inner, n.columns, window, head);
        set_common(p, d, s);
        p.segment_pixels = 1;
        address_t kept, right, right_kept;
        int right_pitch, right_kept_pitch;
        left_place(d, window, head, p.input, p.input_pitch, kept, p.kept_pitch);
        set_reference(p, s, d.state_input + kept, d.state_input_span);
        set_neighbour(p, d, s);
        right_place(d, window, head, right, right_pitch, right_kept, right_kept_pitch);
        p.layout = d.opcode == SCORES ? ROWS : COLUMNS;
        p.weighted_mean = d.opcode == MIX;
        p.weights_in_state = two_products(d, s);
        p.weights = p.weights_in_state ? d.state_other + (s.parity ? 0 : d.state_other_span) + right_kept : right;
        p.weight_pitch = p.weights_in_state ? right_kept_pitch : right_pitch;
        p.accumulator_pixel = n.columns;
        p.accumulator_channel = 1;
        if (d.opcode == SCORES) {
            p.output = d.output + 2 * (address_t(window) * d.groups + head) * n.rows * d.output_pitch;
        } else {
            p.output = d.output + (first_pixel(d, window, n.rows) * d.output_pitch + head * n.columns) * (p.code_output ? 1 : 2);
        }
        p.output_pitch = d.opcode == MIX ? token_pixels(d) * int(d.output_pitch) : int(d.output_pitch);
        return p;
    }

    // left . d(right), transposed: the right operand is encoded, the left one stands as weights. Kept, not written.
    static Product second_product(const Descriptor& d, const Scalars& s, int window, int head) {
        const Sizes n = sizes_of(d);
        Product p = {};
        set_attention(p, d, n.columns, n.inner, n.rows, window, head);
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
        right_place(d, window, head, p.input, p.input_pitch, kept, p.kept_pitch);
        set_reference(p, s, d.state_other + kept, d.state_other_span);
        left_place(d, window, head, p.weights, p.weight_pitch, left_kept, left_kept_pitch);
        p.layout = ROWS;
        p.accumulator_pixel = 1;
        p.accumulator_channel = n.columns;
        return p;
    }

    static CopiedRows right_rows(const Descriptor& d, const Scalars& s, int window, int head) {
        const Sizes n = sizes_of(d);
        address_t first, kept;
        int pitch, kept_pitch;
        right_place(d, window, head, first, pitch, kept, kept_pitch);
        CopiedRows rows = {};
        rows.count = d.opcode == SCORES ? n.columns : n.inner;
        rows.bytes = d.opcode == SCORES ? n.inner : n.columns;
        rows.source = first;
        rows.source_pitch = pitch;
        rows.target = kept + d.state_other + (s.parity ? d.state_other_span : 0);
        rows.target_pitch = kept_pitch;
        return rows;
    }
};

}  // namespace ditto
