"""What the accelerator is: instructions, configuration, boards, plans, what descriptors may be, and the resources it takes."""

from .config import HardwareConfig as HardwareConfig
from .config import default_config as default_config
