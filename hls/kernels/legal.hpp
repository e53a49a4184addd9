// Which descriptors the accelerator refuses by itself: no operation, an empty one, or one whose blocks and rows leave
// its buffers. Addresses are the host's to check (hls/machine/descriptor_rules.py): the accelerator does not know how
// large its regions are.
#pragma once

#include "formats.hpp"
#include "isa.hpp"

namespace ditto {

template <class C>
struct Legal {
    static bool descriptor(const Descriptor& d) {
        if (!is_operation(d.opcode)) return false;
        if (!d.batch || !d.height || !d.width || !d.channels) return false;
        if (!d.output_height || !d.output_width || !d.output_channels) return false;
        if (is_convolution(d.opcode)) return legal(forms::Convolution::decode(d));
        if (is_attention(d.opcode)) return legal(forms::Attention::decode(d));
        if (is_norm(d.opcode)) return legal(forms::Norm::decode(d));
        if (is_activate(d.opcode)) return is_activation(forms::Activate::decode(d).activation);
        if (is_softmax(d.opcode)) return row(forms::Softmax::decode(d));
        if (is_pool(d.opcode)) return legal(forms::Pool::decode(d));
        if (is_upsample(d.opcode)) return legal(forms::Upsample::decode(d));
        return true;
    }

  private:
    // What a core's buffers must hold of a linear operator.
    struct Plan {
        uint64_t block_rows, chunk, channels, tiles, positions, pixels, taps;
        bool resident, staged, gathered;
    };

    static uint64_t parts(uint64_t x, uint64_t size) { return (x + size - 1) / size; }

    template <class F>
    static bool row(const F& f) {
        return formats::VALUE_BYTES * uint64_t(f.channels) <= C::row_bytes;
    }

    static bool legal(const forms::Norm& f) { return f.groups && row(f) && is_activation(f.activation); }
    static bool legal(const forms::Pool& f) { return f.window && row(f); }
    static bool legal(const forms::Upsample& f) { return f.factor && row(f); }

    static bool fits(const Plan& p) {
        if (!p.block_rows || !p.tiles || !p.chunk || p.chunk > p.channels) return false;
        const uint64_t words = parts(p.chunk, C::lanes), all_words = parts(p.channels, C::lanes);
        return p.positions <= C::positions && p.positions * words <= C::digit_depth &&
               p.pixels * p.tiles <= C::accumulator_depth &&
               p.tiles * p.taps * (p.resident ? all_words : words) <= C::weight_depth &&
               !(p.staged && words * C::lanes > C::staging_depth) &&
               !(p.gathered && parts(p.chunk, C::bus_bytes) * p.block_rows > C::gather_bytes / C::bus_bytes);
    }

    static bool legal(const forms::Convolution& f) {
        if (!f.kernel_height || !f.kernel_width || !f.stride_height || !f.stride_width) return false;
        if (!f.segment_pixels || !f.block_rows || !formats::is_weight_width(f.weight_bits)) return false;
        const uint64_t window = uint64_t(f.block_rows - 1) * f.stride_height + f.kernel_height;
        const uint64_t rows = window < f.height ? window : uint64_t(f.height);
        const uint64_t positions = rows * (f.width + f.extra_columns), pixels = uint64_t(f.block_rows) * f.output_width;
        const uint64_t taps = uint64_t(f.kernel_height) * f.kernel_width;
        const bool resident = f.has(FLAG_RESIDENT);
        return fits({f.block_rows, f.chunk_channels, f.channels, f.pass_tiles, positions, pixels, taps, resident, false,
                     false});
    }

    static bool legal(const forms::Attention& f) {
        if (!f.heads || !f.windows) return false;
        const bool scores = f.is_scores(), resident = f.has(FLAG_RESIDENT);
        const bool other_resident = f.has(FLAG_OTHER_RESIDENT);
        const uint64_t inner = scores ? uint64_t(f.depth / f.heads) : uint64_t(f.keys);
        return fits({f.block_rows, f.chunk_channels, inner, f.pass_tiles, f.block_rows, f.block_rows, 1, resident,
                     scores, false}) &&
               fits({f.other_block_rows, f.other_chunk_channels, inner, f.other_pass_tiles, f.other_block_rows,
                     f.other_block_rows, 1, other_resident, true, !scores});
    }
};

}  // namespace ditto
