// The input pixels under the windows of a block's output pixels, a tap a cycle, and what becomes of each output pixel's sums:
// `walk` of kernels/compute.hpp. A block is taken with `block_valid` and `block_ready`, without a gap after the one before it.
module tap_walker #(
    parameter POSITION_BITS = 8,
    parameter SLOT_BITS = 10,
    parameter WEIGHT_BITS = 10,
    parameter SUM_BITS = 6,
    parameter D = 16                         // bits of a dimension
) (
    input clk,
    input reset,
    input enable,

    input block_valid,
    output block_ready,
    input block_bank,                        // of the digit memory
    input block_sums,                        // bank of the sums
    input [D-1:0] output_rows,
    input [D-1:0] output_width,
    input [SUM_BITS-1:0] first_sum,
    input signed [D-1:0] first_row,          // under the first window: negative in the padding
    input signed [D-1:0] first_column,
    input [D-1:0] rows,
    input [D-1:0] width,
    input [D-1:0] kernel_height,
    input [D-1:0] kernel_width,
    input [D-1:0] stride_height,
    input [D-1:0] stride_width,
    input [D-1:0] lead_columns,              // windows left of a row's first pixel, whose sums are not stored
    input chained_row,                       // sums go on from pixel to pixel of a row,
    input chained_block,                     // or of the block
    input [D-1:0] words,                     // of an input pixel, in each lane
    input [WEIGHT_BITS-1:0] first_weight,

    output reg tap_valid,
    input tap_ready,
    output reg tap_inside,
    output reg tap_bank,
    output reg [POSITION_BITS-1:0] tap_position,
    output reg [SLOT_BITS-1:0] tap_slot,     // where its digits begin
    output reg [WEIGHT_BITS-1:0] tap_weight,
    output reg [D-1:0] tap_words,            // of its input pixel
    output reg tap_last,                     // of its output pixel, whose sums
    output reg pixel_clear,                  // begin with 0,
    output reg pixel_store,                  // are stored
    output reg [SUM_BITS:0] pixel_sum,       // here,
    output reg pixel_ends_block              // and complete the block
);
    reg busy, bank, sums, row_chained, block_chained, first_of_block;
    reg [D-1:0] rows_left, out_width, in_rows, in_width, k_height, k_width, s_height, s_width, leads, pixel_words;
    reg signed [D-1:0] left;                 // column of a row's first window
    reg [WEIGHT_BITS-1:0] base_weight;

    reg signed [D:0] x;                      // output column
    reg signed [D-1:0] window_row, window_column;
    reg [D-1:0] ky, kx;
    reg [WEIGHT_BITS-1:0] weight;
    reg [SUM_BITS-1:0] sum;

    wire flows = enable && (!tap_valid || tap_ready);  // the pipeline behind the counters moves
    wire step = flows && busy;
    wire last_kx = kx + 1'b1 == k_width, last_ky = ky + 1'b1 == k_height, last_tap = last_kx && last_ky;
    wire last_x = x + 1 == $signed({1'b0, out_width});
    wire ends = last_tap && last_x && rows_left == 1;
    wire row_starts = x == -$signed({1'b0, leads});
    assign block_ready = flows && (!busy || ends);
    wire load = block_ready && block_valid;

    wire signed [D-1:0] row = window_row + $signed(ky), column = window_column + $signed(kx);

    // Counters.
    always @(posedge clk) begin
        if (reset) begin
            busy <= 0;
        end else if (load) begin
            busy <= output_rows != 0;
        end else if (step && ends) begin
            busy <= 0;
        end
        if (load) begin
            bank <= block_bank;
            sums <= block_sums;
            rows_left <= output_rows;
            out_width <= output_width;
            in_rows <= rows;
            in_width <= width;
            k_height <= kernel_height;
            k_width <= kernel_width;
            s_height <= stride_height;
            s_width <= stride_width;
            leads <= lead_columns;
            row_chained <= chained_row;
            block_chained <= chained_block;
            pixel_words <= words;
            left <= first_column;
            base_weight <= first_weight;
            first_of_block <= 1;
            x <= -$signed({1'b0, lead_columns});
            window_row <= first_row;
            window_column <= first_column;
            ky <= 0;
            kx <= 0;
            weight <= first_weight;
            sum <= first_sum;
        end else if (step) begin
            kx <= last_kx ? 0 : kx + 1'b1;
            weight <= last_tap ? base_weight : weight + pixel_words[WEIGHT_BITS-1:0];
            if (last_kx) ky <= last_ky ? 0 : ky + 1'b1;
            if (last_tap) begin
                first_of_block <= 0;
                if (x >= 0) sum <= sum + 1'b1;
                x <= last_x ? -$signed({1'b0, leads}) : x + 1;
                window_column <= last_x ? left : window_column + $signed(s_width);
                if (last_x) begin
                    window_row <= window_row + $signed(s_height);
                    rows_left <= rows_left - 1'b1;
                end
            end
        end
    end

    // row * width + column, then that times the words of a pixel.
    reg valid1, inside1, bank1, last1, clear1, store1, ends1;
    reg [POSITION_BITS-1:0] position1;
    reg [WEIGHT_BITS-1:0] weight1;
    reg [SUM_BITS:0] sum1;
    reg [D-1:0] words1;

    always @(posedge clk) begin
        if (reset) begin
            valid1 <= 0;
            tap_valid <= 0;
        end else if (flows) begin
            valid1 <= busy;
            tap_valid <= valid1;
        end
        if (flows) begin
            inside1 <= row >= 0 && row < $signed(in_rows) && column >= 0 && column < $signed(in_width);
            position1 <= row[POSITION_BITS-1:0] * in_width[POSITION_BITS-1:0] + column[POSITION_BITS-1:0];
            bank1 <= bank;
            weight1 <= weight;
            words1 <= pixel_words;
            last1 <= last_tap;
            clear1 <= block_chained ? first_of_block : row_chained ? row_starts : 1'b1;
            store1 <= x >= 0;
            sum1 <= {sums, sum};
            ends1 <= last_x && rows_left == 1;

            tap_inside <= inside1;
            tap_position <= position1;
            tap_slot <= position1 * words1[SLOT_BITS-1:0];
            tap_bank <= bank1;
            tap_weight <= weight1;
            tap_words <= words1;
            tap_last <= last1;
            pixel_clear <= clear1;
            pixel_store <= store1;
            pixel_sum <= sum1;
            pixel_ends_block <= ends1;
        end
    end
endmodule
