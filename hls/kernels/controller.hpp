// Controller: fetches descriptors, runs the steps of each on the linear and the vector unit, and counts.
#pragma once

#include "defo.hpp"
#include "legal.hpp"
#include "steps.hpp"

namespace ditto {

template <class C>
struct Controller {
    typedef Memory<C> M;
    typedef typename M::word word;
    typedef typename C::template uint<8> byte;

    // Runs `count` descriptors; returns 0, or 1 + the index of one that is not legal (legal.hpp). `values` and
    // `values_out` are ACTIVATIONS again, for the vector unit, `affine` is PARAMETERS; `sums` and `sums_out` are STATE,
    // for accumulators. `progress`: 1 + the index of the descriptor that runs, for a host that asks what hangs.
    static uint32_t run(const word* program, const word* weights, const word* parameters, const word* affine,
                        const word* activations, word* activations_out, const word* values, word* values_out,
                        const word* state, word* state_out, const word* sums, word* sums_out, word* counters,
                        uint32_t count, volatile uint32_t* progress, LinearBuffers<C>& buffers) {
    run_descriptors:
        for (uint32_t i = 0; i < count; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 256
#ifdef DITTO_STOP  // of the C simulation alone: whether its host has reset it
            if (DITTO_STOP) return 0;
#endif
            *progress = i + 1;
            Descriptor d, next = {};
            Scalars s, next_scalars = {};
            Counters record = {}, next_record = {};
            if (!fetch(program, parameters, i, d, s, record)) return i + 1;
            const bool in_groups = is_convolution(d.opcode) && forms::Convolution::decode(d).channel_groups > 1;
            const bool overlapped = in_groups && i + 1 < count;
            const bool paired = (d.flags & FLAG_PAIRED) && i + 1 < count, both = overlapped || paired;
            if (both) {
                ++i;
                if (!fetch(program, parameters, i, next, next_scalars, next_record)) return i + 1;
                if (overlapped ? next.opcode != GROUP_NORM : is_linear(next.opcode)) return i + 1;
            }
            const bool runs_linear = is_linear(d.opcode) && !s.skip, follows = d.flags & FLAG_FOLLOWS;
            const int asked = s.reference;
            Decision entry = {};
            if (runs_linear) {
                const count_t before = record.parameter_beats;
                entry = Defo<C>::read(counters, d.leader, record.parameter_beats);
                record.cycles += record.parameter_beats - before;
                Defo<C>::decide(entry, follows, s);
            }
            count_t cycles = record.cycles, lean_cycles = record.cycles, keeping_beats = 0, pair_cycles = 0, last = 0;
            if (overlapped) cycles = lean_cycles = record.cycles + next_record.cycles;
            const int steps = Steps<C>::count(d, s, overlapped), stages = overlapped ? steps : 1;
        run_stages:
            for (int stage = 0; stage < stages; ++stage) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
                LinearCounters linear = {};
                VectorCounters vector = {};
                const int first = overlapped ? stage : 0, end = overlapped ? stage + 1 : steps;
                run_units(weights, parameters, affine, activations, activations_out, values, values_out, state,
                          state_out, sums, sums_out, d, s, next, next_scalars, overlapped, paired, first, end, buffers,
                          linear, vector);
                add(record, linear);
                add(both ? next_record : record, vector);
                const count_t slower = linear.cycles > vector.cycles ? linear.cycles : vector.cycles;
                cycles += paired ? linear.cycles : slower;
                lean_cycles += !paired && vector.cycles > linear.lean_cycles ? vector.cycles : linear.lean_cycles;
                keeping_beats += linear.keeping_beats;
                if (paired) pair_cycles = record_fetch(record, linear) + record_fetch(next_record, vector) + slower;
                if (overlapped) last = vector.cycles;
            }
            // In channel groups the last group's normalization overlaps with nothing; its cycles are the GROUP_NORM's.
            // Of a pair the second one's cycles are those that it adds.
            const count_t beats = traffic(record), both_beats = beats + traffic(next_record);
            record.cycles = dram_cycles(cycles, paired ? beats : both_beats) - last + START_CYCLES;
            next_record.cycles = last + START_CYCLES;
            if (paired) next_record.cycles = dram_cycles(pair_cycles, both_beats) + START_CYCLES - record.cycles;
            store_counters(counters, d.node, record);
            if (runs_linear) {
                const count_t lean =
                    dram_cycles(lean_cycles, (paired ? beats : both_beats) - keeping_beats) - last + START_CYCLES;
                Defo<C>::record(entry, follows, asked, s, record.cycles, lean);
                Defo<C>::store(counters, d.leader, entry);
            }
            if (both) store_counters(counters, next.node, next_record);
        }
        return 0;
    }

