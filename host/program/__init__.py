"""From an integer graph to a program: operations, descriptors, a memory map, parameter blocks."""
