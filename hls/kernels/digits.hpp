// From digit lists to the digits that a core's multipliers take, and the addresses of their weights: for every output
// pixel the taps of its window, of which each lane sends those digits that there are.
#pragma once

#include "encoder.hpp"

namespace ditto {

// The output pixels of one core's block, none where it is idle, and where their windows lie in the encoded pixels.
struct OutputBlock {
    int output_rows, output_width;  // of the block
    int first_row, rows, width;     // encoded input rows: first_row may be negative (padding above the image)
    int kernel_height, kernel_width, stride_height, stride_width, pad_left;
    int lead_columns;                 // windows left of the first pixel of a row, whose sums are not stored
    bool chained_row, chained_block;  // sums go on from pixel to pixel of a row, or of the block
};

// Where a chunk's words of weights are: `step` from one of `tiles` tiles of output channels to the next.
struct WeightTiles {
    int first, step, tiles;
};

template <class C>
struct Tap {  // an input pixel under an output pixel's window, if it is inside the image
    typename C::template uint<C::position_bits> position;
    typename C::template uint<16> slot, weight;  // where its digits begin in a list, and the tap's weights in a bank
    bool inside, last_of_pixel, last;
};

template <class C>
struct Segment {  // the digits of one input pixel in one lane
    typename C::template uint<16> slot, weight;
    typename C::template uint<C::word_bits + 1> low, high;
    bool last;
};

template <class C>
struct Token {
    typename Arithmetic<C>::digit digit;
    bool high;
    typename C::template uint<16> weight;
};

template <class C>
struct Digits {
    typedef typename C::template uint<16> total;
    typedef hls::stream<Tap<C>> taps_t;
    typedef hls::stream<Segment<C>> segments_t;
    typedef hls::stream<Token<C>> tokens_t;
    typedef hls::stream<total> totals_t;
    typedef typename DigitLists<C>::count list_count;

    // One core: the taps of all its output pixels, for all lanes.
    static void walk(const OutputBlock& block, int words, const WeightTiles& tiles, taps_t taps[C::lanes],
                     hls::stream<count_t>& counted) {
        const int columns = block.lead_columns + block.output_width, window = block.kernel_height * block.kernel_width;
        const count_t count = count_t(tiles.tiles) * block.output_rows * columns * window;
        const int first_column = -block.lead_columns * block.stride_width - block.pad_left;
        int ky = 0, kx = 0, x = 0, y = 0;
        int row = block.first_row, column = first_column, weight = tiles.first, first_weight = tiles.first;
    walk_taps:
        for (count_t i = 0; i < count; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 9 * C::accumulator_depth
            const int at_row = row + ky, at_column = column + kx;
            Tap<C> tap;
            tap.inside = at_row >= 0 && at_row < block.rows && at_column >= 0 && at_column < block.width;
            tap.position = tap.inside ? at_row * block.width + at_column : 0;
            tap.slot = int(tap.position) * words;
            tap.weight = weight;
            tap.last_of_pixel = ky == block.kernel_height - 1 && kx == block.kernel_width - 1;
            tap.last = false;
            send_tap(tap, taps);
            weight += words;
            if (++kx < block.kernel_width) continue;
            kx = 0;
            if (++ky < block.kernel_height) continue;
            ky = 0;
            weight = first_weight;
            column += block.stride_width;
            if (++x < columns) continue;
            x = 0;
            column = first_column;
            row += block.stride_height;
            if (++y < block.output_rows) continue;
            y = 0;
            row = block.first_row;
            first_weight += tiles.step;
            weight = first_weight;
        }
        Tap<C> end;
        end.position = end.slot = end.weight = 0;
        end.inside = end.last_of_pixel = false;
        end.last = true;
        send_tap(end, taps);
        counted.write(count);
    }

    static void send_tap(const Tap<C>& tap, taps_t taps[C::lanes]) {
#pragma HLS INLINE
        for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
            taps[lane].write(tap);
        }
    }

    // One lane: for every output pixel, the taps that have digits, and the total of these.
    static void enumerate(const list_count counts[HALVES][C::positions], taps_t& taps, segments_t& segments,
                          totals_t& totals) {
        total sum = 0;
        bool more = true;
    enumerate_taps:
        while (more) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 9 * C::accumulator_depth
            const Tap<C> tap = taps.read();
            Segment<C> segment;
            more = !tap.last;
            segment.last = tap.last;
            segment.slot = tap.slot;
            segment.weight = tap.weight;
            segment.low = tap.inside ? int(counts[LOW][int(tap.position)]) : 0;
            segment.high = tap.inside ? int(counts[HIGH][int(tap.position)]) : 0;
            sum = total(sum + segment.low + segment.high);
            if (tap.last || segment.low != 0 || segment.high != 0) segments.write(segment);
            if (tap.last_of_pixel && !tap.last) {
                totals.write(sum);
                sum = 0;
            }
        }
    }

    // One lane: segments, each of which has a digit, to single digits with the addresses of their weights.
    static void send(const DigitEntry<C> entries[HALVES][C::digit_depth], segments_t& segments, tokens_t& tokens) {
        Segment<C> segment = segments.read();
        int index = 0;
    send_digits:
        while (!segment.last) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = C::digit_depth
            const bool high = index >= int(segment.low);
            const int place = int(segment.slot) + (high ? index - int(segment.low) : index);
            const DigitEntry<C> entry = entries[high ? HIGH : LOW][place];
            Token<C> token;
            token.digit = entry.digit;
            token.high = high;
            token.weight = segment.weight + entry.word;
            tokens.write(token);
            ++index;
            if (index == int(segment.low) + int(segment.high)) {
                segment = segments.read();
                index = 0;
            }
        }
    }
};

}  // namespace ditto
