"""No flipped bit in a folder goes unnamed: heads of token files, the index and its checksum."""

import hashlib
import json
import warnings

import numpy as np
import pytest
from data_folders import distinct_blocks, write_folder

from x1lib.data import ShardError, Shards, writer
from x1lib.data.__main__ import main
from x1lib.data.index import check_file, read_index

BLOCKS = distinct_blocks(100, 37)


def outcome(folder) -> str:
    """What verify says of a folder, "sound" when nothing; any other error is passed on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Shards(folder).verify()
    except ShardError as error:
        return str(error)
    return "sound"


def flipped(content: bytes, at: int, bit: int) -> bytes:
    raw = bytearray(content)
    raw[at] ^= 1 << bit
    return bytes(raw)


def without_checksum(folder) -> bytes:
    """The index as it was written before it had a checksum; put in the place of the other."""
    index = read_index(folder)
    del index[writer.CHECKSUM]
    content = json.dumps(index, indent=1).encode() + b"\n"
    (folder / "index.json").write_bytes(content)
    return content


@pytest.mark.parametrize("name", ["block-00001.npy", "heldout-documents.npy"])
def test_every_flipped_bit_of_a_head_is_named(tmp_path, name):
    path = write_folder(tmp_path, BLOCKS) / name
    content = path.read_bytes()
    for at in range(128 + 2):  # the head and the first token
        for bit in range(8):
            path.write_bytes(flipped(content, at, bit))
            assert str(path) in outcome(tmp_path), f"byte {at}, bit {bit}"
    path.write_bytes(content)
    assert outcome(tmp_path) == "sound"


def test_every_flipped_bit_of_the_index_is_named(tmp_path):
    path = write_folder(tmp_path, BLOCKS) / "index.json"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    places = {(at, bit) for at in range(len(content) - 95, len(content)) for bit in range(8)}
    places |= {(int(rng.integers(len(content))), int(rng.integers(8))) for _ in range(200)}
    for at, bit in sorted(places):
        path.write_bytes(flipped(content, at, bit))
        said = outcome(tmp_path)
        assert str(path) in said, f"byte {at}, bit {bit}: {content[at - 9 : at + 9]} {said}"
    path.write_bytes(content)
    assert outcome(tmp_path) == "sound"


def test_another_number_in_the_index_is_named(tmp_path):
    path = write_folder(tmp_path, BLOCKS) / "index.json"
    path.write_text(path.read_text().replace('"n_bytes": 50', '"n_bytes": 90'))
    assert f"{path} has changed since it was written (its checksum differs)" in outcome(tmp_path)


def test_an_index_without_a_checksum_is_read_and_verify_says_so(tmp_path, capsys):
    folder = write_folder(tmp_path, BLOCKS)
    assert main(["verify", str(folder)]) == 0
    assert "no checksum" not in capsys.readouterr().out
    content = without_checksum(folder)
    assert (
        Shards(folder).fingerprint() == Shards(write_folder(tmp_path / "b", BLOCKS)).fingerprint()
    )
    assert main(["verify", str(folder)]) == 0
    assert "its index carries no checksum" in capsys.readouterr().out
    rng = np.random.default_rng(1)
    path, named = folder / "index.json", 0
    for at in rng.integers(len(content), size=300).tolist():  # damage is named where it shows
        path.write_bytes(flipped(content, at, int(rng.integers(8))))
        said = outcome(folder)
        named += said != "sound"
        assert said == "sound" or str(folder) in said
    assert 100 < named < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", "4096"),
        ("dtype", "float32"),
        ("complete", 1),
        ("heldout", []),
        ("blocks", [{}]),
        ("blocks", [None]),
        ("source", None),
    ],
)
def test_an_index_of_another_form_is_refused(tmp_path, field, value):
    folder = write_folder(tmp_path, BLOCKS)
    writer.write_index(folder, read_index(folder) | {field: value})
    with pytest.raises(
        ShardError, match=rf"index\.json: .*{'block 0' if field == 'blocks' else field}"
    ):
        Shards(folder)


def test_the_checksum_is_that_of_the_file_without_its_line(tmp_path):
    path = write_folder(tmp_path, BLOCKS) / "index.json"
    content = path.read_bytes()
    index = json.loads(content)
    assert list(index)[-1] == "index_sha256"
    checksum = index.pop("index_sha256")
    assert hashlib.sha256(json.dumps(index, indent=1).encode() + b"\n").hexdigest() == checksum
    writer.write_index(tmp_path, read_index(tmp_path))
    assert path.read_bytes() == content


def test_a_file_named_outside_of_the_folder_is_refused(tmp_path):
    folder = write_folder(tmp_path / "a", BLOCKS)
    index = read_index(folder)
    assert check_file(folder, index, index["blocks"][0]).parent == folder
    index["blocks"][0]["file"] = "../secret.npy"
    writer.write_index(folder, index)
    with pytest.raises(ShardError, match="file or n_tokens of block 0"):
        Shards(folder)
