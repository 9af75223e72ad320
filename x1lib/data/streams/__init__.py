"""Sources that are read as they come: local files of any size, data sets of the Hub."""

from x1lib.data.streams.batches import Batch, Stream
from x1lib.data.streams.catalog import CATALOG, open_stream
from x1lib.data.streams.files import FileStream, kind_of, list_files

__all__ = ["CATALOG", "Batch", "FileStream", "Stream", "kind_of", "list_files", "open_stream"]
