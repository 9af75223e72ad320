"""Token ids of many texts as arrays, by tiktoken where it is installed: the same ids, faster.

tiktoken gives 10 MB per CPU-second where Hugging Face's tokenizers gives 2.7. Both are built from
this package's own files; that their ids are equal is what the tests hold.
"""

from __future__ import annotations

import numpy as np

from x1lib.data.tokenizer import EOT, PIECE_CHARACTERS, Tokenizer, pieces
from x1lib.data.writer import token_dtype

# How GPT-2 cuts text before merging (Radford et al. 2019), with possessive quantifiers, which
# match the same and never back up.
GPT2_CUTS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# tiktoken's time grows with the square of an unbroken run of letters; beyond this the other
# library, whose time does not, takes the piece.
MAX_UNBROKEN_CHARACTERS = 4 * PIECE_CHARACTERS


class Encoder:
    """Encodes texts into arrays of the smallest dtype that holds the vocabulary."""

    def __init__(self, tokenizer: Tokenizer, use_tiktoken: bool | None = None):
        """`use_tiktoken`: True insists (ImportError), False does without, None takes what is."""
        self.tokenizer = tokenizer
        self.dtype = token_dtype(tokenizer.vocab_size)
        self._plain_bytes = tokenizer.name == "bytes"
        self._fast = None
        if use_tiktoken is not False and not self._plain_bytes:
            try:
                import tiktoken
            except ImportError:
                if use_tiktoken:
                    raise
            else:
                ranks = {piece: i for i, piece in enumerate(tokenizer.token_pieces)}
                self._fast = tiktoken.Encoding(
                    tokenizer.name,
                    pat_str=GPT2_CUTS,
                    mergeable_ranks=ranks,
                    special_tokens={EOT: tokenizer.eot_id},
                )

    @property
    def engine(self) -> str:
        """Which library encodes: "bytes", "tiktoken" or "tokenizers"."""
        if self._plain_bytes:
            return "bytes"
        return "tiktoken" if self._fast else "tokenizers"

    def encode(self, text: str) -> np.ndarray:
        """Ids of one text, 1-D; no special id is added."""
        if self._plain_bytes:
            return np.frombuffer(text.encode("utf-8"), np.uint8).astype(self.dtype)
        if len(text) <= PIECE_CHARACTERS:
            return self._encode_piece(text)
        return np.concatenate([self._encode_piece(piece) for piece in pieces(text)])

    def _encode_piece(self, piece: str) -> np.ndarray:
        if self._fast and len(piece) <= MAX_UNBROKEN_CHARACTERS:
            return self._fast.encode_to_numpy(piece, disallowed_special=()).astype(self.dtype)
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
