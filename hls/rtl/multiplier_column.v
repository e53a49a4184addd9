// Two output channels of one core: LANES digits times two weights each, in one DSP per lane, adder tree, accumulators.
// What add_products and multiply_packed of kernels/compute.hpp and kernels/arithmetic.hpp are to become; hls/resources.py
// takes its LUTs from the synthesis of this. LANES is a power of two.
//
// SHIFT_FIRST (DSP48E2): a high digit is shifted before the multiplication, else (DSP48E1) after it.
module multiplier_column #(
    parameter LANES = 8,
    parameter SHIFT_FIRST = 1
) (
    input clk,
    input clear,                          // with the first products of a pixel, 2 + log2(LANES) cycles after their digits
    input [LANES*5-1:0] digits,           // signed; 0 where a lane has none
    input [LANES-1:0] high,               // 16 times the digit
    input [LANES*16-1:0] weights,         // two signed codes
    output reg signed [31:0] sum_low,
    output reg signed [31:0] sum_high
);
    localparam GAP = SHIFT_FIRST ? 17 : 14;
    localparam DIGIT = SHIFT_FIRST ? 9 : 5;
    localparam LEVELS = $clog2(LANES);
    localparam WIDTH = 18 + LEVELS;

    wire [WIDTH-1:0] low_tree [0:2*LANES-2];  // node n adds 2n + 1 and 2n + 2; the leaves are last
    wire [WIDTH-1:0] high_tree [0:2*LANES-2];

    genvar lane, node;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            wire signed [4:0] digit = digits[5*lane+:5];
            wire signed [7:0] a = weights[16*lane+:8];
            wire signed [7:0] b = weights[16*lane+8+:8];
            wire [8:0] upper = {b[7], b} + {9{a[7]}};
            reg signed [GAP+8:0] packed_weights;
            reg signed [DIGIT-1:0] operand;
            (* use_dsp = "yes" *) reg signed [GAP+8+DIGIT:0] product;
            reg high_1, high_2;
            reg signed [17:0] product_low, product_high;
            wire signed [GAP-1:0] apart_low = product[GAP-1:0];
            wire signed [8+DIGIT:0] apart_high = $signed(product[GAP+8+DIGIT:GAP]) + $signed({1'b0, product[GAP-1]});
            always @(posedge clk) begin
                packed_weights <= {upper, {(GAP-8){a[7]}}, a};
                operand <= SHIFT_FIRST && high[lane] ? digit <<< 4 : digit;
                product <= packed_weights * operand;
                high_1 <= high[lane];
                high_2 <= high_1;
                product_low <= !SHIFT_FIRST && high_2 ? apart_low <<< 4 : apart_low;
                product_high <= !SHIFT_FIRST && high_2 ? apart_high <<< 4 : apart_high;
            end
            assign low_tree[LANES-1+lane] = {{(WIDTH-18){product_low[17]}}, product_low};
            assign high_tree[LANES-1+lane] = {{(WIDTH-18){product_high[17]}}, product_high};
        end
        for (node = 0; node < LANES - 1; node = node + 1) begin : adders
            localparam USED = 19 + LEVELS - $clog2(node + 2);  // node lies $clog2(node + 2) - 1 levels below the root
            reg signed [USED-1:0] low, upper;
            always @(posedge clk) begin
                low <= $signed(low_tree[2*node+1]) + $signed(low_tree[2*node+2]);
                upper <= $signed(high_tree[2*node+1]) + $signed(high_tree[2*node+2]);
            end
            assign low_tree[node] = {{(WIDTH-USED){low[USED-1]}}, low};
            assign high_tree[node] = {{(WIDTH-USED){upper[USED-1]}}, upper};
        end
    endgenerate

    always @(posedge clk) begin
        sum_low <= (clear ? 0 : sum_low) + $signed(low_tree[0]);
        sum_high <= (clear ? 0 : sum_high) + $signed(high_tree[0]);
    end
endmodule
