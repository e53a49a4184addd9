// The digit lists of a core, those that are written and those that are read: in every lane the low and the high digits of each
// input pixel, and how many these are. `DigitLists` of kernels/encoder.hpp, twice.
module digit_memory #(
    parameter LANES = 8,
    parameter DIGIT_DEPTH = 1024,
    parameter POSITIONS = 256,
    parameter WORD_BITS = 10,
    localparam SLOT_BITS = $clog2(DIGIT_DEPTH),
    localparam POSITION_BITS = $clog2(POSITIONS),
    localparam ENTRY = WORD_BITS + 5,
    localparam COUNT = WORD_BITS + 1
) (
    input clk,
    input write,                             // of the encoding unit: its lists are taken
    input read,                              // of the core: it goes on

    // Of lane l's low digits at 2 * l, of its high ones at 2 * l + 1.
    input [2*LANES-1:0] entry_put,
    input [2*LANES*(SLOT_BITS+1)-1:0] put_address,
    input [2*LANES*ENTRY-1:0] entry,
    input count_put,
    input [POSITION_BITS:0] count_position,
    input [2*LANES*COUNT-1:0] count,

    input [LANES*(POSITION_BITS+1)-1:0] count_address,
    output [LANES*COUNT-1:0] count_low,
    output [LANES*COUNT-1:0] count_high,
    input [LANES-1:0] entry_read,
    input [LANES*(SLOT_BITS+1)-1:0] entry_address,
    output [LANES*ENTRY-1:0] entry_low,
    output [LANES*ENTRY-1:0] entry_high
);
    genvar l, half;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : lanes
            for (half = 0; half < 2; half = half + 1) begin : halves
                localparam LIST = 2 * l + half;
                (* ram_style = "block" *) reg [ENTRY-1:0] entries [0:2**(SLOT_BITS+1)-1];
                (* ram_style = "distributed" *) reg [COUNT-1:0] counts [0:2**(POSITION_BITS+1)-1];
                reg [ENTRY-1:0] found;
                always @(posedge clk) begin
                    if (write && entry_put[LIST])
                        entries[put_address[LIST*(SLOT_BITS+1)+:SLOT_BITS+1]] <= entry[LIST*ENTRY+:ENTRY];
                    if (write && count_put) counts[count_position] <= count[LIST*COUNT+:COUNT];
                    if (read && entry_read[l]) found <= entries[entry_address[l*(SLOT_BITS+1)+:SLOT_BITS+1]];
                end
                wire [COUNT-1:0] there = counts[count_address[l*(POSITION_BITS+1)+:POSITION_BITS+1]];
                if (half == 0) begin : low
                    assign entry_low[l*ENTRY+:ENTRY] = found;
                    assign count_low[l*COUNT+:COUNT] = there;
                end else begin : high
                    assign entry_high[l*ENTRY+:ENTRY] = found;
                    assign count_high[l*COUNT+:COUNT] = there;
                end
            end
        end
    endgenerate
endmodule
