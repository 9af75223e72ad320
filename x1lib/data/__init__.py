"""Text, tokenisers and shards: `prepare` makes a folder of tokens, `Shards` reads it."""

from x1lib.data.errors import DataError, DataNotReady, ShardError, SourceError, TokenizerError
from x1lib.data.pipeline import prepare
from x1lib.data.shards import Shards, windows
from x1lib.data.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "DataError",
    "DataNotReady",
    "ShardError",
    "Shards",
    "SourceError",
    "Tokenizer",
    "TokenizerError",
    "load_tokenizer",
    "prepare",
    "windows",
]
