"""The tokenisers: equal to tiktoken's, reversible, loadable by transformers, refused when wrong."""

import json
import random

import numpy as np
import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from x1lib.data import TokenizerError, load_tokenizer, tokenizer, train_tokenizer
from x1lib.data.tokenizer import EOT, NAMES, byte_symbols, check, gpt2_byte_order, pieces

AWKWARD = {
    "empty": "",
    "one space": " ",
    "spaces": "a  b   c    d     ",
    "leading spaces": "     x",
    "newlines": "\n\n\na\n\n b\r\n\r\nc\n",
    "tabs": "\t\tif x:\n\t\t\treturn\t\n",
    "kinds of space": "a\u00a0b\u2003 c\u3000d\u200be\u2028f\x0b\x0cg\x85h\x1c\x1fi",
    "code": "def f(x: int) -> str:\n    return f'{x!r:>10}'  # 0x1F\n\n\nfor(;;){a[i]+=b--;}\n",
    "contractions": "I'll we've they're it's I'd I'm don't DON'T I'LL 's 'sx ''s ’s o'clock",
    "numbers": "1234567890 3.14159 1,000,000 ½ ² Ⅷ ٣٤٥ 一二三 12abc34",
    "cjk": "人工智能正在改变世界。 日本語のテキスト、カタカナ 한국어 텍스트",
    "emoji": "😀👍🏽 👨‍👩‍👧‍👦 🇪🇸🇩🇪 ❤️‍🔥 a😀b 😀 😀",
    "combining": "e\u0301 n\u0303 Z\u0351\u036b\u0343\u036a ﷺ नमस्ते สวัสดี",
    "right to left": "שלום עולם مرحبا بالعالم",
    "eot as text": f"a{EOT}b {EOT}\n<|endoftext|",
    "latin-1 bytes": bytes(range(256)).decode("latin-1"),
    "latin-1 bytes spaced": " ".join(bytes(range(256)).decode("latin-1")),
    "long word": "a" * 3_000,
    "long punctuation": "=" * 500 + "-" * 500 + "\n" * 300,
}


def every_utf8_byte() -> str:
    """A text whose UTF-8 form holds every byte that valid UTF-8 can hold: all but 13 of the 256."""
    leads = "".join(chr(c) for c in range(0x80, 0x110000, 0x3F) if not 0xD800 <= c < 0xE000)
    return "".join(map(chr, range(128))) + leads


def random_text(rng: random.Random) -> str:
    """Text over all planes in which white space, letters and marks of all scripts meet."""
    ranges = [(0x20, 0x7F), (0x20, 0x7F), (9, 14), (0xA0, 0x250), (0x2000, 0x2070)]
    ranges += [(0x300, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(1, 60)))


