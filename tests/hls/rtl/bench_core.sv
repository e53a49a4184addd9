// A core between its memories, for the tests: the digit lists and the weights are written here, sums come out.
module bench_core #(
    parameter LANES = 4,
    parameter OC_TILE = 4,
    parameter DIGIT_DEPTH = 64,
    parameter POSITIONS = 32,
    parameter WEIGHT_DEPTH = 64,
    parameter ACCUMULATOR_DEPTH = 16,
    parameter WORD_BITS = 6,
    parameter GAP = 18,
    parameter CHAIN = 4,
    parameter TAPS = 2,
    parameter SEGMENTS = 32,
    parameter TOKENS = 4,
    parameter TOTALS = 8,
    parameter D = 16,
    localparam SLOT_BITS = $clog2(DIGIT_DEPTH),
    localparam POSITION_BITS = $clog2(POSITIONS),
    localparam WEIGHT_BITS = $clog2(WEIGHT_DEPTH),
    localparam SUM_BITS = $clog2(ACCUMULATOR_DEPTH),
    localparam ENTRY = WORD_BITS + 5,
    localparam COUNT = WORD_BITS + 1
) (
    input clk,
    input reset,
    input enable,
    input [2*LANES-1:0] entry_put,
    input [2*LANES*(SLOT_BITS+1)-1:0] put_address,
    input [2*LANES*ENTRY-1:0] entry,
    input count_put,
    input [POSITION_BITS:0] count_position,
    input [2*LANES*COUNT-1:0] count,
    input [LANES-1:0] weight_put,
    input [WEIGHT_BITS-1:0] weight_place,
    input [8*OC_TILE-1:0] weight,
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
    input may_start,
    output block_done,
    output sum_valid,
    output [SUM_BITS:0] sum_address,
    output [OC_TILE*32-1:0] sum
);
    wire [LANES*(POSITION_BITS+1)-1:0] count_address;
    wire [LANES*COUNT-1:0] count_low, count_high;
    wire [LANES-1:0] entry_read;
    wire [LANES*(SLOT_BITS+1)-1:0] entry_address;
    wire [LANES*ENTRY-1:0] entry_low, entry_high;
    wire [LANES*WEIGHT_BITS-1:0] weight_address;
    wire [2*LANES*8*OC_TILE-1:0] weight_words;

    digit_memory #(.LANES(LANES), .DIGIT_DEPTH(DIGIT_DEPTH), .POSITIONS(POSITIONS), .WORD_BITS(WORD_BITS)) lists(
        .clk(clk), .write(1'b1), .read(enable), .entry_put(entry_put), .put_address(put_address), .entry(entry),
        .count_put(count_put), .count_position(count_position), .count(count), .count_address(count_address),
        .count_low(count_low), .count_high(count_high), .entry_read(entry_read), .entry_address(entry_address),
        .entry_low(entry_low), .entry_high(entry_high));

    weight_memory #(.LANES(LANES), .OC_TILE(OC_TILE), .WEIGHT_DEPTH(WEIGHT_DEPTH)) weights(
        .clk(clk), .enable({1'b0, enable}), .put(weight_put), .put_address(weight_place), .put_word(weight),
        .address({{LANES*WEIGHT_BITS{1'b0}}, weight_address}), .word(weight_words));

    compute_core #(
        .LANES(LANES), .OC_TILE(OC_TILE), .POSITION_BITS(POSITION_BITS), .SLOT_BITS(SLOT_BITS), .WEIGHT_BITS(WEIGHT_BITS),
        .WORD_BITS(WORD_BITS), .SUM_BITS(SUM_BITS), .GAP(GAP), .CHAIN(CHAIN), .TAPS(TAPS), .SEGMENTS(SEGMENTS),
        .TOKENS(TOKENS), .TOTALS(TOTALS), .D(D)
    ) core(
        .clk(clk), .reset(reset), .enable(enable), .block_valid(block_valid), .block_ready(block_ready),
        .block_bank(block_bank), .block_sums(block_sums), .output_rows(output_rows), .output_width(output_width),
        .first_sum(first_sum), .first_row(first_row), .first_column(first_column), .rows(rows), .width(width),
        .kernel_height(kernel_height), .kernel_width(kernel_width), .stride_height(stride_height),
        .stride_width(stride_width), .lead_columns(lead_columns), .chained_row(chained_row), .chained_block(chained_block),
        .words(words), .first_weight(first_weight), .may_start(may_start), .block_multiplied(), .block_done(block_done), .count_address(count_address),
        .count_low(count_low), .count_high(count_high), .entry_read(entry_read), .entry_address(entry_address),
        .entry_low(entry_low), .entry_high(entry_high), .weight_address(weight_address),
        .weight_word(weight_words[LANES*8*OC_TILE-1:0]), .sum_valid(sum_valid), .sum_address(sum_address), .sum(sum));
endmodule
