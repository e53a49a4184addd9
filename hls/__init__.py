"""The hardware and the number contract: integer graph, arithmetic, tables, reference, configuration, ISA. NumPy only."""
