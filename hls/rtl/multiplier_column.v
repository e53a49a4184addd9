`timescale 1ns / 1ps

// Two output channels of one core: LANES digits times two weights each, in one DSP slice per lane, and the sums. What
// multiply_lanes of kernels/arithmetic.hpp is to become, and what the blackbox of Vitis HLS consists of.
//
// CHAIN lanes are added up inside their slices, each from the one before it: the digits and weights of lane l come l % CHAIN
// cycles late. GAP bits separate the two products: 18 and chains of 4 in a DSP48E2 (27 x 18 bits), 16 and no chains in a
// DSP48E1 (25 x 18).
module multiplier_column #(
    parameter LANES = 8,
    parameter GAP = 18,
    parameter CHAIN = 4
) (
    input clk,
    input enable,                         // low: all stands still
    input clear,                          // with the first products of a pixel, 4 + CHAIN cycles after lane 0's digits
    input [LANES*9-1:0] digits,           // signed, 16 times a high one; 0 where a lane has none
    input [LANES*16-1:0] weights,         // two signed codes
    output reg signed [31:0] sum_low,
    output reg signed [31:0] sum_high
);
    localparam GROUPS = (LANES + CHAIN - 1) / CHAIN;
    wire [GROUPS*CHAIN*9-1:0] all_digits = digits;  // 0 where the last chain has no lanes
    wire [GROUPS*CHAIN*16-1:0] all_weights = weights;
    localparam WIDTH = 17 + $clog2(LANES);

    wire signed [WIDTH-1:0] total_low [0:GROUPS];
    wire signed [WIDTH-1:0] total_high [0:GROUPS];
    assign total_low[0] = 0;
    assign total_high[0] = 0;

    genvar group, link;
    generate
        for (group = 0; group < GROUPS; group = group + 1) begin : groups
            wire signed [47:0] chain [0:CHAIN];
            assign chain[0] = 0;
            for (link = 0; link < CHAIN; link = link + 1) begin : links
                localparam LANE = group * CHAIN + link;
                multiply_add #(.GAP(GAP)) slice(
                    clk, enable, all_weights[16*LANE+:8], all_weights[16*LANE+8+:8], all_digits[9*LANE+:9], chain[link], chain[link+1]);
            end
            // The low half is at most CHAIN * 32768 = 2**(GAP - 1), of codes of -128 and digits of -256: that looks negative.
            wire [GAP-1:0] low_bits = chain[CHAIN][GAP-1:0];
            wire negative = low_bits[GAP-1] && low_bits[GAP-2:0] != 0;
            assign total_low[group+1] = total_low[group] + $signed({negative, low_bits});
            assign total_high[group+1] = total_high[group] + $signed(chain[CHAIN][2*GAP:GAP]) + $signed({1'b0, negative});
        end
    endgenerate

    reg signed [WIDTH-1:0] products_low, products_high;
    always @(posedge clk) if (enable) begin
        products_low <= total_low[GROUPS];
        products_high <= total_high[GROUPS];
        sum_low <= (clear ? 0 : sum_low) + products_low;
        sum_high <= (clear ? 0 : sum_high) + products_high;
    end
endmodule

// One slice: its pre-adder packs two weights, its multiplier takes them times a digit, its adder goes on from the slice before.
module multiply_add #(
    parameter GAP = 18
) (
    input clk,
    input enable,
    input signed [7:0] a,
    input signed [7:0] b,
    input signed [8:0] digit,
    input signed [47:0] carried,
    output reg signed [47:0] sum
);
    reg signed [GAP+8:0] low, high, both;
    reg signed [8:0] operand, operand_later;
    reg signed [GAP+17:0] product;
    always @(posedge clk) if (enable) begin
        low <= a;
        high <= $signed({b, {GAP{1'b0}}});
        both <= low + high;
        operand <= digit;
        operand_later <= operand;
        product <= both * operand_later;
        sum <= carried + product;
    end
endmodule
