// A copy of the weights for two cores: in every lane words of OC_TILE codes, which the loader writes through the second core's
// port. `WeightBanks` of kernels/compute.hpp.
module weight_memory #(
    parameter LANES = 8,
    parameter OC_TILE = 32,
    parameter WEIGHT_DEPTH = 1024,
    parameter STYLE = "block",               // or "ultra"
    localparam WEIGHT_BITS = $clog2(WEIGHT_DEPTH),
    localparam WORD = 8 * OC_TILE
) (
    input clk,
    input [1:0] enable,                      // of the cores
    input [LANES-1:0] put,
    input [WEIGHT_BITS-1:0] put_address,
    input [WORD-1:0] put_word,
    input [2*LANES*WEIGHT_BITS-1:0] address,
    output reg [2*LANES*WORD-1:0] word       // a cycle later
);
    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : lanes
            (* ram_style = STYLE *) reg [WORD-1:0] words [0:2**WEIGHT_BITS-1];
            always @(posedge clk) begin
                if (enable[0]) word[l*WORD+:WORD] <= words[address[l*WEIGHT_BITS+:WEIGHT_BITS]];
            end
            wire [WEIGHT_BITS-1:0] second = put[l] ? put_address : address[(LANES+l)*WEIGHT_BITS+:WEIGHT_BITS];
            always @(posedge clk) begin
                if (put[l]) words[second] <= put_word;
                else if (enable[1]) word[(LANES+l)*WORD+:WORD] <= words[second];
            end
        end
    endgenerate
endmodule
