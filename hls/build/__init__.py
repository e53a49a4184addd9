"""How the accelerator is made: generated headers and Verilog, C simulation, projects for AMD's tools, bitstreams."""
