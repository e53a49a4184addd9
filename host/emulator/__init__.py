"""What the accelerator does with a descriptor, in software: the same bits, counted."""
