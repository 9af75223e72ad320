"""Secrets stay out of what a run writes: addresses, environment variables, lines of a log."""

from __future__ import annotations

import os
import re
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
HIDDEN = "[hidden]"
SHORTEST = 8  # characters of a value that is hidden wherever it stands; shorter ones are words

# What decides a result, its speed or where its records go; and two names that stand alone.
KEPT = (
    "X1_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "CUDA_",
    "CUDNN_", "CUBLAS_", "NVIDIA_TF32", "TORCH", "PYTORCH_", "TRITON_", "NCCL_", "HF_", "MLFLOW_",
    "PYTHONHASHSEED", "LD_PRELOAD",
)  # fmt: skip
SET_BY_TORCH = {"TORCHINDUCTOR_CACHE_DIR"}  # a folder of this machine, which decides nothing

# TOKENIZERS_PARALLELISM is no secret, and PWD alone is the current folder.
_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|TOKEN(?!IZ)|(API|ACCESS|PRIVATE)_?KEY"
    r"|(^|[^A-Z])(KEYS?|PASS|AUTH|SIG|SIGNATURE)($|[^A-Z])|[^A-Z]PWD$"
)
_USER_INFO = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)([^/?#\s'\"<>]*)@")
_PARAMETER = re.compile(r"([?&;])([\w.-]+)=([^&;#\s'\"<>]+)")
# Forms that issuers chose so that they can be found: Hugging Face, GitHub, GitLab, AWS, others.
_FORMS = re.compile(
    r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-)[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b"
)


def scrub(value: T) -> T:
    """The value without secrets: text, or text at any depth of dicts, lists and tuples.

    User name and password leave an address; a parameter with a secret's name, the value of an
    environment variable with one, and tokens of well-known forms become "[hidden]". Keys stay.
    """
    return _scrub(value, _known())


def scrubbed(log: Callable[[str], object]) -> Callable[[str], object]:
    """The same `log`, of lines without secrets."""
    return lambda line: log(scrub(line))


def scrub_output() -> None:
    """From now on whatever Python prints in this process, errors too, is printed scrubbed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Scrubbed):
            setattr(sys, name, _Scrubbed(stream))


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables that decide what a run does, without secrets; the home folder is ~."""
    variables = os.environ if variables is None else variables
    home, kept = str(Path.home()), {}
    for name in sorted(variables):
        if name.startswith(KEPT) and name not in SET_BY_TORCH:
            text = HIDDEN if is_secret_name(name) else scrub(variables[name])
            kept[name] = text.replace(home, "~") if len(home) > 1 else text
    return kept


def is_secret_name(name: str) -> bool:
    """Whether a variable or parameter of this name holds a secret, as far as its name says."""
    return bool(_NAME.search(name.upper()))


class _Scrubbed:
    """A text stream that passes on everything but secrets."""

    def __init__(self, stream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(scrub(text))
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _scrub(value, known: list[str]):
    if isinstance(value, str):
        return _scrub_text(value, known)
    if isinstance(value, dict):
        return {key: _scrub(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_scrub(item, known) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _scrub_text(text: str, known: list[str]) -> str:
    for secret in known:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    text = _USER_INFO.sub(r"\1", text)
    return _FORMS.sub(HIDDEN, _PARAMETER.sub(_hide_parameter, text))


def _hide_parameter(found: re.Match) -> str:
    sign, name, value = found.groups()
    hide = is_secret_name(name) or name.lower() == "pwd"
    return f"{sign}{name}={HIDDEN if hide else value}"


def _known() -> list[str]:
    """Secrets that this process can name, the longest first: one may be a part of another."""
    found = set()
    for name, value in os.environ.items():
        if is_secret_name(name):
            found.add(value)
        for address in _USER_INFO.finditer(value):
            user, _, password = address[2].partition(":")
            lone = {user} if len(user) >= 2 * SHORTEST else set()  # a token, or only a name
            found |= {password, urllib.parse.unquote(password)} if password else lone
    found |= {urllib.parse.quote(secret, safe="") for secret in found}
    return sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)
