"""The drop-in: a quantized denoiser in a stock diffusers pipeline. Needs torch and diffusers."""

from .drop_in import load_pipeline as load_pipeline
from .drop_in import wrap as wrap
