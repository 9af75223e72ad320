"""Files that survive a kill: hashed while written, flushed to the disk, sealed, renamed whole."""

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from x1lib import X1Error

NO_SPACE = {  # errno -> what to do about it
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "raise the quota or delete files of yours",
    errno.EFBIG: "raise the file-size limit (ulimit -f)",
}
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1))
UNSEAL_ERRORS = (ValueError, KeyError, TypeError, AttributeError)  # what damaged JSON leads to
CHUNK_BYTES = (
    8 << 20
)  # large enough to stream, small enough to stay in cache between hash and write

# Names from the safetensors specification (github.com/huggingface/safetensors, "Format").
DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class CheckpointError(X1Error):
    """A checkpoint could not be written, read or trusted."""


class NoSpaceError(CheckpointError):
    """The disk, the quota or the file-size limit ended a write; what was there before is whole."""

    exit_code = 74  # EX_IOERR, as in x1lib.runtime


class NoSuchStepError(CheckpointError):
    """The step asked for has no checkpoint."""


class HashedFile:
    """A new file whose sha256 is computed beside the writing, so that no byte is read twice.

    Leaving the `with` block flushes it to the disk; `.record` is then its size and sha256.
    """

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self._file = open(self.path, "xb")
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._hasher = ThreadPoolExecutor(1)  # hashlib and write both release the GIL
        return self

    def write(self, data):
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            chunk = view[start : start + CHUNK_BYTES]
            hashed = self._hasher.submit(self._sha256.update, chunk)
            self._file.write(chunk)
            hashed.result()
        self._bytes += len(view)

    def __exit__(self, error_type, error, traceback):
        self._hasher.shutdown()
        try:
            if error_type is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        self.record = {"bytes": self._bytes, "sha256": self._sha256.hexdigest()}


def write_bytes(path, data):
    """Write `data` to a new file, flushed to the disk; returns its size and sha256."""
    with HashedFile(path) as file:
        file.write(data)
    return file.record


def write_tensors(path, tensors, metadata=None):
    """Write name -> tensor as one safetensors file, flushed to the disk; returns size and sha256.

    Tensors of any device and stride; one at a time is copied to the host. Raises CheckpointError
    for a dtype that the format lacks. Source: the safetensors specification.
    """
    # Widest dtype first keeps every tensor aligned to its own size, as readers expect.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, offset = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, tensor in ordered:
        if tensor.dtype not in DTYPE_NAMES:
            raise CheckpointError(
                f"tensor {name!r} has dtype {tensor.dtype}, which safetensors cannot hold; "
                "convert it before saving."
            )
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with HashedFile(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy())
    return file.record


def file_sha256(path):
    """The sha256 of a file, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(content):
    """JSON bytes of a dict that carry their own sha256, so that any flipped byte shows."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    sealed = {"content": content, "sha256": digest}
    return (json.dumps(sealed, sort_keys=True, indent=1) + "\n").encode()


def unseal(data):
    """The dict that `seal` packed; raises one of UNSEAL_ERRORS when a byte differs."""
    content = json.loads(data)["content"]
    if seal(content) != data:
        raise ValueError("its own sha256 does not match")
    return content


def aside(path, kind):
    """A new name beside `path` that is never read as the real thing; kind is "tmp" or "old"."""
    return path.with_name(f"{kind}-{path.name}-{uuid.uuid4().hex[:8]}")


def leftovers(folder, name, kind="tmp|old"):
    """What an earlier process left in `folder` under a name from `aside`; patterns narrow it."""
    pattern = re.compile(f"({kind})-({name})-[0-9a-f]{{8}}")
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [folder / found for found in names if pattern.fullmatch(found)]


def remove(path):
    """Delete a file or a whole folder; raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def discard(path, log):
    """Delete what is not needed; a failure is reported and never stops the training."""
    try:
        remove(path)
    except OSError as error:
        log(f"could not delete {path} ({error}); going on, the next save tries again")


def fsync_path(path):
    """Flush a file, or a folder's names, to the disk: a rename then outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts refuse this
            raise
    finally:
        os.close(descriptor)


def make_folder(path):
    """Create a folder and its parents; raises CheckpointError."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot create the folder {path} ({error}); give a folder that can be written."
        ) from error


def write_error(error, what, folder, needed_bytes):
    """The named error for an OSError met while writing `what` into `folder`."""
    if error.errno not in NO_SPACE:
        return CheckpointError(
            f"cannot write {what} in {folder} ({error}); what was there is untouched: "
            "make the folder writable and start again."
        )
    try:
        free = f"{_readable(shutil.disk_usage(folder).free)} are free on the disk"
    except OSError:
        free = "what is free on the disk cannot be read"
    return NoSpaceError(
        f"no space for {what} in {folder} ({error.strerror}): it needs {_readable(needed_bytes)}, "
        f"{free}; what was there is untouched: {NO_SPACE[error.errno]} and start again."
    )


def _readable(n_bytes):
    unit, size = next((u, s) for u, s in UNITS if n_bytes >= s or s == 1)
    return f"{n_bytes / size:,.4g} {unit}"
