"""What a corpus is made of, and how far a batch is from it: rare tokens, order, repetition."""

from __future__ import annotations

import numpy as np

from x1lib.stability import rarest

MAX_TOKENS = 2_000_000  # counted; spread over the blocks
BIGRAM_SHARE = 0.75  # of a token's probability that pairs say; the rest is the token's own


class Corpus:
    """Counts of tokens and of pairs over a prepared folder, or over a spread sample of it.

    .counts[vocab]; .rare[vocab]: whether a token is of the rarest that make up 1% together.
    """

    def __init__(self, shards, max_tokens: int = MAX_TOKENS):
        vocab = shards.vocab_size
        share = max_tokens // max(1, shards.n_blocks)
        self.counts, keys = np.zeros(vocab, np.int64), []
        for entry in shards.blocks:
            tokens = np.load(shards.folder / entry["file"], mmap_mode="r")[:share].astype(np.int64)
            self.counts += np.bincount(tokens, minlength=vocab)
            keys.append(tokens[:-1] * vocab + tokens[1:])
        self._pairs, self._n_pairs = np.unique(np.concatenate(keys), return_counts=True)
        self.vocab_size = vocab
        self.rare = np.zeros(vocab, bool)
        self.rare[rarest(self.counts)] = True
        self.rare |= self.counts == 0
        self._own = (self.counts + 0.5) / (self.counts + 0.5).sum()

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Bits a token that knowing the one before it saves, by row of rows [n, seq + 1]: float[n].

        3 or so for text, negative where tokens do not follow each other as they do in the corpus.
        """
        rows = rows.astype(np.int64)
        before, after = rows[:, :-1], rows[:, 1:]
        keys = before * self.vocab_size + after
        place = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        n = np.where(self._pairs[place] == keys, self._n_pairs[place], 0)
        own = self._own[after]
        both = BIGRAM_SHARE * n / np.maximum(self.counts[before], 1) + (1 - BIGRAM_SHARE) * own
        return np.log2(both / own).mean(axis=1)

    def describe(self, rows: np.ndarray) -> dict[str, float]:
        """Figures of one batch: rare (share of its tokens), gain, row_gain (lowest), repetition.

        repetition: the largest share, over rows, of tokens that equal the one before them.
        """
        gains = self.gains(rows)
        return {
            "rare": float(self.rare[rows].mean()),
            "gain": float(gains.mean()),
            "row_gain": float(gains.min()),
            "repetition": float((rows[:, 1:] == rows[:, :-1]).mean(axis=1).max()),
        }

    def orderless_gain(self, rows: np.ndarray, seed: int = 0) -> float:
        """The gain that is left when the tokens of these rows are shuffled."""
        flat = np.random.RandomState(seed).permutation(rows.ravel())
        return float(self.gains(flat.reshape(rows.shape)).mean())

    def histogram(self, rows: np.ndarray, n_bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Share of a batch's tokens and of the corpus's by how frequent the token is in the corpus.

        Bin i holds the tokens between the i-th and the next tenth of the corpus, the most frequent
        first, so that a batch like the corpus has a tenth in each. Two arrays of n_bins.
        """
        order = np.argsort(-self.counts, kind="stable")
        upto = np.cumsum(self.counts[order]) - self.counts[order] / 2
        bin_of = np.empty(self.vocab_size, np.int64)
        bin_of[order] = np.minimum((n_bins * upto / self.counts.sum()).astype(int), n_bins - 1)
        batch = np.bincount(bin_of[rows.ravel()], minlength=n_bins) / rows.size
        corpus = np.bincount(bin_of, weights=self.counts, minlength=n_bins) / self.counts.sum()
        return batch, corpus
