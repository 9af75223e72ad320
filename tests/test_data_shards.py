"""Sample order and reading: each window once an epoch, any batch by number, damage refused."""

import hashlib
import json
import time

import numpy as np
import pytest
from data_folders import distinct_blocks, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from x1lib.data import DataNotReady, ShardError, Shards, order, writer

SIZES = (1_000, 1_000, 37, 1_000, 412)
SEQ_LENS = (1, 7, 36, 64)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Shards:
    return Shards(write_folder(tmp_path_factory.mktemp("shards"), distinct_blocks(*SIZES)))


def windows(seq_len: int, sizes=SIZES) -> list[tuple[int, ...]]:
    """Every window, by the definition: seq_len + 1 tokens at stride seq_len inside one block."""
    found = []
    for block in distinct_blocks(*sizes):
        for start in range(0, len(block) - seq_len, seq_len):
            found.append(tuple(block[start : start + seq_len + 1].tolist()))
    return found


def rows(shards, first, n, seq_len, seed=0, skip=()):
    return shards.batch(first, n, seq_len, seed, skip)[0]


@pytest.mark.parametrize("seq_len", SEQ_LENS)
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_window_exactly_once_an_epoch_and_blocks_in_order(shards, seq_len, epoch):
    expected = windows(seq_len)
    n = shards.samples_per_epoch(seq_len)
    assert n == len(expected)
    tokens, numbers = shards.batch(epoch * n, n, seq_len, seed=3)
    assert sorted(map(tuple, tokens.tolist())) == expected
    assert numbers.tolist() == list(range(epoch * n, epoch * n + n))
    assert {shards.epoch_of(epoch * n, seq_len), shards.epoch_of(epoch * n + n - 1, seq_len)} == {
        epoch
    }
    block_of = np.searchsorted(np.cumsum(SIZES), tokens[:, 0], side="right")
    assert (np.diff(block_of) >= 0).all()


@given(
    first=st.integers(0, 600),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    seq_len=st.sampled_from([7, 36, 64]),
    seed=st.integers(-(2**70), 2**70),
)
@settings(max_examples=150, deadline=None)
def test_any_batching_gives_the_same_rows(shards, first, sizes, seq_len, seed):
    whole = rows(shards, first, sum(sizes), seq_len, seed)
    parts, at = [], first
    for size in sizes:
        parts.append(rows(shards, at, size, seq_len, seed))
        at += size
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_batch_across_the_epoch_edge_equals_its_two_sides(shards):
    n = shards.samples_per_epoch(64)
    across, numbers = shards.batch(n - 3, 7, 64, seed=1)
    np.testing.assert_array_equal(across[:3], rows(shards, n - 3, 3, 64, seed=1))
    np.testing.assert_array_equal(across[3:], rows(shards, n, 4, 64, seed=1))
    assert numbers.tolist() == list(range(n - 3, n + 4))


def test_seeds_epochs_and_blocks_each_have_an_order_of_their_own(shards):
    n = shards.samples_per_epoch(7)
    first = rows(shards, 0, n, 7, seed=0)
    assert (first != rows(shards, 0, n, 7, seed=1)).any()
    assert (first != rows(shards, n, n, 7, seed=0)).any()
    per_block = 999 // 7
    starts = first[: 2 * per_block, 0].reshape(2, per_block) - np.array([[0], [1_000]])
    assert (starts[0] != starts[1]).any()
    assert (np.diff(starts[0]) < 0).any(), "the windows of a block are not permuted"


def test_the_permutation_is_pinned():
    # A run is resumed on another machine and another numpy: these may never change.
    assert order.permutation(0, 0, 0, 10).tolist() == [1, 9, 0, 8, 4, 6, 7, 2, 3, 5]
    assert order.permutation(7, 2, 5, 10).tolist() == [2, 4, 3, 8, 0, 6, 9, 7, 5, 1]
    assert (
        order.permutation(-1, 0, 0, 10).tolist() == order.permutation(2**64 - 1, 0, 0, 10).tolist()
    )


