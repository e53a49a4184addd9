// A queue of DEPTH words in LUTs: the oldest is at `out` while `valid`. `room` is how many more it takes.
module fifo #(
    parameter WIDTH = 8,
    parameter DEPTH = 8
) (
    input clk,
    input reset,
    input enable,
    input put,
    input [WIDTH-1:0] in,
    input take,
    output [WIDTH-1:0] out,
    output valid,
    output [$clog2(DEPTH+1)-1:0] room
);
    localparam BITS = $clog2(DEPTH) > 0 ? $clog2(DEPTH) : 1;
    localparam [BITS-1:0] LAST = DEPTH - 1;

    (* ram_style = "distributed" *) reg [WIDTH-1:0] words [0:DEPTH-1];
    reg [BITS-1:0] oldest, next;
    reg [$clog2(DEPTH+1)-1:0] count;

    assign out = words[oldest];
    assign valid = count != 0;
    assign room = DEPTH - count;

    always @(posedge clk) begin
        if (enable && put) words[next] <= in;
        if (reset) begin
            oldest <= 0;
            next <= 0;
            count <= 0;
        end else if (enable) begin
            if (put) next <= next == LAST ? 0 : next + 1'b1;
            if (take) oldest <= oldest == LAST ? 0 : oldest + 1'b1;
            if (put && !take) count <= count + 1'b1;
            if (take && !put) count <= count - 1'b1;
        end
    end
endmodule
