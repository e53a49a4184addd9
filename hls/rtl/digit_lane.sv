// One lane of a core: taps to the digits of their input pixels, one a cycle, with the addresses of their weights, and for every
// output pixel how many these are: `enumerate` and `send` of kernels/compute.hpp.
module digit_lane #(
    parameter POSITION_BITS = 8,
    parameter SLOT_BITS = 10,
    parameter WEIGHT_BITS = 10,
    parameter WORD_BITS = 10,
    parameter TOTAL_BITS = 16,
    parameter TAPS = 2,                      // depths of the queues
    parameter SEGMENTS = 32,                 // at least the taps of a pixel: no digit goes before its total is known
    parameter TOKENS = 4,
    parameter TOTALS = 8
) (
    input clk,
    input reset,
    input enable,

    input tap_put,
    output tap_room,
    input tap_inside,
    input tap_bank,
    input [POSITION_BITS-1:0] tap_position,
    input [SLOT_BITS-1:0] tap_slot,
    input [WEIGHT_BITS-1:0] tap_weight,
    input tap_last,

    // The lists in the digit memory: counts come at once, entries a cycle later.
    output [POSITION_BITS:0] count_address,
    input [WORD_BITS:0] count_low,
    input [WORD_BITS:0] count_high,
    output entry_read,
    output [SLOT_BITS:0] entry_address,
    input [WORD_BITS+4:0] entry_low,         // a word's number, and a digit of 5 bits
    input [WORD_BITS+4:0] entry_high,

    output token_valid,
    input token_take,
    output signed [8:0] token_digit,         // 16 times a high one
    output [WEIGHT_BITS-1:0] token_weight,
    output total_valid,
    input total_take,
    output [TOTAL_BITS-1:0] total
);
    // Taps that have digits become segments; the digits of a pixel are counted.
    wire in_image, bank, last, tap_there;
    wire [POSITION_BITS-1:0] position;
    wire [SLOT_BITS-1:0] slot;
    wire [WEIGHT_BITS-1:0] weight;
    wire [$clog2(TAPS+1)-1:0] taps_free;
    wire [$clog2(SEGMENTS+1)-1:0] segments_free;
    wire [$clog2(TOTALS+1)-1:0] totals_free;
    wire enumerate = tap_there && segments_free != 0 && totals_free != 0;

    fifo #(.WIDTH(3 + POSITION_BITS + SLOT_BITS + WEIGHT_BITS), .DEPTH(TAPS)) taps(
        .clk(clk), .reset(reset), .enable(enable), .put(tap_put), .take(enumerate), .valid(tap_there), .room(taps_free),
        .in({tap_inside, tap_bank, tap_last, tap_position, tap_slot, tap_weight}),
        .out({in_image, bank, last, position, slot, weight}));
    assign tap_room = taps_free != 0;
    assign count_address = {bank, position};
    wire [WORD_BITS:0] low = in_image ? count_low : 0, high = in_image ? count_high : 0;
    wire [WORD_BITS+1:0] both = low + high;

    reg [TOTAL_BITS-1:0] sum;
    always @(posedge clk) begin
        if (reset) sum <= 0;
        else if (enable && enumerate) sum <= last ? 0 : sum + both;
    end
    wire [TOTAL_BITS-1:0] sum_with_tap = sum + both;
    fifo #(.WIDTH(TOTAL_BITS), .DEPTH(TOTALS)) totals(
        .clk(clk), .reset(reset), .enable(enable), .put(enumerate && last), .in(sum_with_tap), .take(total_take),
        .out(total), .valid(total_valid), .room(totals_free));

    // Segments to addresses of entries, low digits first.
    wire segment_there, segment_bank;
    wire [SLOT_BITS-1:0] segment_slot;
    wire [WEIGHT_BITS-1:0] segment_weight;
    wire [WORD_BITS:0] segment_low, segment_high;
    wire [$clog2(TOKENS+1)-1:0] tokens_free;
    reg [WORD_BITS:0] index;
    reg of_high;
    wire high_now = of_high || segment_low == 0;
    wire [WORD_BITS:0] in_half = high_now ? segment_high : segment_low;
    wire half_ends = index + 1'b1 == in_half;
    wire segment_ends = half_ends && (high_now || segment_high == 0);
    reg reading, reading_high;
    reg [WEIGHT_BITS-1:0] reading_weight;
    assign entry_read = segment_there && tokens_free > reading;
    assign entry_address = {segment_bank, segment_slot + index[SLOT_BITS-1:0]};

    fifo #(.WIDTH(1 + SLOT_BITS + WEIGHT_BITS + 2 * (WORD_BITS + 1)), .DEPTH(SEGMENTS)) segments(
        .clk(clk), .reset(reset), .enable(enable), .put(enumerate && both != 0), .take(entry_read && segment_ends),
        .in({bank, slot, weight, low, high}), .valid(segment_there), .room(segments_free),
        .out({segment_bank, segment_slot, segment_weight, segment_low, segment_high}));

    always @(posedge clk) begin
        if (reset) begin
            index <= 0;
            of_high <= 0;
            reading <= 0;
        end else if (enable) begin
            reading <= entry_read;
            if (entry_read) begin
                index <= half_ends ? 0 : index + 1'b1;
                of_high <= half_ends ? !segment_ends : of_high;
            end
        end
        if (enable && entry_read) begin
            reading_high <= high_now;
            reading_weight <= segment_weight;
        end
    end

    // Entries to digits.
    wire [WORD_BITS+4:0] entry = reading_high ? entry_high : entry_low;
    wire signed [8:0] digit = reading_high ? $signed({entry[4:0], 4'b0}) : $signed({{4{entry[4]}}, entry[4:0]});
    wire [WEIGHT_BITS-1:0] address = reading_weight + entry[WORD_BITS+4:5];
    fifo #(.WIDTH(9 + WEIGHT_BITS), .DEPTH(TOKENS)) tokens(
        .clk(clk), .reset(reset), .enable(enable), .put(reading), .in({digit, address}), .take(token_take),
        .out({token_digit, token_weight}), .valid(token_valid), .room(tokens_free));
endmodule