def test_the_permutation_moves_windows_evenly():
    # Where window 0 lands over 4,000 seeds is uniform over 8 places: chi-squared at 7 degrees of
    # freedom stays below 24.3 with probability 0.999.
    landed = [int(np.argmin(order.permutation(seed, 0, 0, 8))) for seed in range(4_000)]
    counts = np.bincount(landed, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3


def test_splitmix_equals_the_published_first_outputs():
    # seed 1234567: the first outputs of splitmix64 as Rosetta Code lists them
    state = (1234567 + np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(
        np.uint64
    )
    assert order.mix(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(
    skip=st.sets(st.integers(0, 200), max_size=60),
    first=st.integers(0, 150),
    size=st.integers(1, 50),
    seed=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_a_skip_replaces_samples_and_shifts_nothing_else(shards, skip, first, size, seed):
    seq_len, n = 64, shards.samples_per_epoch(64)
    plain, numbers = shards.batch(first, size, seq_len, seed)
    try:
        tokens, replaced = shards.batch(first, size, seq_len, seed, skip)
    except ShardError:
        assert any(set(range(e * n, e * n + 15)) <= skip for e in range(4))
        return
    for i, number in enumerate(numbers.tolist()):
        other = int(replaced[i])
        if number in skip:
            assert other not in skip and other // n == number // n
            assert shards.blocks_consumed(other % n + 1, seq_len) <= shards.blocks_consumed(
                number % n + 1, seq_len
            )
            np.testing.assert_array_equal(tokens[i], rows(shards, other, 1, seq_len, seed)[0])
            alone = shards.batch(number, 1, seq_len, seed, skip)
            assert int(alone[1][0]) == other, "a replacement depends on the batch it is in"
        else:
            assert other == number
            np.testing.assert_array_equal(tokens[i], plain[i])


def test_skip_takes_any_collection_and_refuses_to_skip_everything(shards):
    a = shards.batch(0, 8, 64, 0, skip=[2, 3])[1]
    np.testing.assert_array_equal(a, shards.batch(0, 8, 64, 0, skip=np.array([3, 2]))[1])
    np.testing.assert_array_equal(a, shards.batch(0, 8, 64, 0, skip=frozenset({2, 3}))[1])
    assert 2 not in a and 3 not in a
    with pytest.raises(ShardError, match="all 15 windows up to its block are skipped"):
        shards.batch(0, 1, 64, 0, skip=range(15))
    # a short last block skipped whole falls back on the blocks before it
    n = shards.samples_per_epoch(64)
    assert max(shards.batch(n - 6, 6, 64, 0, skip=range(n - 6, n))[1]) < n - 6


def test_blocks_consumed_counts_the_blocks_that_were_touched(shards):
    seq_len, n = 64, shards.samples_per_epoch(64)
    block_of = np.searchsorted(np.cumsum(SIZES), rows(shards, 0, n, seq_len)[:, 0], side="right")
    for k in range(1, n + 1):
        assert shards.blocks_consumed(k, seq_len) == block_of[:k].max() + 1
    assert shards.blocks_consumed(0, seq_len) == 0
    assert shards.blocks_consumed(n + 1, seq_len) == len(SIZES)


def test_appended_blocks_change_no_earlier_sample(tmp_path):
    seq_len = 64
    blocks = distinct_blocks(*SIZES)
    growing = Shards(write_folder(tmp_path, blocks[:2], complete=False))
    n = growing.samples_per_epoch(seq_len)
    before, chain = rows(growing, 0, n, seq_len, skip=(3, 17)), growing.fingerprint()
    with pytest.raises(DataNotReady, match=f"sample {n} is not written yet, only {n} windows"):
        growing.batch(n - 1, 2, seq_len, 0)
    with pytest.raises(DataNotReady):
        growing.epoch_of(n, seq_len)

    write_folder(tmp_path, blocks[:4], complete=False)
    assert growing.n_blocks == 2
    growing.refresh()
    assert growing.n_blocks == 4 and not growing.complete
    np.testing.assert_array_equal(rows(growing, 0, n, seq_len, skip=(3, 17)), before)
    assert growing.fingerprint(2) == chain != growing.fingerprint()
    after = rows(growing, n, 10, seq_len)

    write_folder(tmp_path, blocks, complete=True)
    growing.refresh()
    assert growing.complete
    np.testing.assert_array_equal(rows(growing, 0, n, seq_len, skip=(3, 17)), before)
    np.testing.assert_array_equal(rows(growing, n, 10, seq_len), after)
    assert growing.epoch_of(growing.samples_per_epoch(seq_len), seq_len) == 1


def test_a_changed_block_changes_the_fingerprint_from_there_on_only(tmp_path):
    blocks = distinct_blocks(*SIZES)
    old = Shards(write_folder(tmp_path / "old", blocks))
    blocks[2] = blocks[2] + 1
    new = Shards(write_folder(tmp_path / "new", blocks))
    same = [old.fingerprint(n) == new.fingerprint(n) for n in range(len(SIZES) + 1)]
    assert same == [True, True, True, False, False, False]
    other = Shards(write_folder(tmp_path / "other", blocks, vocab_size=59_999))
    assert other.fingerprint(0) != new.fingerprint(0)
    with pytest.raises(ShardError, match="has 5 blocks, asked for the first 6"):
        old.fingerprint(6)


def test_refresh_refuses_blocks_that_changed_under_the_reader(tmp_path):
    blocks = distinct_blocks(*SIZES)
    reader = Shards(write_folder(tmp_path, blocks[:3], complete=False))
    blocks[1] = blocks[1][::-1]
    write_folder(tmp_path, blocks, complete=True)
    with pytest.raises(ShardError, match="blocks already read have changed"):
        reader.refresh()


def test_the_fingerprint_is_the_documented_chain(tmp_path):
    folder = write_folder(tmp_path, distinct_blocks(100, 50))
    reader = Shards(folder)
    chain = reader.fingerprint(0)
    for n, entry in enumerate(reader.index["blocks"], 1):
        digest = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
        chain = hashlib.sha256((chain + digest).encode()).hexdigest()
        assert reader.fingerprint(n) == chain


# damage


def damaged(tmp_path, file: str, damage) -> str:
    folder = write_folder(tmp_path, distinct_blocks(*SIZES))
    damage(folder / file)
    return str(folder / file)


@pytest.mark.parametrize("file", ["block-00003.npy", "heldout-documents.npy"])
@pytest.mark.parametrize("damage", ["missing", "short", "longer", "dtype", "empty", "text"])
def test_a_missing_short_or_other_file_is_refused_at_once_by_name(tmp_path, file, damage):
    def hurt(path):
        if damage == "missing":
            path.unlink()
        elif damage == "short":
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "longer":
            path.write_bytes(path.read_bytes() + b"\0\0")
        elif damage == "dtype":  # the same number of bytes
            np.save(path, np.load(path).view(np.int16))
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            path.write_text("tokens")

    path = damaged(tmp_path, file, hurt)
    with pytest.raises(ShardError) as error:
        Shards(tmp_path)
    assert path in str(error.value) and "prepare the data again" in str(error.value)


def test_another_dtype_of_the_same_length_is_refused(tmp_path):
    path = damaged(tmp_path, "block-00001.npy", lambda p: np.save(p, np.load(p).astype(np.uint32)))
    with pytest.raises(ShardError, match="holds uint32, the index says uint16") as error:
        Shards(tmp_path)
    assert path in str(error.value)


def test_verify_finds_one_flipped_bit_and_names_the_file(tmp_path):
    def flip(path):
        raw = bytearray(path.read_bytes())
        raw[-5] ^= 1
        path.write_bytes(raw)

    path = damaged(tmp_path, "block-00002.npy", flip)
    reader = Shards(tmp_path)  # the cheap checks cannot see it
    with pytest.raises(ShardError, match="has changed since it was written") as error:
        reader.verify()
    assert path in str(error.value)


def test_verify_finds_a_token_beyond_the_vocabulary(tmp_path):
    blocks = distinct_blocks(*SIZES)
    blocks[1][500] = 4_096
    folder = write_folder(tmp_path, blocks, vocab_size=4_096)
    with pytest.raises(ShardError, match="holds token 4096, the vocabulary of bytes ends at 4095"):
        Shards(folder).verify()
    write_folder(tmp_path, distinct_blocks(*SIZES), vocab_size=4_096)
    Shards(folder).verify()


def test_verify_finds_a_broken_chain(tmp_path):
    folder = write_folder(tmp_path, distinct_blocks(*SIZES))
    index = json.loads((folder / "index.json").read_bytes())
    index["blocks"][3]["chain"] = "0" * 64
    writer.write_index(folder, index)
    with pytest.raises(ShardError, match=r"chain breaks at block-00003\.npy"):
        Shards(folder).verify()


def test_a_block_that_shrinks_after_construction_is_refused_when_it_is_opened(tmp_path):
    reader = Shards(write_folder(tmp_path, distinct_blocks(*SIZES)))
    path = tmp_path / "block-00003.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ShardError, match=r"block-00003\.npy"):
        rows(reader, 0, reader.samples_per_epoch(64), 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "is not an index"), ("{}", "is not")],
)
def test_a_folder_without_a_good_index_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(ShardError, match=message):
        Shards(tmp_path)


def test_impossible_requests_are_refused(shards):
    for call, message in [
        (lambda: shards.batch(-1, 2, 64, 0), "sample -1 does not exist"),
        (lambda: shards.batch(0, 0, 64, 0), "batch_size is 0"),
        (lambda: shards.batch(0, 1, 0, 0), "seq_len is 0"),
        (lambda: shards.batch(0, 1, 5_000, 0), "no block holds a window of 5000 [+] 1 tokens"),
        (lambda: shards.heldout("train"), "holds out documents, not 'train'"),
    ]:
        with pytest.raises(ShardError, match=message):
            call()


def test_many_blocks_are_read_with_few_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr("x1lib.data.shards.OPEN_MAPS", 3)
    reader = Shards(write_folder(tmp_path, distinct_blocks(*[65] * 20)))
    tokens = rows(reader, 0, 40, 64)
    assert len(reader._maps) == 3
    np.testing.assert_array_equal(tokens[:20], tokens[20:])


def test_ids_above_65536_are_stored_in_32_bits(tmp_path):
    blocks = [np.arange(128_000, 128_256)]
    reader = Shards(write_folder(tmp_path, blocks, vocab_size=128_256))
    assert reader.dtype == np.uint32
    assert sorted(rows(reader, 0, 3, 64)[:, 0]) == [128_000, 128_064, 128_128]
    assert Shards(write_folder(tmp_path / "small", blocks=[[1] * 9], vocab_size=65_536)).dtype == (
        np.uint16
    )


@pytest.mark.parametrize("seq_len", [256, 1_024])
def test_reading_is_fast(tmp_path, seq_len):
    # experiments/benchmarks/shards_read.py measures some hundreds of millions; the slack is for
    # busy machines. One call of a loop in Python over tokens would miss this a hundredfold.
    rng = np.random.default_rng(0)
    folder = write_folder(tmp_path, [rng.integers(0, 50_000, 2**20) for _ in range(2)])
    reader, batch_size = Shards(folder), 16_384 // seq_len
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        for first in range(0, 50 * batch_size, batch_size):
            reader.batch(first, batch_size, seq_len, 0)
        best = max(best, 50 * batch_size * seq_len / (time.perf_counter() - began))
    assert best > 20e6


def test_the_embedded_text_is_whole(embedded_shards):
    reader = Shards(embedded_shards)
    reader.verify()
    assert reader.complete and reader.tokenizer == "bpe4096" and reader.source == "embedded"
    assert reader.heldout_names == ("documents", "source")
    assert reader.heldout("source").dtype == reader.dtype == np.uint16
    assert reader.n_tokens > 5_000_000
