"""Denoisers that cannot be quantized: one line before any calibration, and nothing is left behind."""

from __future__ import annotations

import pytest

from tests.quant.refusals import change_json, refuse, unet

CONFIGURATIONS = {
    "quantized": (unet(quantization_config={"quant_method": "bitsandbytes"}), "weights quantized by 'bitsandbytes'"),
    "quantized_by_name": (unet(quantization_config="int8"), "weights quantized by 'int8'"),
    "channels_of_text": (unet(in_channels="3"), "found in_channels '3', expected a number of at least 1"),
    "no_size": (unet(sample_size=None), "found sample_size None.* give --sample-size, such as"),
    "sdxl": (unet(addition_embed_type="text_time"), "found addition_embed_type 'text_time': added conditions"),
    "kandinsky": (unet(addition_embed_type="image"), "found addition_embed_type 'image': added conditions"),
    "adapter": (unet(encoder_hid_dim_type="ip_image_proj"), "found encoder_hid_dim_type 'ip_image_proj'"),
    "class_projection": (unet(class_embed_type="projection"), "found class_embed_type 'projection'"),
    "two_contexts": (
        unet(dual_cross_attention=True),
        "found dual_cross_attention, whose layers attend to two contexts",
    ),
    "one_frame": (unet(video_length=1), "found video_length 1, expected 2 to 1024 frames"),
    "boxes": (unet(attention_type="gated"), "found attention_type 'gated'"),
    "inpainting": (unet(in_channels=9, out_channels=4), "found 9 input and 4 output channels, .*inpainting"),
    "upscaler": (unet(in_channels=7, out_channels=4), "found 7 input and 4 output channels"),
    "one_dimension": (
        unet(_class_name="UNet1DModel"),
        "found a model of class 'UNet1DModel', expected one of UNet2DModel",
    ),
    "flux": (unet(_class_name="FluxTransformer2DModel"), "found a model of class 'FluxTransformer2DModel'"),
    "sd3": (unet(_class_name="SD3Transformer2DModel"), "found a model of class 'SD3Transformer2DModel'"),
    "nonsense": (unet(down_block_types=["NoBlock", "NoBlock"]), r"config.json makes no UNet2DModel \(ValueError"),
    "impossible": (unet(norm_num_groups=0), "config.json makes no UNet2DModel"),
    "large": (
        unet(sample_size=[512, 256]),
        "found 131072 elements in a norm group, of 131072 pixels, expected at most",
    ),
}


@pytest.mark.parametrize("changed", [{"_class_name": ["mod", "Class"]}, {"unet": ["my-code", "Net"]}, {"vae": []}])
def test_pipelines_of_code_of_their_own(changed, pixels, tmp_path):
    message = "model_index.json: .*; code that comes with a model is never run: give the denoiser's own folder"
    refuse(pixels, tmp_path, change_json("model_index.json", **changed), message)


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_denoisers_of_other_kinds(case, pixels, tmp_path):
    refuse(pixels, tmp_path, *CONFIGURATIONS[case])
