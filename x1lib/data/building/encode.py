"""Token ids of many texts as arrays, by tiktoken where it is installed: the same ids, faster.

tiktoken gives 10 MB per CPU-second where Hugging Face's tokenizers gives 2.7. Both are built from
this package's own files; that their ids are equal is what the tests hold.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial

import numpy as np

from x1lib.data.errors import DataError
from x1lib.data.tokenizer import EOT, PIECE_CHARACTERS, Tokenizer, pieces
from x1lib.data.writer import token_dtype

# How GPT-2 cuts text before merging (Radford et al. 2019), with possessive quantifiers, which
# match the same and never back up.
GPT2_CUTS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# tiktoken's time grows with the square of an unbroken run of letters; beyond this the other
# library, whose time does not, takes the piece.
MAX_UNBROKEN_CHARACTERS = 4 * PIECE_CHARACTERS


# What libraries have disagreed about: white space, contractions, letters beyond ASCII, the special
# token's own characters inside text, broken sequences of emoji, runs of one character.
AWKWARD = (
    "", " ", "  a  b \n\n\t c  ", "don't they'LL I'm 's", "x <|endoftext|> y", "3.14159e-10 ٣٤",
    "¿Qué tal, Núñez?", "你好，世界", "🙂👩\u200d👩\u200d👧🇪🇸", "\u2028\x00\ufeff\u00a0", "a" * 300,
    "\r\n" * 40,
)  # fmt: skip
ENGINES = ("auto", "tiktoken", "tokenizers", "gigatoken")


def tiktoken_encoding(tokenizer: Tokenizer):
    """The tokeniser as a tiktoken.Encoding; raises ImportError where tiktoken is not installed."""
    import tiktoken

    return tiktoken.Encoding(
        tokenizer.name,
        pat_str=GPT2_CUTS,
        mergeable_ranks={piece: i for i, piece in enumerate(tokenizer.token_pieces)},
        special_tokens={EOT: tokenizer.eot_id},
    )


def _tiktoken(tokenizer: Tokenizer) -> Callable[[str], np.ndarray]:
    return partial(tiktoken_encoding(tokenizer).encode_to_numpy, disallowed_special=())


def _gigatoken(tokenizer: Tokenizer) -> Callable[[str], np.ndarray]:
    try:
        import gigatoken
    except ImportError as error:
        raise DataError(
            "gigatoken is not installed; `pip install gigatoken==0.10.0`, or leave X1_ENCODER unset"
        ) from error
    return gigatoken.Tokenizer.from_json(tokenizer.plain_json()).encode


_LOADERS = {"tiktoken": _tiktoken, "gigatoken": _gigatoken}


class Encoder:
    """Encodes texts into arrays of the smallest dtype that holds the vocabulary.

    `engine` is "tiktoken", "tokenizers", "gigatoken", or "auto": $X1_ENCODER, else tiktoken where
    it is. gigatoken is a beta and several times as fast; it is taken only when it is asked for, and
    held to the same ids on AWKWARD before that. Raises DataError.
    """

    def __init__(self, tokenizer: Tokenizer, engine: str = "auto"):
        self.tokenizer = tokenizer
        self.dtype = token_dtype(tokenizer.vocab_size)
        asked = (os.environ.get("X1_ENCODER") or "auto") if engine == "auto" else engine
        if asked not in ENGINES:
            raise DataError(f"unknown encoder {asked!r}; there are {', '.join(ENGINES)}")
        if tokenizer.name == "bytes":
            asked = "bytes"
        elif asked == "auto":
            asked = "tiktoken" if importlib.util.find_spec("tiktoken") else "tokenizers"
        self.engine: str = asked  # which library encodes; "bytes" needs none
        self._fast = _LOADERS[asked](tokenizer) if asked in _LOADERS else None
        if asked == "gigatoken":
            self._compare()

    def _compare(self) -> None:
        """Refuse a library that gives other ids than tokenizers does."""
        for text in AWKWARD:
            if self.encode(text).tolist() != self.tokenizer.encode(text):
                raise DataError(
                    f"{self.engine} encodes {text[:20]!r} to other ids than tokenizers; do without"
                    " it (X1_ENCODER=auto), or install the version that was tried (0.10.0)"
                )

    def encode(self, text: str) -> np.ndarray:
        """Ids of one text, 1-D; no special id is added."""
        if self.engine == "bytes":
            return np.frombuffer(text.encode("utf-8"), np.uint8).astype(self.dtype)
        if len(text) <= PIECE_CHARACTERS:
            return self._encode_piece(text)
        return np.concatenate([self._encode_piece(piece) for piece in pieces(text)])

    def _encode_piece(self, piece: str) -> np.ndarray:
        if self._fast and len(piece) <= MAX_UNBROKEN_CHARACTERS:
            return self._fast(piece).astype(self.dtype)
        return np.array(self.tokenizer.encode(piece), dtype=self.dtype)

    def encode_documents(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """All texts as one array, `<|endoftext|>` before each, and where each begins.

        Returns (tokens[n], int64[n_texts + 1]); text i is tokens[edges[i]:edges[i + 1]].
        """
        eot = np.array([self.tokenizer.eot_id], dtype=self.dtype)
        parts = [part for text in texts for part in (eot, self.encode(text))]
        edges = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([1 + len(part) for part in parts[1::2]], out=edges[1:])
        tokens = np.concatenate(parts) if parts else np.empty(0, self.dtype)
        return tokens, edges