    // What fetching a descriptor took, of a record to which its unit's cycles have been added.
    template <class UnitCounters>
    static count_t record_fetch(const Counters& record, const UnitCounters& unit) {
        return record.cycles - unit.cycles;
    }

    // A descriptor and its scalars; false, with no scalars read, where it is not legal.
    static bool fetch(const word* program, const word* parameters, uint32_t index, Descriptor& d, Scalars& s,
                      Counters& record) {
        byte raw[DESCRIPTOR_BYTES], raw_scalars[SCALARS_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
#pragma HLS ARRAY_PARTITION variable = raw_scalars complete
        count_t beats = 0;
        M::load(program, index * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES, raw, beats);
        d = unpack_descriptor<C>(raw);
        if (!Legal<C>::descriptor(d)) return false;
        M::load(parameters, d.scalars, SCALARS_BYTES, raw_scalars, beats);
        s = unpack_scalars<C>(raw_scalars);
        record.parameter_beats += beats;
        record.cycles += beats;
        return true;
    }

    static void store_counters(word* counters, uint32_t node, const Counters& record) {
        static_assert(COUNTERS_BYTES % C::bus_bytes == 0, "counter records are whole beats");
        byte raw[COUNTERS_BYTES];
#pragma HLS ARRAY_PARTITION variable = raw complete
        pack_counters<C>(record, raw);
        M::store(counters, node * COUNTER_RECORD_BYTES, COUNTERS_BYTES, raw);
    }

    // ------------------------------------------------------------------------------------------------- units

    // The only place where either unit is called, so that there is one of each. Steps [first, end) of the linear unit,
    // and the vector unit's of the first.
    static void run_units(const word* weights, const word* parameters, const word* affine, const word* activations,
                          word* activations_out, const word* values, word* values_out, const word* state,
                          word* state_out, const word* sums, word* sums_out, const Descriptor& d, const Scalars& s,
                          const Descriptor& next, const Scalars& next_scalars, bool overlapped, bool paired, int first,
                          int end, LinearBuffers<C>& buffers, LinearCounters& linear, VectorCounters& vector) {
#pragma HLS DATAFLOW
        run_linear(weights, parameters, activations, activations_out, state, state_out, sums, sums_out, d, s, next,
                   next_scalars, overlapped, paired, first, end, buffers, linear);
        run_vector(affine, values, values_out, d, s, next, next_scalars, overlapped, paired, first, vector);
    }

    static void run_linear(const word* weights, const word* parameters, const word* activations, word* activations_out,
                           const word* state, word* state_out, const word* sums, word* sums_out, const Descriptor& d,
                           const Scalars& s, const Descriptor& next, const Scalars& next_scalars, bool overlapped,
                           bool paired, int first, int end, LinearBuffers<C>& buffers, LinearCounters& counters) {
    run_linear_steps:
        for (int index = first; index < end; ++index) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
            const Step step = Steps<C>::at(d, s, next, next_scalars, overlapped, paired, index);
            if (step.linear) {
                Linear<C>::run(weights, parameters, activations, activations_out, state, state_out, sums, sums_out,
                               step.product, step.first_tile, step.end_tile, buffers, counters);
            }
            if (step.copy) {
                hls::stream<OperandCounters> of_copy("copied");
                Copy<C>::run(activations, state_out, step.rows, of_copy);
                const OperandCounters copied = of_copy.read();
                counters.input_beats += copied.input_beats;
                counters.kept_beats += copied.kept_beats;
                counters.merged_beats += copied.merged_beats;
                counters.cycles += copied.cycles;
                counters.keeping_beats += copied.input_beats + copied.kept_beats + copied.merged_beats;
            }
        }
    }

    static void run_vector(const word* affine, const word* values, word* values_out, const Descriptor& d,
                           const Scalars& s, const Descriptor& next, const Scalars& next_scalars, bool overlapped,
                           bool paired, int first, VectorCounters& counters) {
        const Step step = Steps<C>::at(d, s, next, next_scalars, overlapped, paired, first);
        if (step.vector) Vector<C>::run(affine, values, values_out, step.operation, step.norm, counters);
    }

    // ------------------------------------------------------------------------------------------------- counters

    static count_t traffic(const Counters& record) {
        return record.weight_beats + record.input_beats + record.previous_beats + record.accumulator_read_beats +
               record.parameter_beats + record.merged_beats + record.output_beats + record.kept_beats +
               record.accumulator_write_beats;
    }

    // At least what the board's DRAM needs for the traffic of all ports together.
    static count_t dram_cycles(count_t cycles, count_t beats) {
        const count_t dram =
            (beats * C::bus_bytes * 1000 + C::dram_bytes_per_kilocycle - 1) / C::dram_bytes_per_kilocycle;
        return dram > cycles ? dram : cycles;
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
};

}  // namespace ditto
