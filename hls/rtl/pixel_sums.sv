// The multiplier columns of a core, and the sums of an output pixel, which come out in the cycle in which they are complete.
//
// In the cycle in which the core issues a pixel's first or last operands it says so; digits and weights come 2 cycles later, those
// of lane l by l % CHAIN more.
module pixel_sums #(
    parameter LANES = 8,
    parameter OC_TILE = 32,
    parameter SUM_BITS = 6,
    parameter GAP = 18,                      // as in multiplier_column
    parameter CHAIN = 4
) (
    input clk,
    input reset,
    input enable,
    input clear,                             // first operands of a pixel whose sums begin with 0
    input store,                             // last operands of a pixel whose sums come out,
    input ends_block,                        // of a block's last pixel
    input [SUM_BITS:0] address,              // of the pixel
    input [LANES*9-1:0] digits,
    input [LANES*OC_TILE*8-1:0] weight_word,
    output reg block_done,                   // in the cycle of the block's last sums
    output reg sum_valid,
    output reg [SUM_BITS:0] sum_address,
    output [OC_TILE*32-1:0] sum
);
    localparam TO_SUMS = 2 + 4 + CHAIN;      // cycles to the multipliers, and in them

    reg [TO_SUMS-1:0] clears, stores, ends;
    reg [SUM_BITS:0] addresses [0:TO_SUMS-1];
    integer i;
    always @(posedge clk) begin
        if (reset) begin
            {clears, stores, ends} <= 0;
            {sum_valid, block_done} <= 0;
        end else if (enable) begin
            clears <= {clears[TO_SUMS-2:0], clear};
            stores <= {stores[TO_SUMS-2:0], store};
            ends <= {ends[TO_SUMS-2:0], ends_block};
            sum_valid <= stores[TO_SUMS-1];
            block_done <= ends[TO_SUMS-1];
        end
        if (enable) begin
            addresses[0] <= address;
            for (i = 1; i < TO_SUMS; i = i + 1) addresses[i] <= addresses[i-1];
            sum_address <= addresses[TO_SUMS-1];
        end
    end

    genvar l, o;
    generate
        for (o = 0; o < OC_TILE; o = o + 2) begin : columns
            wire [LANES*16-1:0] pairs;
            for (l = 0; l < LANES; l = l + 1) begin : operands
                assign pairs[l*16+:16] = weight_word[(l*OC_TILE+o)*8+:16];
            end
            multiplier_column #(.LANES(LANES), .GAP(GAP), .CHAIN(CHAIN)) column(
                .clk(clk), .enable(enable), .clear(clears[TO_SUMS-1]), .digits(digits), .weights(pairs),
                .sum_low(sum[o*32+:32]), .sum_high(sum[(o+1)*32+:32]));
        end
    endgenerate
endmodule
