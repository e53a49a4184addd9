// Steps: what the linear and the vector unit do at the same time, one after the other, for a descriptor.
#pragma once

#include "attention.hpp"
#include "convolution.hpp"
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

    // A convolution that overlaps with the GroupNorm after it (Diff-Acc's channel groups) takes a step for each group
    // and one for the last group's normalization; an attention product one for each sample, window and head and, with
    // differences, two.
    static int count(const Descriptor& d, const Scalars& s, bool overlapped) {
        if (overlapped) return int(forms::Convolution::decode(d).channel_groups) + 1;
        if (!is_attention(d.opcode)) return 1;
        const forms::Attention f = forms::Attention::decode(d);
        return int(f.batch * f.windows * f.heads) * (two_products(f, s) ? 2 : 1);
    }

    // `overlapped`: step `index` of a convolution and the GroupNorm after it; `paired`: of a linear operation, and all
    // of the vector operation `next` with the first one.
    static Step at(const Descriptor& d, const Scalars& s, const Descriptor& next, const Scalars& next_scalars,
                   bool overlapped, bool paired, int index) {
        Step step = {};
        if (paired && index == 0 && !next_scalars.skip) set_vector(step, next, next_scalars);
        if (s.skip) return step;
        if (overlapped) {
            set_overlapped(step, forms::Convolution::decode(d), s, forms::Norm::decode(next), next_scalars, index);
        } else if (is_convolution(d.opcode)) {
            set_convolution(step, forms::Convolution::decode(d), s);
        } else if (is_attention(d.opcode)) {
            set_attention(step, forms::Attention::decode(d), s, index);
        } else {
            set_vector(step, d, s);
        }
        return step;
    }

    static void set_convolution(Step& step, const forms::Convolution& f, const Scalars& s) {
        step.linear = true;
        step.product = convolution_product(f, s);
        step.end_tile = T::tiles(step.product);
    }

    static void set_overlapped(Step& step, const forms::Convolution& f, const Scalars& s, const forms::Norm& norm,
                               const Scalars& norm_scalars, int index) {
        const int parts = f.channel_groups, groups = norm.groups / parts;
        set_convolution(step, f, s);
        const int tiles = step.end_tile / parts;
        step.linear = index < parts;
        step.first_tile = index * tiles;
        step.end_tile = (index + 1) * tiles;
        step.vector = index > 0;
        step.operation = operation_of(norm, norm_scalars);
        step.norm = norm_of(norm, norm_scalars);
        step.norm.first_group = (index - 1) * groups;
        step.norm.end_group = index * groups;
    }

    static void set_vector(Step& step, const Descriptor& d, const Scalars& s) {
        step.vector = true;
        step.operation = vector_operation(d, s);
        if (is_norm(d.opcode)) step.norm = norm_of(forms::Norm::decode(d), s);
    }

    // left . right, or with differences left . d(right), kept, then d(left) . right_prev.
    static void set_attention(Step& step, const forms::Attention& f, const Scalars& s, int index) {
        const bool both = two_products(f, s);
        const Head head(f, both ? index / 2 : index);
        step.linear = true;
        step.product = both && index % 2 == 0 ? head.second_product(s) : head.first_product(s);
        step.end_tile = T::tiles(step.product);
        step.copy = !both && s.keep_state && !f.has(FLAG_CONSTANT_OTHER);  // else a second product keeps the right one
        if (step.copy) step.rows = head.copied_rows(s);
    }
};

}  // namespace ditto
