// The next bytes of a run of memory words, COUNT at most of them a cycle: `Window` of kernels/encoder.hpp. They come out a cycle
// after `take`, which must wait for `ready`.
module byte_window #(
    parameter BUS_BYTES = 16,
    parameter COUNT = 8,
    localparam BITS = $clog2(2 * BUS_BYTES + 1)
) (
    input clk,
    input reset,
    input enable,
    input start,                             // with the first `take` of a run: what is left of the one before it goes
    input take,
    input [BITS-1:0] count,
    output ready,
    input word_valid,
    output word_ready,
    input [8*BUS_BYTES-1:0] word,
    output [8*COUNT-1:0] bytes
);
    reg [8*BUS_BYTES-1:0] low, high;
    reg [BITS-1:0] at, end_;                 // the bytes that are left
    reg [BITS-1:0] first;                    // of the bytes that come out

    wire passed = !start && at >= BUS_BYTES;
    wire [BITS-1:0] at_now = start ? 0 : passed ? at - BUS_BYTES : at;
    wire [BITS-1:0] end_now = start ? 0 : passed ? end_ - BUS_BYTES : end_;
    wire needed = at_now + count > end_now;
    assign ready = !needed || word_valid;
    assign word_ready = take && needed;

    always @(posedge clk) begin
        if (reset) begin
            at <= 0;
            end_ <= 0;
        end else if (enable && take && ready) begin
            at <= at_now + count;
            end_ <= needed ? end_now + BUS_BYTES : end_now;
        end
        if (enable && take && ready) begin
            low <= needed && end_now == 0 ? word : passed ? high : low;
            if (needed && end_now != 0) high <= word;
            first <= at_now;
        end
    end

    wire [16*BUS_BYTES-1:0] both = {high, low};
    assign bytes = both[8*first+:8*COUNT];
endmodule
