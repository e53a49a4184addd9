// One core of the compute unit: LANES x OC_TILE multipliers of a digit and a weight, two weights to a DSP slice, the adder tree and
// int32 sums. What `Compute::run` of kernels/compute.hpp does for one core. `enable` low stops all of it; it must be low in a
// cycle in which `sum_valid` is high and nobody takes the sum.
module compute_core #(
    parameter LANES = 8,
    parameter OC_TILE = 32,
    parameter POSITION_BITS = 8,
    parameter SLOT_BITS = 10,
    parameter WEIGHT_BITS = 10,
    parameter WORD_BITS = 10,
    parameter SUM_BITS = 6,
    parameter GAP = 18,                      // as in multiplier_column
    parameter CHAIN = 4,
    parameter TAPS = 2,                      // depths of the queues
    parameter SEGMENTS = 32,
    parameter TOKENS = 4,
    parameter TOTALS = 8,
    parameter D = 16
) (
    input clk,
    input reset,
    input enable,

    input block_valid,
    output block_ready,
    input block_bank,
    input block_sums,
    input [D-1:0] output_rows,
    input [D-1:0] output_width,
    input [SUM_BITS-1:0] first_sum,
    input signed [D-1:0] first_row,
    input signed [D-1:0] first_column,
    input [D-1:0] rows,
    input [D-1:0] width,
    input [D-1:0] kernel_height,
    input [D-1:0] kernel_width,
    input [D-1:0] stride_height,
    input [D-1:0] stride_width,
    input [D-1:0] lead_columns,
    input chained_row,
    input chained_block,
    input [D-1:0] words,
    input [WEIGHT_BITS-1:0] first_weight,
    input may_start,                     // low: the next pixel waits, so that cores can begin together, as the kernels' do
    output block_multiplied,             // in the cycle of the block's last operands
    output block_done,                   // in the cycle of the block's last sum

    output [LANES*(POSITION_BITS+1)-1:0] count_address,
    input [LANES*(WORD_BITS+1)-1:0] count_low,
    input [LANES*(WORD_BITS+1)-1:0] count_high,
    output [LANES-1:0] entry_read,
    output [LANES*(SLOT_BITS+1)-1:0] entry_address,
    input [LANES*(WORD_BITS+5)-1:0] entry_low,
    input [LANES*(WORD_BITS+5)-1:0] entry_high,

    output [LANES*WEIGHT_BITS-1:0] weight_address,
    input [LANES*OC_TILE*8-1:0] weight_word,  // a cycle later

    output sum_valid,
    output [SUM_BITS:0] sum_address,
    output [OC_TILE*32-1:0] sum
);
    localparam TOTAL_BITS = 16;

    wire tap_valid, tap_inside, tap_bank, tap_last, pixel_clear, pixel_store, pixel_ends_block;
    wire [POSITION_BITS-1:0] tap_position;
    wire [SLOT_BITS-1:0] tap_slot;
    wire [WEIGHT_BITS-1:0] tap_weight;
    wire [SUM_BITS:0] pixel_sum;
    wire [LANES-1:0] tap_room, token_valid, token_take, total_valid;
    wire [LANES*9-1:0] token_digit;
    wire [LANES*WEIGHT_BITS-1:0] token_weight;
    wire [LANES*TOTAL_BITS-1:0] totals;
    wire [$clog2(TOTALS+1)-1:0] pixels_free;
    wire start, fire, ends;                  // of a pixel; a cycle of it; its last one
    wire tap_ready = &tap_room && pixels_free != 0;
    wire tap_put = tap_valid && tap_ready;

    tap_walker #(
        .POSITION_BITS(POSITION_BITS), .SLOT_BITS(SLOT_BITS), .WEIGHT_BITS(WEIGHT_BITS), .SUM_BITS(SUM_BITS), .D(D)
    ) walker(
        .clk(clk), .reset(reset), .enable(enable), .block_valid(block_valid), .block_ready(block_ready), .block_bank(block_bank),
        .block_sums(block_sums), .output_rows(output_rows), .output_width(output_width), .first_sum(first_sum),
        .first_row(first_row), .first_column(first_column), .rows(rows), .width(width), .kernel_height(kernel_height),
        .kernel_width(kernel_width), .stride_height(stride_height), .stride_width(stride_width), .lead_columns(lead_columns),
        .chained_row(chained_row), .chained_block(chained_block), .words(words), .first_weight(first_weight),
        .tap_valid(tap_valid), .tap_ready(tap_ready), .tap_inside(tap_inside), .tap_bank(tap_bank),
        .tap_position(tap_position), .tap_slot(tap_slot), .tap_weight(tap_weight), .tap_words(), .tap_last(tap_last),
        .pixel_clear(pixel_clear), .pixel_store(pixel_store), .pixel_sum(pixel_sum), .pixel_ends_block(pixel_ends_block));

    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : lanes
            digit_lane #(
                .POSITION_BITS(POSITION_BITS), .SLOT_BITS(SLOT_BITS), .WEIGHT_BITS(WEIGHT_BITS), .WORD_BITS(WORD_BITS),
                .TOTAL_BITS(TOTAL_BITS), .TAPS(TAPS), .SEGMENTS(SEGMENTS), .TOKENS(TOKENS), .TOTALS(TOTALS)
            ) lane(
                .clk(clk), .reset(reset), .enable(enable), .tap_put(tap_put), .tap_room(tap_room[l]), .tap_inside(tap_inside),
                .tap_bank(tap_bank), .tap_position(tap_position), .tap_slot(tap_slot), .tap_weight(tap_weight),
                .tap_last(tap_last),
                .count_address(count_address[l*(POSITION_BITS+1)+:POSITION_BITS+1]),
                .count_low(count_low[l*(WORD_BITS+1)+:WORD_BITS+1]),
                .count_high(count_high[l*(WORD_BITS+1)+:WORD_BITS+1]),
                .entry_read(entry_read[l]), .entry_address(entry_address[l*(SLOT_BITS+1)+:SLOT_BITS+1]),
                .entry_low(entry_low[l*(WORD_BITS+5)+:WORD_BITS+5]),
                .entry_high(entry_high[l*(WORD_BITS+5)+:WORD_BITS+5]),
                .token_valid(token_valid[l]), .token_take(token_take[l]), .token_digit(token_digit[l*9+:9]),
                .token_weight(token_weight[l*WEIGHT_BITS+:WEIGHT_BITS]),
                .total_valid(total_valid[l]), .total_take(start), .total(totals[l*TOTAL_BITS+:TOTAL_BITS]));
        end
    endgenerate

    // What becomes of the pixels whose totals are there.
    wire next_there, next_clear, next_store, next_ends_block;
    wire [SUM_BITS:0] next_sum;
    fifo #(.WIDTH(3 + SUM_BITS + 1), .DEPTH(TOTALS)) pixels(
        .clk(clk), .reset(reset), .enable(enable), .put(tap_put && tap_last), .take(start), .valid(next_there),
        .in({pixel_clear, pixel_store, pixel_ends_block, pixel_sum}), .room(pixels_free),
        .out({next_clear, next_store, next_ends_block, next_sum}));

    // A pixel takes the digits of its fullest lane, at least one cycle, and more where a lane's digits are late.
    reg active, clear, clear_done, store, ends_block;
    reg [SUM_BITS:0] address;
    reg [TOTAL_BITS-1:0] left [0:LANES-1];
    reg [LANES-1:0] some_left, more_left;    // digits, at least one and at least two
    assign fire = active && &(~some_left | token_valid);
    assign ends = fire && more_left == 0;
    assign start = (!active || ends) && &total_valid && next_there && may_start;
    assign block_multiplied = enable && ends && ends_block;
    assign token_take = some_left & {LANES{fire}};

    integer i;
    reg [TOTAL_BITS-1:0] total;
    always @(posedge clk) begin
        if (reset) begin
            active <= 0;
            some_left <= 0;
            more_left <= 0;
        end else if (enable) begin
            active <= start || (active && !ends);
            for (i = 0; i < LANES; i = i + 1) begin
                total = totals[i*TOTAL_BITS+:TOTAL_BITS];
                if (start) begin
                    left[i] <= total;
                    some_left[i] <= total != 0;
                    more_left[i] <= total > 1;
                end else if (fire) begin
                    left[i] <= left[i] - some_left[i];
                    some_left[i] <= more_left[i];
                    more_left[i] <= left[i] > 2;
                end
            end
        end
        if (enable && start) begin
            {clear, store, ends_block, address} <= {next_clear, next_store, next_ends_block, next_sum};
        end
        if (enable && fire) clear_done <= 1;
        if (enable && start) clear_done <= 0;
    end

    // Digits and the addresses of their weights, those of lane l by l % CHAIN cycles later, then a cycle for the weights.
    wire [LANES*9-1:0] digits;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : skew
            localparam LATE = 1 + l % CHAIN;
            reg [WEIGHT_BITS-1:0] addresses [0:LATE-1];
            reg signed [8:0] values [0:LATE];
            integer j;
            always @(posedge clk) if (enable) begin
                addresses[0] <= token_take[l] ? token_weight[l*WEIGHT_BITS+:WEIGHT_BITS] : 0;
                values[0] <= token_take[l] ? token_digit[l*9+:9] : 9'b0;
                for (j = 1; j < LATE; j = j + 1) addresses[j] <= addresses[j-1];
                for (j = 1; j <= LATE; j = j + 1) values[j] <= values[j-1];
            end
            assign weight_address[l*WEIGHT_BITS+:WEIGHT_BITS] = addresses[LATE-1];
            assign digits[l*9+:9] = values[LATE];
        end
    endgenerate

    pixel_sums #(.LANES(LANES), .OC_TILE(OC_TILE), .SUM_BITS(SUM_BITS), .GAP(GAP), .CHAIN(CHAIN)) sums(
        .clk(clk), .reset(reset), .enable(enable), .clear(fire && clear && !clear_done), .store(ends && store),
        .ends_block(ends && ends_block), .address(address), .digits(digits), .weight_word(weight_word), .block_done(block_done),
        .sum_valid(sum_valid), .sum_address(sum_address), .sum(sum));
endmodule
