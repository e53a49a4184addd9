// The two products of attention, Q . K transposed (SCORES) and P . V (MIX), as the linear unit runs them: a window and
// a head at a time and, where both operands change, in two halves.
#pragma once

#include "operand.hpp"
#include "product.hpp"

namespace ditto {

// Whether an attention product takes two: of differences, of operands that both change.
inline bool two_products(const forms::Attention& f, const Scalars& s) {
    return s.reference == PREVIOUS_STEP && !f.has(FLAG_CONSTANT_OTHER);
}

// An operand's codes in one window and head: where they begin, and how far it is from row to row; `kept` in STATE.
struct HeadRows {
    address_t first, kept;
    int pitch, kept_pitch;
};

// One window and head of an attention product: rows x inner times inner x columns.
struct Head {
    forms::Attention f;
    int window, head;  // windows of all samples
    int rows, inner, columns;

    Head(const forms::Attention& form, int index)
        : f(form), window(index / int(f.heads)), head(index % int(f.heads)), rows(f.queries) {
        const int depth = f.depth / f.heads;
        inner = f.is_scores() ? depth : int(f.keys);
        columns = f.is_scores() ? int(f.keys) : depth;
    }

    // left . right, or d(left) . right_prev: requantized and written.
    Product first_product(const Scalars& s) const {
        const HeadRows left = left_rows(), right = right_rows();
        Product p = product(rows, inner, columns);
        set_finish(p, f, s);
        set_plan(p, f);
        p.segment_pixels = 1;  // tokens are read one by one
        p.input = left.first;
        p.input_pitch = left.pitch;
        p.kept_pitch = left.kept_pitch;
        set_reference(p, s, f.state_input + left.kept, f.state_input_span);
        p.layout = f.is_scores() ? ROWS : COLUMNS;
        p.weighted_mean = f.is_mix();
        p.weights_in_state = two_products(f, s);
        const address_t right_before = f.state_other + (s.parity ? 0 : f.state_other_span) + right.kept;
        p.weights = p.weights_in_state ? right_before : right.first;
        p.weight_pitch = p.weights_in_state ? right.kept_pitch : right.pitch;
        p.accumulator_pixel = columns;
        p.accumulator_channel = 1;
        if (f.is_scores()) {
            p.output = f.output + formats::VALUE_BYTES * instance() * rows * f.output_pitch;
            p.output_pitch = f.output_pitch;
        } else {
            p.output = f.output + (first_pixel(rows) * f.output_pitch + head * columns) * element_bytes(p.code_output);
            p.output_pitch = token_pixels() * int(f.output_pitch);
        }
        return p;
    }

    // left . d(right), transposed: the right operand is encoded, the left one stands as weights. Kept, not written.
    Product second_product(const Scalars& s) const {
        const HeadRows left = left_rows(), right = right_rows();
        Product p = product(columns, inner, rows);
        p.keep_accumulators = true;
        p.block_rows = f.other_block_rows;
        p.chunk_channels = f.other_chunk_channels;
        p.pass_tiles = f.other_pass_tiles;
        p.resident = f.has(FLAG_OTHER_RESIDENT);
        p.gathered = f.is_mix();
        p.input = right.first;
        p.input_pitch = right.pitch;
        p.kept_pitch = right.kept_pitch;
        set_reference(p, s, f.state_other + right.kept, f.state_other_span);
        p.weights = left.first;
        p.weight_pitch = left.pitch;
        p.layout = ROWS;
        p.accumulator_pixel = 1;
        p.accumulator_channel = columns;
        return p;
    }

    // The right operand, to be kept as it is.
    CopiedRows copied_rows(const Scalars& s) const {
        const HeadRows right = right_rows();
        CopiedRows copied = {};
        copied.count = f.keys;
        copied.bytes = f.depth / f.heads;
        copied.source = right.first;
        copied.source_pitch = right.pitch;
        copied.target = right.kept + f.state_other + (s.parity ? f.state_other_span : 0);
        copied.target_pitch = right.kept_pitch;
        return copied;
    }

  private:
    address_t instance() const { return address_t(window) * f.heads + head; }

    // Where the tokens of the window begin, in pixels, and how far it is from one to the next.
    address_t first_pixel(int tokens) const {
        if (!f.has(FLAG_INTERLEAVED)) return address_t(window) * tokens;
        const address_t sample = window / int(f.windows), column = window % int(f.windows);
        return sample * tokens * f.windows + column;
    }

    int token_pixels() const { return f.has(FLAG_INTERLEAVED) ? int(f.windows) : 1; }

    // Of Q, K or V, `tokens` in a window; kept window by window.
    HeadRows token_rows(address_t base, uint32_t pitch, int tokens) const {
        const int of_head = head * int(f.depth / f.heads);
        HeadRows place;
        place.first = base + first_pixel(tokens) * pitch + of_head;
        place.pitch = token_pixels() * int(pitch);
        place.kept = address_t(window) * tokens * f.depth + of_head;
        place.kept_pitch = f.depth;
        return place;
    }

    HeadRows left_rows() const {
        if (f.is_scores()) return token_rows(f.input, f.input_pitch, rows);
        const address_t row = instance() * rows;
        HeadRows place;
        place.first = f.input + row * f.input_pitch;
        place.pitch = f.input_pitch;
        place.kept = row * inner;
        place.kept_pitch = inner;
        return place;
    }

    HeadRows right_rows() const { return token_rows(f.other, f.other_pitch, f.keys); }

    Product product(int product_rows, int depth, int outputs) const {
        Product p = {};
        p.samples = 1;
        p.height = p.output_height = product_rows;
        p.width = p.output_width = 1;
        p.channels = depth;
        p.outputs = outputs;
        p.kernel_height = p.kernel_width = p.stride_height = p.stride_width = 1;
        p.segment_pixels = 1;
        p.accumulators = f.state_accumulators + formats::SUM_BYTES * instance() * rows * columns;
        p.shared_multiplier = true;
        return p;
    }
};

}  // namespace ditto
