"""What all tests share: their environment, prepared text, and skips that say what is missing."""

import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))
from run_groups import ENVIRONMENT

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)

# Folder with text that cannot be shipped; tests that want it skip, saying so, where it is not set.
OPTIONAL_DATA = "X1_OPTIONAL_DATA"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    wanting = [item for item in items if "gpu" in item.keywords]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="session")
def embedded_shards() -> Path:
    """Folder of the embedded text's shards with the small tokeniser, prepared once.

    Workers of one run share it, so whoever comes first prepares and the others wait.
    """
    from x1lib.data import prepare

    folder = Path(os.environ["X1_DATA"])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "preparing.lock"):
        return prepare("embedded", "bpe4096")


@pytest.fixture(scope="session")
def optional_data():
    """A function from a file's name to its path under the optional folder; absent, it skips."""

    def find(name: str) -> Path:
        folder = os.environ.get(OPTIONAL_DATA)
        if not folder:
            pytest.skip(f"{name} is not shipped; {OPTIONAL_DATA} names no folder that holds it")
        path = Path(folder) / name
        if not path.exists():
            pytest.skip(f"{name} is not in the folder that {OPTIONAL_DATA} names")
        return path

    return find
