"""Configurations of small denoisers."""

CROSS_ATTENTION = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (12, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 10,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
}
