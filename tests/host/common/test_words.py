"""What people read: counts with their nouns, and names that fit a column."""

from __future__ import annotations

from ditto_zynq.host.common.words import LONGEST_NAME, number_of, shortened


def test_a_count_has_its_noun():
    found = [number_of(count, "image") for count in (0, 1, 2, 1000)]
    assert found == ["0 images", "1 image", "2 images", "1,000 images"] and number_of(2, "batch") == "2 batches"


def test_long_names_lose_their_middle():
    name = "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0"
    short = shortened(name, 21)
    assert short == "down_block…1.to_out.0" and len(short) == 21
    assert shortened("conv_in", 21) == "conv_in" and len(shortened(2 * name)) == LONGEST_NAME
    assert shortened(name, len(name)) == name
