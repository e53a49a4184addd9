"""Files of tensors: no pickle is loaded, and no header is believed."""

from __future__ import annotations

import json
import pickle

import pytest
from ditto_zynq.hls.artefact.model import ArtefactError, load

from tests.hls.artefact.tampering import TABLES, WEIGHTS, rehash


def test_a_pickle_is_never_loaded(tiny_folder):
    class Attack:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    for name in (WEIGHTS, TABLES):
        (tiny_folder / name).write_bytes(pickle.dumps(Attack()))
        rehash(tiny_folder)
        with pytest.raises(ArtefactError, match="is a pickle, expected safetensors; pickles are never loaded"):
            load(tiny_folder)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 19280])
def test_headers_whose_length_looks_like_a_pickle(tiny_folder, length):
    """The first bytes of a safetensors file are a length, which may be any."""
    content = (tiny_folder / TABLES).read_bytes()
    size = int.from_bytes(content[:8], "little")
    if size > length:
        length += -(-(size - length) // (1 << 16)) * (1 << 16)
    padded = content[8 : 8 + size].ljust(length)
    (tiny_folder / TABLES).write_bytes(length.to_bytes(8, "little") + padded + content[8 + size :])
    rehash(tiny_folder)
    load(tiny_folder)


def test_headers_that_claim_too_much(tiny_folder):
    sound = (tiny_folder / TABLES).read_bytes()
    size = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + size])
    header["conv_in.bias"]["data_offsets"] = [0, 10**13]
    claims = json.dumps(header).encode()
    for content in (
        (1 << 40).to_bytes(8, "little") + sound[8:],
        len(claims).to_bytes(8, "little") + claims + sound[8 + size :],
        sound[:-4],
        sound + bytes(4),
    ):
        (tiny_folder / TABLES).write_bytes(content)
        rehash(tiny_folder)
        with pytest.raises(ArtefactError, match="not readable safetensors"):
            load(tiny_folder)
