// The codes of a dense core's input pixels, those that are written and those that are read: a bank of 8 bits for every lane.
module operand_memory #(
    parameter LANES = 8,
    parameter DEPTH = 1024,
    localparam BITS = $clog2(DEPTH) + 1
) (
    input clk,
    input write,
    input read,
    input put,
    input [BITS-1:0] put_address,
    input [8*LANES-1:0] put_codes,
    input [LANES*BITS-1:0] address,
    output reg [8*LANES-1:0] codes           // a cycle later
);
    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : lanes
            (* ram_style = "block" *) reg [7:0] words [0:2**BITS-1];
            always @(posedge clk) begin
                if (write && put) words[put_address] <= put_codes[8*l+:8];
                if (read) codes[8*l+:8] <= words[address[l*BITS+:BITS]];
            end
        end
    endgenerate
endmodule
