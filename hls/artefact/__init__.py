"""The quantized model on disk: a folder of JSON and safetensors, and the schedule that it is for."""
