"""Tokenisers by name, built offline from files in this package and refused when they are wrong."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from x1lib.data.errors import TokenizerError

EOT = "<|endoftext|>"
ASSETS = Path(__file__).parent / "assets"
NAMES = ("gpt2", "bpe4096", "bytes")

# The file that OpenAI published as vocab.bpe with GPT-2 (Radford et al. 2019).
GPT2_MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"

# name: (number of ids with <|endoftext|>, a text, its ids). A tokeniser that misses either is
# refused: transformers returns an empty one, without an error, when it cannot reach its files.
EXPECTED = {
    "gpt2": (50_257, "Hello world", [15496, 995]),
    "bpe4096": (4_096, "Hello world", [39, 757, 78, 698]),
    "bytes": (257, "Hello", [72, 101, 108, 108, 111]),
}

PIECE_CHARACTERS = 16_384
# Pieces in one call of the library, which takes some 200 bytes a token until the ids are out.
CALL_PIECES = 256
_CUT = re.compile(r"(?<=\S)[ \n]")


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte value 0..255 in byte-level BPE files.

    Printable Latin-1 stands for itself; the other 68 bytes take the code points from 256 on, in
    order (Radford et al. 2019, `encoder.py` of the GPT-2 release).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def gpt2_byte_order() -> list[int]:
    """Byte values in the order of GPT-2's first 256 ids: the printable ones, then the others."""
    symbols = byte_symbols()
    return sorted(range(256), key=lambda byte: (symbols[byte] != chr(byte), byte))


def _read_asset(name: str) -> bytes:
    try:
        return (ASSETS / name).read_bytes()
    except OSError as error:
        raise TokenizerError(
            f"cannot read {ASSETS / name}: {error.strerror}; install x1lib again"
        ) from error


def _gpt2_merges() -> list[tuple[str, str]]:
    raw = _read_asset("gpt2_merges.txt")
    digest = hashlib.sha256(raw).hexdigest()
    if digest != GPT2_MERGES_SHA256:
        raise TokenizerError(
            f"assets/gpt2_merges.txt has sha256 {digest[:12]}…, expected "
            f"{GPT2_MERGES_SHA256[:12]}…; install x1lib again"
        )
    lines = raw.decode("utf-8").split("\n")[1:]
    return [tuple(line.split(" ")) for line in lines if line]


def _bpe4096_merges() -> list[tuple[str, str]]:
    record = json.loads(_read_asset("bpe4096.json"))
    return [tuple(line.split(" ")) for line in record["merges"]]


def pieces(text: str) -> list[str]:
    """Cut a long text where no token can lie across: before a space or newline after a non-space.

    In GPT-2's pre-tokenisation white space only opens a group or stands in one of its own, so the
    pieces encode to the same ids as the whole, while the cores share them and memory stays flat.
    """
    cuts = [0]
    while len(text) - cuts[-1] > PIECE_CHARACTERS:
        found = _CUT.search(text, cuts[-1] + PIECE_CHARACTERS)
        if not found:
            break
        cuts.append(found.start())
    return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)])]


