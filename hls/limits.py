"""How large anything in a model may be: what is beyond is refused when it is read, before memory is taken for it.

The first ones are those of the descriptors' fields (:mod:`.isa`); the others are many times what is in use.
"""

from __future__ import annotations

LARGEST_DIMENSION = (1 << 16) - 1  # of a tensor: 16 bits
LARGEST_TAP = (1 << 8) - 1  # kernels, strides, padding, factors: 8 bits
MOST_ELEMENTS = 1 << 31  # of a tensor: addresses have 32 bits

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

SMALLEST_SCALE, LARGEST_SCALE = 1e-30, 1e30  # real value of one step: no sum of a run leaves float64
