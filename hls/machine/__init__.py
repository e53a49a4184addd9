"""What the accelerator is: instructions, configuration, boards, plans, what descriptors may be, and the resources it takes."""