class Tokenizer:
    """A byte-level BPE whose last id is `<|endoftext|>`; text never encodes to that id.

    `merges` are pairs of byte symbols in order of rank, `byte_order` the byte value of each of the
    first 256 ids. `.token_bytes` is int64[vocab_size]: the UTF-8 bytes behind each id, 0 for the
    special one, so that losses can be given in bits per byte.
    """

    def __init__(self, name: str, merges: list[tuple[str, str]], byte_order: list[int]):
        symbols = byte_symbols()
        vocab = {symbols[byte]: i for i, byte in enumerate(byte_order)}
        for left, right in merges:
            vocab.setdefault(left + right, len(vocab))
        self.name = name
        self.eot_id = len(vocab)
        self.vocab_size = self.eot_id + 1
        value = {symbol: byte for byte, symbol in enumerate(symbols)}
        self._pieces = [bytes(value[s] for s in token) for token in vocab] + [EOT.encode()]
        lengths = [len(piece) for piece in self._pieces[:-1]] + [0]
        self.token_bytes = np.array(lengths, dtype=np.int64)
        self.token_bytes.flags.writeable = False
        # The special id is in the vocabulary but no merge leads to it, so that the characters
        # "<|endoftext|>" inside a document stay ordinary text.
        self._bpe = tokenizers.Tokenizer(models.BPE(vocab | {EOT: self.eot_id}, merges))
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._bpe.decoder = decoders.ByteLevel()
        self._plain_bytes = not merges and byte_order == list(range(256))
        ids = json.dumps([list(byte_order), merges]).encode()
        self.fingerprint = hashlib.sha256(ids).hexdigest()

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def token_pieces(self) -> list[bytes]:
        """The bytes behind each id, in order of id; `<|endoftext|>`, the last, is left out."""
        return self._pieces[:-1]

    def plain_json(self) -> str:
        """The tokeniser in the format of Hugging Face's tokenizers; its special id never comes."""
        return self._bpe.to_str()

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; no special id is added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, in order; runs on all cores unless TOKENIZERS_PARALLELISM is false."""
        if self._plain_bytes:
            return [list(text.encode("utf-8")) for text in texts]
        # the fast form leaves out character offsets; tokenizers before 0.20 lack it
        encode = getattr(self._bpe, "encode_batch_fast", self._bpe.encode_batch)
        cut = [(i, piece) for i, text in enumerate(texts) for piece in pieces(text)]
        ids: list[list[int]] = [[] for _ in texts]
        for start in range(0, len(cut), CALL_PIECES):
            call = cut[start : start + CALL_PIECES]
            found = encode([piece for _, piece in call], add_special_tokens=False)
            for (i, _), encoding in zip(call, found):
                ids[i].extend(encoding.ids)
        return ids

    def decode(self, ids) -> str:
        """Text of `ids`; bytes that are not valid UTF-8 (a cut character) become U+FFFD."""
        try:
            return b"".join(self._pieces[i] for i in ids).decode("utf-8", errors="replace")
        except IndexError:
            worst = max(int(i) for i in ids)
            raise TokenizerError(
                f"id {worst} is outside {self.name}'s {self.vocab_size} ids; "
                "decode with the tokeniser that the model was trained with"
            ) from None

    def save_hf(self, folder) -> Path:
        """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.

        transformers' `AutoTokenizer` loads the folder with the same ids. There `<|endoftext|>` is
        declared special, so that transformers reads those characters in a text as the one id.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        full = tokenizers.Tokenizer.from_str(self._bpe.to_str())
        full.add_special_tokens([tokenizers.AddedToken(EOT, special=True, normalized=False)])
        full.save(str(folder / "tokenizer.json"))
        special = {"bos_token": EOT, "eos_token": EOT, "unk_token": EOT}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            **special,
        }
        for file, content in (
            ("tokenizer_config.json", settings),
            ("special_tokens_map.json", special),
        ):
            (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return folder


def check(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """Return `tokenizer` if it is the one called `name`, by length and a known encoding.

    Raises TokenizerError otherwise. Anything with `len()` and `.encode()` can be checked.
    """
    length, text, ids = EXPECTED[name]
    if len(tokenizer) != length:
        raise TokenizerError(
            f"the tokeniser called {name} has {len(tokenizer)} ids, expected {length}; "
            "its files are missing or wrong: install x1lib again"
        )
    got = list(tokenizer.encode(text))
    if got != ids:
        raise TokenizerError(
            f"the tokeniser called {name} encodes {text!r} as {got}, expected {ids}; "
            "its files are wrong: install x1lib again"
        )
    return tokenizer


@cache
def load_tokenizer(name: str) -> Tokenizer:
    """The tokeniser called `name` ("gpt2", "bpe4096" or "bytes"), built without a network.

    Raises TokenizerError for an unknown name, or when length or a known encoding is wrong.
    """
    if name == "gpt2":
        tokenizer = Tokenizer(name, _gpt2_merges(), gpt2_byte_order())
    elif name == "bpe4096":
        tokenizer = Tokenizer(name, _bpe4096_merges(), gpt2_byte_order())
    elif name == "bytes":
        tokenizer = Tokenizer(name, [], list(range(256)))
    else:
        raise TokenizerError(f"unknown tokeniser {name!r}; there are {', '.join(NAMES)}")
    return check(tokenizer, name)
