// Compute unit: one core is `lanes` x `oc_tile` multipliers of a 5-bit digit and an 8-bit weight, a shift-and-add tree and
// int32 sums. A core works on one output pixel at a time; its lanes wait for each other once per pixel.
#pragma once

#include "encoder.hpp"

namespace ditto {

// The output pixels of one core's block, and where their windows lie in the encoded input pixels.
struct Window {
    int output_rows, output_width;       // of the block
    int first_row, rows, width;          // encoded input rows: first_row may be negative (padding above the image)
    int kernel_height, kernel_width, stride_height, stride_width, pad_left;
};

// Codes of the second operand, a word of oc_tile of them for every lane and address.
template <class C>
struct WeightBanks {
    typename C::template sint<8> words[C::lanes][C::weight_depth][C::oc_tile];
};

template <class C>
struct Segment {  // the digits of one input pixel in one lane
    typename C::template uint<C::position_bits> position;
    typename C::template uint<C::word_bits + 1> low, high;
    typename C::template uint<16> weight;  // address of the tap's first word
    bool last;
};

template <class C>
struct Token {
    typename C::template sint<5> digit;
    bool high;
    typename C::template uint<16> weight;
};

struct ComputeCounters {
    count_t taps, cycles, products;
};

template <class C>
struct Compute {
    typedef Arithmetic<C> A;
    typedef typename C::template uint<16> total;

    // One lane: for every output pixel, the segments that are not empty and the total of their digits.
    static void enumerate(int lane, const DigitLists<C>& lists, const Window& window, int words, int first_weight,
                          hls::stream<Segment<C>>& segments, hls::stream<total>& totals, count_t& taps) {
    enumerate_rows:
        for (int y = 0; y < window.output_rows; ++y) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
        enumerate_columns:
            for (int x = 0; x < window.output_width; ++x) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                total sum = 0;
            enumerate_taps_y:
                for (int ky = 0; ky < window.kernel_height; ++ky) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
                enumerate_taps_x:
                    for (int kx = 0; kx < window.kernel_width; ++kx) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
                        const int row = y * window.stride_height + ky + window.first_row;
                        const int column = x * window.stride_width + kx - window.pad_left;
                        if (row >= 0 && row < window.rows && column >= 0 && column < window.width) {
                            Segment<C> segment;
                            segment.position = row * window.width + column;
                            segment.low = lists.counts[lane][LOW][row * window.width + column];
                            segment.high = lists.counts[lane][HIGH][row * window.width + column];
                            segment.weight = first_weight + (ky * window.kernel_width + kx) * words;
                            segment.last = false;
                            sum = total(sum + segment.low + segment.high);
                            if (segment.low != 0 || segment.high != 0) segments.write(segment);
                        }
                        ++taps;
                    }
                }
                totals.write(sum);
            }
        }
        Segment<C> end = {};
        end.last = true;
        segments.write(end);
    }

    // One lane: segments to single digits with the addresses of their weights.
    static void send(int lane, const DigitLists<C>& lists, int words, hls::stream<Segment<C>>& segments,
                     hls::stream<Token<C>>& tokens) {
        Segment<C> segment = segments.read();
    send_segments:
        while (!segment.last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::positions
            const int count = int(segment.low) + int(segment.high);
        send_digits:
            for (int i = 0; i < count; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 64
                const bool high = i >= int(segment.low);
                const int index = int(segment.position) * words + (high ? i - int(segment.low) : i);
                const DigitEntry<C> entry = lists.entries[lane][high ? HIGH : LOW][index];
                Token<C> token;
                token.digit = entry.digit;
                token.high = high;
                token.weight = segment.weight + entry.word;
                tokens.write(token);
            }
            segment = segments.read();
        }
    }

    // All lanes: every cycle one digit of each times oc_tile weights. A pixel takes the digits of its fullest lane, at least 1.
    static void multiply(hls::stream<Token<C>> tokens[C::lanes], hls::stream<total> totals[C::lanes],
                         const WeightBanks<C>& weights, int pixels, typename A::accumulator sums[][C::oc_tile], ComputeCounters& counters) {
        typename A::accumulator pixel_sums[C::oc_tile];
#pragma HLS ARRAY_PARTITION variable = pixel_sums complete
        total lane_totals[C::lanes];
#pragma HLS ARRAY_PARTITION variable = lane_totals complete
        int pixel = 0, cycle = 0, cycles = 0;
    multiply_cycles:
        while (pixel < pixels) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::digit_depth
            if (cycle == 0) {
                cycles = 1;
                for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                    lane_totals[lane] = totals[lane].read();
                    if (int(lane_totals[lane]) > cycles) cycles = int(lane_totals[lane]);
                }
                for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                    pixel_sums[oc] = 0;
                }
            }
        multiply_lanes:
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
                if (cycle < int(lane_totals[lane])) {
                    const Token<C> token = tokens[lane].read();
                    add_products(weights.words[lane][int(token.weight)], token, pixel_sums);
                    counters.products += C::oc_tile;
                }
            }
            if (++cycle == cycles) {
                for (int oc = 0; oc < C::oc_tile; ++oc) {
#pragma HLS UNROLL
                    sums[pixel][oc] = pixel_sums[oc];
                }
                ++pixel;
                cycle = 0;
            }
            ++counters.cycles;
        }
    }

    // The products of one digit with oc_tile weights, two in each multiplier, into the sums.
    static void add_products(const typename A::code words[C::oc_tile], const Token<C>& token,
                             typename A::accumulator pixel_sums[C::oc_tile]) {
#pragma HLS INLINE
        const int shift = token.high ? 4 : 0;
    multiply_pairs:
        for (int oc = 0; oc < C::oc_tile; oc += 2) {
#pragma HLS UNROLL
            typename A::accumulator first, second;
            A::multiply_pair(words[oc], words[oc + 1], token.digit, first, second);
            pixel_sums[oc] = pixel_sums[oc] + (first << shift);
            pixel_sums[oc + 1] = pixel_sums[oc + 1] + (second << shift);
        }
    }

    // One block of output pixels: lists of digits and a tile of weights to int32 sums.
    static void run(const DigitLists<C>& lists, const WeightBanks<C>& weights, const Window& window, int words,
                    int first_weight, typename A::accumulator sums[][C::oc_tile], ComputeCounters& counters) {
#pragma HLS DATAFLOW
        hls::stream<Segment<C>> segments[C::lanes];
        hls::stream<Token<C>> tokens[C::lanes];
        hls::stream<total> totals[C::lanes];
#pragma HLS STREAM variable = segments depth = 8
#pragma HLS STREAM variable = tokens depth = 16
#pragma HLS STREAM variable = totals depth = 8
        count_t taps[C::lanes] = {};
#pragma HLS ARRAY_PARTITION variable = taps complete
    run_lanes:
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            enumerate(lane, lists, window, words, first_weight, segments[lane], totals[lane], taps[lane]);
            send(lane, lists, words, segments[lane], tokens[lane]);
        }
        multiply(tokens, totals, weights, window.output_rows * window.output_width, sums, counters);
        counters.taps += taps[0];
    }
};

}  // namespace ditto
