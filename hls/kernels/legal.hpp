// Which descriptors the accelerator refuses by itself: no operation, an empty one, or one whose blocks and rows leave its buffers.
// Addresses are the host's to check (hls/machine/descriptor_rules.py): the accelerator does not know how large its regions are.
#pragma once

#include "isa.hpp"

namespace ditto {

template <class C>
struct Legal {
    static bool descriptor(const Descriptor& d) {
        if (d.opcode < CONVOLUTION || d.opcode > MULTIPLY) return false;
        if (!d.batch || !d.height || !d.width || !d.channels) return false;
        if (!d.output_height || !d.output_width || !d.output_channels) return false;
        switch (d.opcode) {
            case CONVOLUTION: return convolution(d);
            case SCORES: return attention(d);
            case MIX: return attention(d);
            case GROUP_NORM: return d.groups && row(d);
            case LAYER_NORM: return d.groups && row(d);
            case SOFTMAX: return row(d);
            case AVERAGE_POOL: return d.stride_height && row(d);
            case UPSAMPLE: return d.stride_height && row(d);
            default: return true;
        }
    }

  private:
    // What a core's buffers must hold of a linear operator.
    struct Plan {
        uint64_t block_rows, chunk, channels, tiles, positions, pixels, taps;
        bool resident, staged, gathered;
    };

    static uint64_t parts(uint64_t x, uint64_t size) { return (x + size - 1) / size; }

    static bool row(const Descriptor& d) { return 2 * uint64_t(d.channels) <= C::row_bytes; }

    static bool fits(const Plan& p) {
        if (!p.block_rows || !p.tiles || !p.chunk || p.chunk > p.channels) return false;
        const uint64_t words = parts(p.chunk, C::lanes), all_words = parts(p.channels, C::lanes);
        return p.positions <= C::positions && p.positions * words <= C::digit_depth && p.pixels * p.tiles <= C::accumulator_depth &&
               p.tiles * p.taps * (p.resident ? all_words : words) <= C::weight_depth &&
               !(p.staged && words * C::lanes > C::staging_depth) &&
               !(p.gathered && parts(p.chunk, C::bus_bytes) * p.block_rows > C::gather_bytes / C::bus_bytes);
    }

    static bool convolution(const Descriptor& d) {
        if (!d.kernel_height || !d.kernel_width || !d.stride_height || !d.stride_width || !d.segment_pixels) return false;
        const uint64_t window = uint64_t(d.block_rows - 1) * d.stride_height + d.kernel_height;
        const uint64_t rows = window < d.height ? window : uint64_t(d.height);
        const Plan plan = {d.block_rows, d.chunk_channels, d.channels, d.pass_tiles, rows * (d.width + d.extra_columns),
                           uint64_t(d.block_rows) * d.output_width, uint64_t(d.kernel_height) * d.kernel_width,
                           bool(d.flags & FLAG_RESIDENT), false, false};
        return d.block_rows && fits(plan);
    }

    static bool attention(const Descriptor& d) {
        if (!d.groups || !d.windows) return false;
        const bool scores = d.opcode == SCORES;
        const uint64_t inner = scores ? d.channels / d.groups : d.channels;
        const Plan first = {d.block_rows, d.chunk_channels, inner, d.pass_tiles, d.block_rows, d.block_rows, 1,
                            bool(d.flags & FLAG_RESIDENT), scores, false};
        const Plan second = {d.other_block_rows, d.other_chunk_channels, inner, d.other_pass_tiles, d.other_block_rows,
                             d.other_block_rows, 1, bool(d.flags & FLAG_OTHER_RESIDENT), true, !scores};
        return fits(first) && fits(second);
    }
};

}  // namespace ditto
