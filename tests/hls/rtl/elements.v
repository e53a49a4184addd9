// One multiplier of each array with its sum, without a DSP slice.
module digit_element (
    input clk,
    input clear,
    input signed [4:0] digit,
    input high,                              // 16 times the digit
    input signed [7:0] weight,
    output reg signed [31:0] sum
);
    reg signed [12:0] product;
    reg shift, restart;
    wire signed [31:0] term = shift ? {{15{product[12]}}, product, 4'b0} : {{19{product[12]}}, product};
    always @(posedge clk) begin
        product <= digit * weight;
        {shift, restart} <= {high, clear};
        sum <= restart ? term : sum + term;
    end
endmodule

module dense_element (
    input clk,
    input clear,
    input signed [7:0] code,
    input signed [7:0] weight,
    output reg signed [31:0] sum
);
    reg signed [15:0] product;
    reg restart;
    wire signed [31:0] term = {{16{product[15]}}, product};
    always @(posedge clk) begin
        product <= code * weight;
        restart <= clear;
        sum <= restart ? term : sum + term;
    end
endmodule
