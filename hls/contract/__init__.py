"""What the numbers are: the integer graph, its arithmetic, tables and layout, and what defines every operator."""
