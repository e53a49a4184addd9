"""The quantized model on disk: a folder of JSON and safetensors, and the schedule that it is for."""

from .model import QuantizedModel as QuantizedModel
from .model import load as load
from .model import save as save
