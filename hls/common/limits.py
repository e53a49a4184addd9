"""How large anything in a model or a program may be: what is beyond is refused when it is read, before memory is taken for it.

The first ones are those of the descriptors' fields (:mod:`..machine.isa`); the others are many times what is in use.
"""

from __future__ import annotations

LARGEST_DIMENSION = (1 << 16) - 1  # of a tensor: 16 bits
LARGEST_TAP = (1 << 8) - 1  # kernels, strides, padding, factors: 8 bits
MOST_ELEMENTS = 1 << 31  # of a tensor: addresses have 32 bits

MOST_DESCRIPTORS = 1 << 14  # of a program
MOST_PIXELS = 1 << 24  # of an operation: of all samples, windows and heads
MOST_PIXELS_OF_ALL = 1 << 28  # of a program
MOST_PRODUCTS = 1 << 40  # of an operation, dense; those of Stable Diffusion 1.5 have 2**34 a sample at most
MOST_PRODUCTS_OF_ALL = 1 << 44  # of a program; a sample of Stable Diffusion 1.5 takes 2**39

FURTHEST_PART = 1 << 8  # descriptors from the first part of an operation to the others

MOST_NODES = 1 << 13  # SDXL's U-Net has some 3,000
MOST_STEPS = 1 << 13
MOST_LABELS = 1 << 16
MOST_TRAINED_STEPS = 1 << 16
LONGEST_NAME = 1 << 8
LONGEST_TEXT = 1 << 12
MOST_EXAMPLES = 1 << 10  # contexts that a model keeps
MOST_CONDITIONS = 1 << 4  # that are folded into a model, and numbers of each
MOST_AXES = 8  # of a sample as diffusers sees it

MOST_FILES = 1 << 12  # of a model folder
LONGEST_PATH = 1 << 10
LARGEST_JSON = 1 << 25  # bytes
LARGEST_HEADER = 1 << 25  # bytes of a safetensors file's list of tensors
LARGEST_FILE = 1 << 36  # bytes

MOST_TABLE_BYTES = 4 << 30  # of tables per step and label: beyond a board's DRAM, or a laptop that reads them

# of tables and of what is made of them, so that nothing overflows in 32 and 64 bits
LARGEST_SUM = (1 << 17) - 1  # products of two codes whose sum always fits 32 bits
LARGEST_GAIN = 1 << 21  # N and the root have 40 bits: products stay below 2**61
MOST_GAIN_BITS = 28  # the slope is then shifted by 63 at most
LARGEST_EPSILON = (1 << 62) - 1  # N * Q - S**2 is at most 2**62
LARGEST_OFFSET = (1 << 62) - 1  # values times slopes have 50 bits
MOST_NORM_PIXELS = 1 << 16  # sums of a channel's values stay in int32
SMALLEST_SCALE, LARGEST_SCALE = 1e-30, 1e30  # real value of one step: no sum of a run leaves float64
