// The compute unit with its encoders and memories: for every core an encoding unit, two banks of digit lists and a core, for every
// two cores a copy of the weights. Its numbers come from the hardware configuration (ditto_config.svh, which hls/build/verilog.py writes).
// Signals of core c lie at c times their width.
`include "ditto_config.svh"

module compute_unit #(
    localparam CORES = `DITTO_CORES,
    localparam COPIES = (CORES + 1) / 2,
    localparam LANES = `DITTO_LANES,
    localparam OC_TILE = `DITTO_OC_TILE,
    localparam BUS_BYTES = `DITTO_BUS_BYTES,
    localparam DIGIT_DEPTH = `DITTO_DIGIT_DEPTH,
    localparam POSITIONS = `DITTO_POSITIONS,
    localparam WORD_BITS = `DITTO_WORD_BITS,
    localparam SLOT_BITS = $clog2(DIGIT_DEPTH),
    localparam POSITION_BITS = $clog2(POSITIONS),
    localparam WEIGHT_BITS = $clog2(`DITTO_WEIGHT_DEPTH),
    localparam SUM_BITS = $clog2(`DITTO_ACCUMULATOR_DEPTH),
    localparam ENTRY = WORD_BITS + 5,
    localparam COUNT = WORD_BITS + 1,
    localparam D = 16
) (
    input clk,
    input reset,

    input [CORES-1:0] encoder_enable,        // an encoding unit goes on
    input [CORES-1:0] run_valid,             // as in encoding_unit
    output [CORES-1:0] run_ready,
    input [CORES-1:0] run_bank,
    input [CORES*2-1:0] reference,
    input [CORES-1:0] outside,
    input [CORES*D-1:0] pixels,
    input [CORES*D-1:0] run_words,
    input [CORES*D-1:0] last_count,
    input [CORES*POSITION_BITS-1:0] first_position,
    input [CORES*SLOT_BITS-1:0] first_slot,
    input [CORES*D-1:0] column,
    input [CORES*D-1:0] distance,
    input [CORES*D-1:0] phase,
    input [CORES*SLOT_BITS-1:0] row_neighbours,
    input [CORES*SLOT_BITS-1:0] phase_neighbours,
    output [CORES-1:0] run_done,
    input [CORES-1:0] current_valid,
    output [CORES-1:0] current_ready,
    input [CORES*8*BUS_BYTES-1:0] current,
    input [CORES-1:0] previous_valid,
    output [CORES-1:0] previous_ready,
    input [CORES*8*BUS_BYTES-1:0] previous,

    input [LANES-1:0] weight_put,            // into all copies, while no core multiplies
    input [WEIGHT_BITS-1:0] weight_place,
    input [8*OC_TILE-1:0] weight,

    input [CORES-1:0] core_enable,           // a core goes on
    input [CORES-1:0] block_valid,           // as in compute_core
    output [CORES-1:0] block_ready,
    input [CORES-1:0] block_bank,
    input [CORES-1:0] block_sums,
    input [CORES*D-1:0] output_rows,
    input [CORES*D-1:0] output_width,
    input [CORES*SUM_BITS-1:0] first_sum,
    input [CORES*D-1:0] first_row,
    input [CORES*D-1:0] first_column,
    input [CORES*D-1:0] rows,
    input [CORES*D-1:0] width,
    input [CORES*D-1:0] kernel_height,
    input [CORES*D-1:0] kernel_width,
    input [CORES*D-1:0] stride_height,
    input [CORES*D-1:0] stride_width,
    input [CORES*D-1:0] lead_columns,
    input [CORES-1:0] chained_row,
    input [CORES-1:0] chained_block,
    input [CORES*D-1:0] words,
    input [CORES*WEIGHT_BITS-1:0] first_weight,
    input [CORES-1:0] may_start,
    output [CORES-1:0] block_multiplied,
    output [CORES-1:0] block_done,
    output [CORES-1:0] sum_valid,
    output [CORES*(SUM_BITS+1)-1:0] sum_address,
    output [CORES*OC_TILE*32-1:0] sum
);
    wire [2*COPIES*LANES*WEIGHT_BITS-1:0] weight_address;
    wire [2*COPIES*LANES*OC_TILE*8-1:0] weight_word;
    wire [2*COPIES-1:0] enables = core_enable;

    genvar c;
    generate
        for (c = 0; c < COPIES; c = c + 1) begin : copies
            weight_memory #(
                .LANES(LANES), .OC_TILE(OC_TILE), .WEIGHT_DEPTH(`DITTO_WEIGHT_DEPTH),
                .STYLE(c < `DITTO_URAM_COPIES ? "ultra" : "block")
            ) weights(
                .clk(clk), .enable(enables[2*c+:2]), .put(weight_put), .put_address(weight_place), .put_word(weight),
                .address(weight_address[2*c*LANES*WEIGHT_BITS+:2*LANES*WEIGHT_BITS]),
                .word(weight_word[2*c*LANES*OC_TILE*8+:2*LANES*OC_TILE*8]));
        end
        if (CORES % 2) begin : unused
            assign weight_address[CORES*LANES*WEIGHT_BITS+:LANES*WEIGHT_BITS] = 0;
        end

        for (c = 0; c < CORES; c = c + 1) begin : cores
            wire [2*LANES-1:0] entry_put;
            wire [2*LANES*(SLOT_BITS+1)-1:0] put_address;
            wire [2*LANES*ENTRY-1:0] entry;
            wire count_put;
            wire [POSITION_BITS:0] count_position;
            wire [2*LANES*COUNT-1:0] count;
            wire [LANES*(POSITION_BITS+1)-1:0] count_address;
            wire [LANES*COUNT-1:0] count_low, count_high;
            wire [LANES-1:0] entry_read;
            wire [LANES*(SLOT_BITS+1)-1:0] entry_address;
            wire [LANES*ENTRY-1:0] entry_low, entry_high;

            encoding_unit #(
                .LANES(LANES), .BUS_BYTES(BUS_BYTES), .DIGIT_DEPTH(DIGIT_DEPTH), .POSITIONS(POSITIONS), .WORD_BITS(WORD_BITS)
            ) encoder(
                .clk(clk), .reset(reset), .enable(encoder_enable[c]), .run_valid(run_valid[c]), .run_ready(run_ready[c]),
                .run_bank(run_bank[c]), .reference(reference[2*c+:2]), .outside(outside[c]), .pixels(pixels[D*c+:D]),
                .words(run_words[D*c+:D]), .last_count(last_count[D*c+:D]),
                .first_position(first_position[POSITION_BITS*c+:POSITION_BITS]), .first_slot(first_slot[SLOT_BITS*c+:SLOT_BITS]),
                .column(column[D*c+:D]), .distance(distance[D*c+:D]), .phase(phase[D*c+:D]),
                .row_neighbours(row_neighbours[SLOT_BITS*c+:SLOT_BITS]),
                .phase_neighbours(phase_neighbours[SLOT_BITS*c+:SLOT_BITS]), .run_done(run_done[c]),
                .current_valid(current_valid[c]), .current_ready(current_ready[c]), .current(current[8*BUS_BYTES*c+:8*BUS_BYTES]),
                .previous_valid(previous_valid[c]), .previous_ready(previous_ready[c]),
                .previous(previous[8*BUS_BYTES*c+:8*BUS_BYTES]), .entry_put(entry_put), .put_address(put_address), .entry(entry),
                .count_put(count_put), .count_position(count_position), .count(count));

            digit_memory #(.LANES(LANES), .DIGIT_DEPTH(DIGIT_DEPTH), .POSITIONS(POSITIONS), .WORD_BITS(WORD_BITS)) lists(
                .clk(clk), .write(encoder_enable[c]), .read(core_enable[c]), .entry_put(entry_put), .put_address(put_address),
                .entry(entry), .count_put(count_put), .count_position(count_position), .count(count),
                .count_address(count_address), .count_low(count_low), .count_high(count_high), .entry_read(entry_read),
                .entry_address(entry_address), .entry_low(entry_low), .entry_high(entry_high));

            compute_core #(
                .LANES(LANES), .OC_TILE(OC_TILE), .POSITION_BITS(POSITION_BITS), .SLOT_BITS(SLOT_BITS),
                .WEIGHT_BITS(WEIGHT_BITS), .WORD_BITS(WORD_BITS), .SUM_BITS(SUM_BITS), .GAP(`DITTO_GAP), .CHAIN(`DITTO_CHAIN),
                .TAPS(`DITTO_TAPS), .SEGMENTS(`DITTO_SEGMENTS), .TOKENS(`DITTO_TOKENS), .TOTALS(`DITTO_TOTALS)
            ) core(
                .clk(clk), .reset(reset), .enable(core_enable[c]), .block_valid(block_valid[c]), .block_ready(block_ready[c]),
                .block_bank(block_bank[c]), .block_sums(block_sums[c]), .output_rows(output_rows[D*c+:D]),
                .output_width(output_width[D*c+:D]), .first_sum(first_sum[SUM_BITS*c+:SUM_BITS]),
                .first_row(first_row[D*c+:D]), .first_column(first_column[D*c+:D]), .rows(rows[D*c+:D]), .width(width[D*c+:D]),
                .kernel_height(kernel_height[D*c+:D]), .kernel_width(kernel_width[D*c+:D]),
                .stride_height(stride_height[D*c+:D]), .stride_width(stride_width[D*c+:D]),
                .lead_columns(lead_columns[D*c+:D]), .chained_row(chained_row[c]), .chained_block(chained_block[c]),
                .words(words[D*c+:D]), .first_weight(first_weight[WEIGHT_BITS*c+:WEIGHT_BITS]),
                .may_start(may_start[c]), .block_multiplied(block_multiplied[c]), .block_done(block_done[c]),
                .count_address(count_address), .count_low(count_low), .count_high(count_high), .entry_read(entry_read),
                .entry_address(entry_address), .entry_low(entry_low), .entry_high(entry_high),
                .weight_address(weight_address[LANES*WEIGHT_BITS*c+:LANES*WEIGHT_BITS]),
                .weight_word(weight_word[LANES*OC_TILE*8*c+:LANES*OC_TILE*8]), .sum_valid(sum_valid[c]),
                .sum_address(sum_address[(SUM_BITS+1)*c+:SUM_BITS+1]), .sum(sum[OC_TILE*32*c+:OC_TILE*32]));
        end
    endgenerate
endmodule
