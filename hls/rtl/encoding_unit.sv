// Codes minus their references, split in 5-bit digits, into the lists of a core, a word of LANES codes a cycle: `Encoder` of
// kernels/encoder.hpp. Codes, those of the previous step too, come as runs of memory words. A run is taken with `run_valid` and
// `run_ready`, without a gap after the one before it.
module encoding_unit #(
    parameter LANES = 8,
    parameter BUS_BYTES = 16,
    parameter DIGIT_DEPTH = 1024,
    parameter POSITIONS = 256,
    parameter WORD_BITS = 10,
    parameter D = 16,
    localparam SLOT_BITS = $clog2(DIGIT_DEPTH),
    localparam POSITION_BITS = $clog2(POSITIONS)
) (
    input clk,
    input reset,
    input enable,

    input run_valid,
    output run_ready,
    input run_bank,
    input [1:0] reference,                   // 0 none, 1 the previous step, 2 the pixel `distance` columns before
    input outside,                           // no codes come, all are 0
    input [D-1:0] pixels,
    input [D-1:0] words,                     // of a pixel
    input [D-1:0] last_count,                // codes in the last one
    input [POSITION_BITS-1:0] first_position,
    input [SLOT_BITS-1:0] first_slot,
    input [D-1:0] column,                    // of the first pixel
    input [D-1:0] distance,
    input [D-1:0] phase,                     // column % distance
    input [SLOT_BITS-1:0] row_neighbours,    // where the row's neighbours lie: row * distance * words
    input [SLOT_BITS-1:0] phase_neighbours,  // from there: phase * words
    output reg run_done,                     // its lists are written

    input current_valid,
    output current_ready,
    input [8*BUS_BYTES-1:0] current,
    input previous_valid,
    output previous_ready,
    input [8*BUS_BYTES-1:0] previous,

    output reg [2*LANES-1:0] entry_put,      // as in digit_memory
    output reg [2*LANES*(SLOT_BITS+1)-1:0] put_address,
    output reg [2*LANES*(WORD_BITS+5)-1:0] entry,
    output reg count_put,
    output reg [POSITION_BITS:0] count_position,
    output reg [2*LANES*(WORD_BITS+1)-1:0] count
);
    localparam NONE = 2'd0, PREVIOUS_STEP = 2'd1, NEIGHBOUR = 2'd2;
    localparam BITS = $clog2(2 * BUS_BYTES + 1);

    // The words of a run.
    reg busy, bank, zeros, first_word_of_run;
    reg [1:0] refers;
    reg [D-1:0] pixels_left, pixel_words, rest, word, at_column, period, at_phase;
    reg [POSITION_BITS-1:0] position;
    reg [SLOT_BITS-1:0] slot, row_base, neighbours;
    wire last_word = word + 1'b1 == pixel_words, last_pixel = pixels_left == 1, ends = last_word && last_pixel;
    wire [BITS-1:0] codes_now = last_word ? rest[BITS-1:0] : LANES;
    wire now_ready, before_ready;
    wire flows = enable && busy && (zeros || now_ready) && (refers != PREVIOUS_STEP || before_ready);
    assign run_ready = enable && (!busy || (flows && ends));
    wire load = run_valid && run_ready;

    wire take_now = busy && !zeros && (refers != PREVIOUS_STEP || before_ready);
    wire take_before = busy && refers == PREVIOUS_STEP && (zeros || now_ready);
    wire [8*LANES-1:0] codes_read, previous_read;
    wire now_word, before_word;
    byte_window #(.BUS_BYTES(BUS_BYTES), .COUNT(LANES)) current_window(
        .clk(clk), .reset(reset), .enable(enable), .start(first_word_of_run), .take(take_now), .count(codes_now),
        .ready(now_ready), .word_valid(current_valid), .word_ready(now_word), .word(current), .bytes(codes_read));
    byte_window #(.BUS_BYTES(BUS_BYTES), .COUNT(LANES)) previous_window(
        .clk(clk), .reset(reset), .enable(enable), .start(first_word_of_run), .take(take_before), .count(codes_now),
        .ready(before_ready), .word_valid(previous_valid), .word_ready(before_word), .word(previous), .bytes(previous_read));
    assign current_ready = enable && now_word;
    assign previous_ready = enable && before_word;

    always @(posedge clk) begin
        if (reset) begin
            busy <= 0;
        end else if (load) begin
            busy <= pixels != 0 && words != 0;
        end else if (flows && ends) begin
            busy <= 0;
        end
        if (load) begin
            {bank, zeros, refers} <= {run_bank, outside, reference};
            {pixels_left, pixel_words, rest, word} <= {pixels, words, last_count, {D{1'b0}}};
            {at_column, period, at_phase} <= {column, distance, phase};
            {position, slot} <= {first_position, first_slot};
            {row_base, neighbours} <= {row_neighbours, row_neighbours + phase_neighbours};
            first_word_of_run <= 1;
        end else if (flows) begin
            first_word_of_run <= 0;
            word <= last_word ? 0 : word + 1'b1;
            neighbours <= neighbours + 1'b1;
            if (last_word) begin
                pixels_left <= pixels_left - 1'b1;
                position <= position + 1'b1;
                slot <= slot + pixel_words[SLOT_BITS-1:0];
                at_column <= at_column + 1'b1;
                at_phase <= at_phase + 1'b1 == period ? 0 : at_phase + 1'b1;
                if (at_phase + 1'b1 == period) neighbours <= row_base;
            end
        end
    end

    // A cycle later: codes and, from a memory that is read and written at once, those of the neighbours.
    reg [2:0] valid, ending, first_word, final_word, in_bank;
    reg zeros1, there1;
    reg [1:0] refers1, refers2;
    reg [BITS-1:0] count1;
    reg [SLOT_BITS-1:0] slot1, slot2, neighbour1;
    reg [POSITION_BITS-1:0] position1, position2;
    reg [WORD_BITS-1:0] word1, word2;
    reg [8*LANES-1:0] codes2, before2, beside2;
    reg there2;
    (* ram_style = "block" *) reg [8*LANES-1:0] kept [0:2**SLOT_BITS-1];

    wire [8*LANES-1:0] codes, references;
    genvar l, half;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : operands
            wire coded = l < count1;
            assign codes[8*l+:8] = coded && !zeros1 ? codes_read[8*l+:8] : 8'b0;
            assign references[8*l+:8] = coded && refers1 == PREVIOUS_STEP ? previous_read[8*l+:8] : 8'b0;
        end
    endgenerate

    always @(posedge clk) begin
        if (reset) valid <= 0;
        else if (enable) valid <= {valid[1:0], flows};
        if (enable) begin
            ending <= {ending[1:0], ends};
            first_word <= {first_word[1:0], word == 0};
            final_word <= {final_word[1:0], last_word};
            in_bank <= {in_bank[1:0], bank};
            {zeros1, refers1, count1} <= {zeros, refers, codes_now};
            {slot1, position1, word1} <= {slot, position, word[WORD_BITS-1:0]};
            neighbour1 <= neighbours;
            there1 <= at_column >= period;
            {slot2, position2, word2} <= {slot1, position1, word1};
            {codes2, before2, refers2, there2} <= {codes, references, refers1, there1};
            if (valid[0] && refers1 == NEIGHBOUR) kept[neighbour1] <= codes;
            beside2 <= kept[neighbour1];
        end
    end

    // Digits, each into the next entry of its list.
    reg [WORD_BITS:0] filled [0:2*LANES-1];
    generate
        for (l = 0; l < LANES; l = l + 1) begin : lanes
            wire signed [7:0] code = codes2[8*l+:8];
            wire signed [7:0] other = refers2 == NEIGHBOUR ? (there2 ? beside2[8*l+:8] : 8'b0) : before2[8*l+:8];
            wire signed [8:0] difference = code - other;
            // The rule of split_digits in hls/contract/arithmetic.py, as `split` of kernels/arithmetic.hpp.
            wire fits = difference[8:4] == 5'b00000 || difference[8:4] == 5'b11111;
            wire [4:0] low = fits ? difference[4:0] : {1'b0, difference[3:0]};
            wire [4:0] high = fits ? 5'b0 : difference[8:4];
            for (half = 0; half < 2; half = half + 1) begin : halves
                localparam LIST = 2 * l + half;
                wire [4:0] digit = half == 0 ? low : high;
                wire sent = digit != 0;
                wire [WORD_BITS:0] queued = first_word[1] ? 0 : filled[LIST];
                wire [SLOT_BITS-1:0] place = slot2 + queued[SLOT_BITS-1:0];
                always @(posedge clk) begin
                    if (reset) entry_put[LIST] <= 0;
                    else if (enable) entry_put[LIST] <= valid[1] && sent;
                    if (enable && valid[1]) begin
                        filled[LIST] <= queued + sent;
                        put_address[LIST*(SLOT_BITS+1)+:SLOT_BITS+1] <= {in_bank[1], place};
                        entry[LIST*(WORD_BITS+5)+:WORD_BITS+5] <= {word2, digit};
                        count[LIST*(WORD_BITS+1)+:WORD_BITS+1] <= queued + sent;
                    end
                end
            end
        end
    endgenerate

    always @(posedge clk) begin
        if (reset) begin
            count_put <= 0;
            run_done <= 0;
        end else if (enable) begin
            count_put <= valid[1] && final_word[1];
            run_done <= valid[1] && ending[1];
        end
        if (enable && valid[1]) count_position <= {in_bank[1], position2};
    end
endmodule
