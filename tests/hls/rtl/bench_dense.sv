// A dense core between its memories, for the tests: codes and weights are written here, sums come out.
module bench_dense #(
    parameter LANES = 4,
    parameter OC_TILE = 4,
    parameter DIGIT_DEPTH = 64,
    parameter POSITIONS = 32,
    parameter WEIGHT_DEPTH = 64,
    parameter ACCUMULATOR_DEPTH = 16,
    parameter GAP = 18,
    parameter CHAIN = 8,
    localparam D = 16,
    localparam SLOT_BITS = $clog2(DIGIT_DEPTH),
    localparam WEIGHT_BITS = $clog2(WEIGHT_DEPTH),
    localparam SUM_BITS = $clog2(ACCUMULATOR_DEPTH)
) (
    input clk,
    input reset,
    input enable,
    input code_put,
    input [SLOT_BITS:0] put_address,
    input [8*LANES-1:0] put_codes,
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
    input [D-1:0] words,
    input [WEIGHT_BITS-1:0] first_weight,
    output block_done,
    output sum_valid,
    output [SUM_BITS:0] sum_address,
    output [OC_TILE*32-1:0] sum
);
    wire [LANES*(SLOT_BITS+1)-1:0] code_address;
    wire [LANES*8-1:0] codes;
    wire [LANES*WEIGHT_BITS-1:0] weight_address;
    wire [2*LANES*8*OC_TILE-1:0] weight_words;

    operand_memory #(.LANES(LANES), .DEPTH(DIGIT_DEPTH)) operands(
        .clk(clk), .write(1'b1), .read(enable), .put(code_put), .put_address(put_address), .put_codes(put_codes),
        .address(code_address), .codes(codes));
    weight_memory #(.LANES(LANES), .OC_TILE(OC_TILE), .WEIGHT_DEPTH(WEIGHT_DEPTH)) weights(
        .clk(clk), .enable({1'b0, enable}), .put(weight_put), .put_address(weight_place), .put_word(weight),
        .address({{LANES*WEIGHT_BITS{1'b0}}, weight_address}), .word(weight_words));
    dense_core #(
        .LANES(LANES), .OC_TILE(OC_TILE), .POSITION_BITS($clog2(POSITIONS)), .SLOT_BITS(SLOT_BITS),
        .WEIGHT_BITS(WEIGHT_BITS), .SUM_BITS(SUM_BITS), .GAP(GAP), .CHAIN(CHAIN)
    ) core(
        .clk(clk), .reset(reset), .enable(enable), .block_valid(block_valid), .block_ready(block_ready),
        .block_bank(block_bank), .block_sums(block_sums), .output_rows(output_rows), .output_width(output_width),
        .first_sum(first_sum), .first_row(first_row), .first_column(first_column), .rows(rows), .width(width),
        .kernel_height(kernel_height), .kernel_width(kernel_width), .stride_height(stride_height),
        .stride_width(stride_width), .words(words), .first_weight(first_weight), .block_done(block_done),
        .code_address(code_address), .codes(codes), .weight_address(weight_address),
        .weight_word(weight_words[LANES*8*OC_TILE-1:0]), .sum_valid(sum_valid), .sum_address(sum_address), .sum(sum));
endmodule
