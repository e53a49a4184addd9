"""Channel pruning by kernel representatives (REPrune, AAAI 2024): which channels stay, and the narrower model that they make."""
