// The baseline at equal resources: one core of a dense array, LANES x OC_TILE multipliers of two 8-bit codes, two weights to a DSP
// slice, the same adder tree and sums, and no queues: every lane takes a code in every cycle, zeros and padding too. What
// `dense_parts` of hls/machine/resources.py counts.
module dense_core #(
    parameter LANES = 8,
    parameter OC_TILE = 32,
    parameter POSITION_BITS = 8,
    parameter SLOT_BITS = 10,
    parameter WEIGHT_BITS = 10,
    parameter SUM_BITS = 6,
    parameter GAP = 18,
    parameter CHAIN = 8,                     // products of codes are half as large as those of high digits: twice the lanes
    parameter D = 16
) (
    input clk,
    input reset,
    input enable,

    input block_valid,                       // as in compute_core
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

    output [LANES*(SLOT_BITS+1)-1:0] code_address,
    input [LANES*8-1:0] codes,               // a cycle later
    output [LANES*WEIGHT_BITS-1:0] weight_address,
    input [LANES*OC_TILE*8-1:0] weight_word,  // a cycle later

    output sum_valid,
    output [SUM_BITS:0] sum_address,
    output [OC_TILE*32-1:0] sum
);
    wire tap_valid, tap_inside, tap_bank, tap_last, pixel_clear, pixel_store, pixel_ends_block;
    wire [POSITION_BITS-1:0] tap_position;
    wire [SLOT_BITS-1:0] tap_slot;
    wire [WEIGHT_BITS-1:0] tap_weight;
    wire [SUM_BITS:0] pixel_sum;

    // A tap takes as many cycles as its pixel has words.
    reg [D-1:0] word;
    reg [D-1:0] words_of_block;
    wire last_word = word + 1'b1 == words_of_block;
    always @(posedge clk) begin
        if (reset) word <= 0;
        else if (enable && tap_valid) word <= last_word ? 0 : word + 1'b1;
    end

    tap_walker #(
        .POSITION_BITS(POSITION_BITS), .SLOT_BITS(SLOT_BITS), .WEIGHT_BITS(WEIGHT_BITS), .SUM_BITS(SUM_BITS), .D(D)
    ) walker(
        .clk(clk), .reset(reset), .enable(enable), .block_valid(block_valid), .block_ready(block_ready), .block_bank(block_bank),
        .block_sums(block_sums), .output_rows(output_rows), .output_width(output_width), .first_sum(first_sum),
        .first_row(first_row), .first_column(first_column), .rows(rows), .width(width), .kernel_height(kernel_height),
        .kernel_width(kernel_width), .stride_height(stride_height), .stride_width(stride_width),
        .lead_columns({D{1'b0}}), .chained_row(1'b0), .chained_block(1'b0), .words(words), .first_weight(first_weight),
        .tap_valid(tap_valid), .tap_ready(last_word), .tap_inside(tap_inside), .tap_bank(tap_bank),
        .tap_position(tap_position), .tap_slot(tap_slot), .tap_weight(tap_weight), .tap_last(tap_last), .tap_words(words_of_block),
        .pixel_clear(pixel_clear), .pixel_store(pixel_store), .pixel_sum(pixel_sum), .pixel_ends_block(pixel_ends_block));

    reg within_pixel;                        // not its first cycle
    always @(posedge clk) begin
        if (reset) within_pixel <= 0;
        else if (enable && tap_valid) within_pixel <= !(last_word && tap_last);
    end
    wire ends = tap_valid && last_word && tap_last;

    wire [LANES*8-1:0] operands;
    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : skew
            localparam LATE = 1 + l % CHAIN;
            reg [SLOT_BITS:0] slots [0:LATE-1];
            reg [WEIGHT_BITS-1:0] addresses [0:LATE-1];
            reg [LATE:0] there;
            integer j;
            always @(posedge clk) if (enable) begin
                slots[0] <= {tap_bank, tap_slot + word[SLOT_BITS-1:0]};
                addresses[0] <= tap_weight + word[WEIGHT_BITS-1:0];
                there <= {there[LATE-1:0], tap_valid && tap_inside};
                for (j = 1; j < LATE; j = j + 1) begin
                    slots[j] <= slots[j-1];
                    addresses[j] <= addresses[j-1];
                end
            end
            assign code_address[l*(SLOT_BITS+1)+:SLOT_BITS+1] = slots[LATE-1];
            assign weight_address[l*WEIGHT_BITS+:WEIGHT_BITS] = addresses[LATE-1];
            assign operands[l*8+:8] = there[LATE] ? codes[l*8+:8] : 8'b0;
        end
    endgenerate

    wire [LANES*9-1:0] digits;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : widen
            assign digits[l*9+:9] = {operands[l*8+7], operands[l*8+:8]};
        end
    endgenerate

    pixel_sums #(.LANES(LANES), .OC_TILE(OC_TILE), .SUM_BITS(SUM_BITS), .GAP(GAP), .CHAIN(CHAIN)) sums(
        .clk(clk), .reset(reset), .enable(enable), .clear(tap_valid && !within_pixel), .store(ends), .ends_block(ends && pixel_ends_block),
        .address(pixel_sum), .digits(digits), .weight_word(weight_word), .block_done(block_done), .sum_valid(sum_valid),
        .sum_address(sum_address), .sum(sum));
endmodule
