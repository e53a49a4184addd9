"""How much may be asked of a run. Imports nothing: the command line knows it before anything else is loaded."""

MOST_IMAGES = 1_000_000  # of a run, whose samples are in memory at its end
SEED_BITS = 64  # half of Philox' key
LONGEST_DEADLINE_S = 1e6  # of a step: days, and within what every way of waiting takes
MOST_MEMORY_MIB = 1 << 20  # a Zynq UltraScale+ addresses 40 bits
MOST_SAMPLES = (1 << 16) - 1  # that advance together: descriptors count them in 16 bits