@pytest.fixture(scope="module")
def reference() -> tiktoken.Encoding:
    """tiktoken's GPT-2, built from the merges here and tiktoken's own pattern: it would download.

    Ranks are worked out from the merges anew, not taken from the tokeniser under test.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    value = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    ranks = {bytes([b]): i for i, b in enumerate(printable + others)}
    lines = (tokenizer.ASSETS / "gpt2_merges.txt").read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        ranks[bytes(value[s] for s in line.replace(" ", ""))] = len(ranks)
    return tiktoken.Encoding(
        "gpt2-offline",
        pat_str=openai_public.r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={EOT: 50_256},
        explicit_n_vocab=50_257,
    )


@pytest.mark.parametrize("name", AWKWARD)
def test_gpt2_equals_tiktoken_on_awkward_strings(reference, name):
    assert load_tokenizer("gpt2").encode(AWKWARD[name]) == reference.encode_ordinary(AWKWARD[name])


def test_gpt2_equals_tiktoken_on_every_byte(reference):
    text = every_utf8_byte()
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert set(text.encode()) == set(range(256)) - never
    gpt2 = load_tokenizer("gpt2")
    assert gpt2.encode(text) == reference.encode_ordinary(text)
    # the bytes that no text holds have their ids too, and each stands for itself
    singles = [reference.encode_single_token(bytes([b])) for b in range(256)]
    assert singles == [gpt2_byte_order().index(b) for b in range(256)]
    assert [gpt2._pieces[i] for i in singles] == [bytes([b]) for b in range(256)]


def test_gpt2_equals_tiktoken_on_random_unicode(reference):
    rng = random.Random(20)
    texts = [random_text(rng) for _ in range(3_000)]
    assert load_tokenizer("gpt2").encode_batch(texts) == [
        reference.encode_ordinary(text) for text in texts
    ]


@given(st.text(st.sampled_from(" \n\t\r\u00a0'’sStTlLveé1½²_-.字😀\u0301\u200d"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_gpt2_equals_tiktoken_where_groups_meet(reference, text):
    assert load_tokenizer("gpt2").encode(text) == reference.encode_ordinary(text)


def code_points(step: int) -> list[str]:
    chosen = [chr(c) for c in range(0, 0x110000, step) if not 0xD800 <= c < 0xE000]
    lines = [f"a{c}a {c}1{c} \n{c}{c}!" for c in chosen]
    return ["".join(lines[i : i + 200]) for i in range(0, len(lines), 200)]


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.long)])
def test_gpt2_equals_tiktoken_on_code_points_beside_each_kind(reference, step):
    texts = code_points(step)
    assert load_tokenizer("gpt2").encode_batch(texts) == [
        reference.encode_ordinary(text) for text in texts
    ]


def test_known_ids():
    assert load_tokenizer("gpt2").encode("Hello world") == [15496, 995]
    assert load_tokenizer("bytes").encode("é") == [0xC3, 0xA9]
    sizes = {name: len(load_tokenizer(name)) for name in NAMES}
    assert sizes == {"gpt2": 50_257, "bpe4096": 4_096, "bytes": 257}
    assert load_tokenizer("gpt2").eot_id == 50_256


@pytest.mark.parametrize("name", NAMES)
def test_decode_gives_the_text_back(name):
    words = load_tokenizer(name)
    rng = random.Random(name)
    texts = [*AWKWARD.values(), every_utf8_byte(), *(random_text(rng) for _ in range(500))]
    for text, ids in zip(texts, words.encode_batch(texts)):
        assert words.decode(ids) == text
        assert int(words.token_bytes[ids].sum()) == len(text.encode())


@pytest.mark.parametrize("name", NAMES)
def test_text_never_encodes_to_the_special_id(name):
    words = load_tokenizer(name)
    ids = words.encode(f"one{EOT}two")
    assert words.eot_id == words.vocab_size - 1 not in ids
    assert words.token_bytes[words.eot_id] == 0
    assert words.decode([*ids, words.eot_id]) == f"one{EOT}two{EOT}"


@pytest.mark.parametrize("name", NAMES)
def test_every_token_stands_for_its_bytes(name):
    words = load_tokenizer(name)
    assert len(set(words._pieces)) == words.vocab_size
    lengths = [len(piece) for piece in words._pieces[:-1]]
    assert words.token_bytes.dtype == np.int64 and words.token_bytes[:-1].tolist() == lengths


def test_a_cut_character_decodes_to_the_replacement_sign_and_an_unknown_id_is_refused():
    words = load_tokenizer("bytes")
    assert words.decode(words.encode("a é")[:-1]) == "a \ufffd"
    with pytest.raises(TokenizerError, match="id 257 is outside bytes's 257 ids"):
        words.decode([65, 257])


@given(st.text(st.sampled_from(" \n\t\r\u00a0a'é字.1\x1c"), max_size=80))
@example("ab\n\n\nc")  # the only run of white space that GPT-2 has a token for
@settings(max_examples=200, deadline=None)
def test_a_text_cut_into_pieces_encodes_like_the_whole(text):
    words = load_tokenizer("gpt2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "PIECE_CHARACTERS", 3)
        patch.setattr(tokenizer, "CALL_PIECES", 2)
        parts = pieces(text)
        assert "".join(parts) == text
        assert words.encode_batch([text, "b c", text])[2] == words._bpe.encode(text).ids


def test_a_long_text_really_is_cut():
    text = "word and  space\n" * 10_000
    assert len(pieces(text)) == 10
    words = load_tokenizer("bpe4096")
    assert words.encode(text) == words._bpe.encode(text).ids


def test_unknown_names_are_refused_with_what_exists():
    with pytest.raises(TokenizerError, match="unknown tokeniser 'gpt4'; there are gpt2, bpe4096"):
        load_tokenizer("gpt4")


def test_changed_merges_are_refused(monkeypatch):
    right = (tokenizer.ASSETS / "gpt2_merges.txt").read_bytes()
    monkeypatch.setattr(tokenizer, "_read_asset", lambda name: right.replace(b"h e\n", b"h o\n", 1))
    with pytest.raises(TokenizerError, match=r"gpt2_merges\.txt has sha256"):
        load_tokenizer.__wrapped__("gpt2")


@pytest.mark.parametrize("broken", ["short", "reordered"])
def test_a_small_tokeniser_of_another_length_or_encoding_is_refused(monkeypatch, broken):
    record = json.loads((tokenizer.ASSETS / "bpe4096.json").read_bytes())
    merges = record["merges"]
    record["merges"] = merges[:-1] if broken == "short" else [*merges[256:], *merges[:256]]
    monkeypatch.setattr(tokenizer, "_read_asset", lambda name: json.dumps(record).encode())
    expected = "4095 ids, expected 4096" if broken == "short" else "encodes 'Hello world' as"
    with pytest.raises(TokenizerError, match=expected):
        load_tokenizer.__wrapped__("bpe4096")


def test_the_empty_tokeniser_that_transformers_builds_in_silence_is_refused(tmp_path):
    from transformers import GPT2Tokenizer

    folder = load_tokenizer("gpt2").save_hf(tmp_path)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_bytes((tokenizer.ASSETS / "gpt2_merges.txt").read_bytes())
    # the argument names of version 4, which newer versions take and ignore
    empty = GPT2Tokenizer(
        vocab_file=str(tmp_path / "vocab.json"), merges_file=str(tmp_path / "merges.txt")
    )
    if len(empty) == 50_257:
        pytest.skip("this transformers reads vocab_file and merges_file")
    with pytest.raises(TokenizerError, match=f"has {len(empty)} ids, expected 50257"):
        check(empty, "gpt2")


@pytest.mark.parametrize("model_type", [None, "qwen3", "llama"])
@pytest.mark.parametrize("name", NAMES)
def test_transformers_loads_what_save_hf_writes(tmp_path, name, model_type):
    from transformers import AutoTokenizer

    words = load_tokenizer(name)
    words.save_hf(tmp_path)
    if model_type:  # beside a model, its type may choose another tokeniser class
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == words.vocab_size
    assert loaded.eos_token_id == loaded.bos_token_id == words.eot_id
    for text in AWKWARD.values():
        if EOT not in text:  # there it is special
            assert loaded(text)["input_ids"] == words.encode(text)
            assert loaded.decode(words.encode(text)) == text
    assert loaded(EOT)["input_ids"] == [words.eot_id]


def test_the_shipped_small_tokeniser_is_what_training_gives(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train_tokenizer", "--out", str(tmp_path / "again.json")])
    train_tokenizer.main()
    shipped = (tokenizer.ASSETS / "bpe4096.json").read_bytes()
    assert (tmp_path / "again.json").read_bytes() == shipped


def test_byte_symbols_are_printable_and_distinct():
    symbols = byte_symbols()
    assert len(set(symbols)) == 256
    assert all(s.isprintable() and not s.isspace() for s in symbols)
    assert sorted(gpt2_byte_order()) == list(range(256))
