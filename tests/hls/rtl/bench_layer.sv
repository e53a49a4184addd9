// The cores working through the blocks of a real layer, as the C simulation recorded them (recording.py): lists and weights come
// from files, sums go to one for each core. A phase, which is some blocks with the same lists in every core, is let in when all
// cores are done with the last but one: lists and sums have two banks. No core multiplies before all have multiplied the phase before,
// as in the kernels' one loop; with +free they do.
module bench_layer #(
    parameter CORES = 8,
    parameter LANES = 8,
    parameter OC_TILE = 32,
    parameter POSITION_BITS = 8,
    parameter SLOT_BITS = 10,
    parameter WEIGHT_BITS = 20,              // of all sets
    parameter WORD_BITS = 10,
    parameter SUM_BITS = 6,
    parameter GAP = 18,
    parameter CHAIN = 4,
    parameter TAPS = 2,
    parameter SEGMENTS = 32,
    parameter TOKENS = 4,
    parameter TOTALS = 8,
    parameter BLOCKS = 1 << 15,              // words of the files, at most
    parameter COUNTS = 1 << 18,
    parameter ENTRIES = 1 << 20,
    parameter WEIGHTS = 1 << 15,
    localparam D = 16,
    localparam ENTRY = WORD_BITS + 5,
    localparam COUNT = WORD_BITS + 1
) (
    input clk,
    input reset,
    output finished
);
    localparam BLOCK = 19 * 32, PHASE = 18 * 32;
    reg [BLOCK-1:0] blocks [0:BLOCKS-1];     // where its counts and entries lie, then as in compute_core, then its phase
    reg [2*LANES*COUNT-1:0] counts [0:COUNTS-1];
    reg [2*LANES*ENTRY-1:0] entries [0:ENTRIES-1];
    reg [LANES*8*OC_TILE-1:0] weights [0:WEIGHTS-1];
    reg [31:0] first_blocks [0:CORES];       // each core's, and the end
    string folder;
    initial begin
        if (!$value$plusargs("folder=%s", folder)) $fatal(1, "no +folder");
        $readmemh({folder, "/first_blocks.hex"}, first_blocks);
        $readmemh({folder, "/blocks.hex"}, blocks);
        $readmemh({folder, "/counts.hex"}, counts);
        $readmemh({folder, "/entries.hex"}, entries);
        $readmemh({folder, "/weights.hex"}, weights);
    end

    reg [63:0] cycle;
    always @(posedge clk) cycle <= reset ? 0 : cycle + 1;

    wire [31:0] phases [0:CORES-1], to_multiply [0:CORES-1];  // of each core: that it has to finish, and to multiply
    reg [31:0] earliest, earliest_to_multiply;
    bit free;
    initial free = $test$plusargs("free");
    integer c;
    always @* begin
        earliest = 32'hffffffff;
        earliest_to_multiply = 32'hffffffff;
        for (c = 0; c < CORES; c = c + 1) begin
            if (phases[c] < earliest) earliest = phases[c];
            if (to_multiply[c] < earliest_to_multiply) earliest_to_multiply = to_multiply[c];
        end
    end
    assign finished = !reset && earliest == 32'hffffffff;

    genvar g;
    generate
        for (g = 0; g < CORES; g = g + 1) begin : cores
            integer out;
            string number;
            initial begin
                number.itoa(g);
                out = $fopen({folder, "/results_", number, ".txt"}, "w");
            end

            reg [31:0] sent, multiplied, done;
            wire block_multiplied;
            wire [31:0] next = multiplied + block_multiplied;
            wire [BLOCK-1:0] block = blocks[sent], next_block = blocks[next], oldest = blocks[done];
            assign phases[g] = done == first_blocks[g+1] ? 32'hffffffff : oldest[PHASE+:32];
            assign to_multiply[g] = next == first_blocks[g+1] ? 32'hffffffff : next_block[PHASE+:32];
            wire may_start = free || to_multiply[g] == earliest_to_multiply;
            wire block_valid = !reset && sent < first_blocks[g+1] && block[PHASE+:32] < earliest + 2;
            wire block_ready, block_done, sum_valid;
            wire bank = block[PHASE];
            reg [31:0] count_base [0:1], entry_base [0:1];

            wire [LANES*(POSITION_BITS+1)-1:0] count_address;
            reg [LANES*COUNT-1:0] count_low, count_high;
            wire [LANES-1:0] entry_read;
            wire [LANES*(SLOT_BITS+1)-1:0] entry_address;
            reg [LANES*ENTRY-1:0] entry_low, entry_high;
            wire [LANES*WEIGHT_BITS-1:0] weight_address;
            reg [LANES*8*OC_TILE-1:0] weight_word;
            wire [SUM_BITS:0] sum_address;
            wire [OC_TILE*32-1:0] sum;

            compute_core #(
                .LANES(LANES), .OC_TILE(OC_TILE), .POSITION_BITS(POSITION_BITS), .SLOT_BITS(SLOT_BITS), .WEIGHT_BITS(WEIGHT_BITS),
                .WORD_BITS(WORD_BITS), .SUM_BITS(SUM_BITS), .GAP(GAP), .CHAIN(CHAIN), .TAPS(TAPS), .SEGMENTS(SEGMENTS),
                .TOKENS(TOKENS), .TOTALS(TOTALS)
            ) core(
                .clk(clk), .reset(reset), .enable(1'b1), .block_valid(block_valid), .block_ready(block_ready),
                .block_bank(bank), .block_sums(bank), .output_rows(block[2*32+:D]), .output_width(block[3*32+:D]),
                .first_sum(block[4*32+:SUM_BITS]), .first_row(block[5*32+:D]), .first_column(block[6*32+:D]),
                .rows(block[7*32+:D]), .width(block[8*32+:D]), .kernel_height(block[9*32+:D]),
                .kernel_width(block[10*32+:D]), .stride_height(block[11*32+:D]), .stride_width(block[12*32+:D]),
                .lead_columns(block[13*32+:D]), .chained_row(block[14*32]), .chained_block(block[15*32]),
                .words(block[16*32+:D]), .first_weight(block[17*32+:WEIGHT_BITS]), .may_start(may_start),
                .block_multiplied(block_multiplied), .block_done(block_done),
                .count_address(count_address), .count_low(count_low), .count_high(count_high), .entry_read(entry_read),
                .entry_address(entry_address), .entry_low(entry_low), .entry_high(entry_high),
                .weight_address(weight_address), .weight_word(weight_word), .sum_valid(sum_valid),
                .sum_address(sum_address), .sum(sum));

            integer l;
            reg [POSITION_BITS:0] position;
            reg [31:0] place;
            reg [SLOT_BITS:0] slot;
            always @* begin
                for (l = 0; l < LANES; l = l + 1) begin
                    position = count_address[l*(POSITION_BITS+1)+:POSITION_BITS+1];
                    place = count_base[position[POSITION_BITS]] + position[POSITION_BITS-1:0];
                    count_low[l*COUNT+:COUNT] = counts[place][2*l*COUNT+:COUNT];
                    count_high[l*COUNT+:COUNT] = counts[place][(2*l+1)*COUNT+:COUNT];
                end
            end

            always @(posedge clk) begin
                for (l = 0; l < LANES; l = l + 1) begin
                    slot = entry_address[l*(SLOT_BITS+1)+:SLOT_BITS+1];
                    if (entry_read[l]) begin
                        entry_low[l*ENTRY+:ENTRY] <= entries[entry_base[slot[SLOT_BITS]] + slot[SLOT_BITS-1:0]][2*l*ENTRY+:ENTRY];
                        entry_high[l*ENTRY+:ENTRY] <= entries[entry_base[slot[SLOT_BITS]] + slot[SLOT_BITS-1:0]][(2*l+1)*ENTRY+:ENTRY];
                    end
                    weight_word[l*8*OC_TILE+:8*OC_TILE] <= weights[weight_address[l*WEIGHT_BITS+:WEIGHT_BITS]][l*8*OC_TILE+:8*OC_TILE];
                end
                if (reset) begin
                    sent <= first_blocks[g];
                    multiplied <= first_blocks[g];
                    done <= first_blocks[g];
                end else begin
                    multiplied <= next;
                    if (block_valid && block_ready) begin
                        sent <= sent + 1;
                        count_base[bank] <= block[0+:32];
                        entry_base[bank] <= block[32+:32];
                    end
                    if (sum_valid) $fwrite(out, "%h %h\n", sum_address, sum);
                    if (block_done) begin
                        done <= done + 1;
                        $fwrite(out, "done %0d\n", cycle);
                    end
                end
                if (finished) $fclose(out);
            end
        end
    endgenerate
endmodule
