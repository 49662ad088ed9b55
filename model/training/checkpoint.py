"""Checkpoint files of training: written whole, read without executing code, and checked against their own digest."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from chessrnn.model.errors import InvalidFileError, shortened, shown
from chessrnn.model.files import require_file, write_atomic

DIGEST = "sha256"


def content_digest(content: object) -> str:
    """SHA-256 of nested dictionaries, lists, tuples, tensors and plain values, as 64 hexadecimal digits."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, torch.Tensor):
            values = value.detach().cpu().contiguous()
            digest.update(f"tensor {values.dtype} {tuple(values.shape)}\n".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)}\n".encode())
            for key, item in value.items():
                add(key)
                add(item)
        elif isinstance(value, (list, tuple)):
            digest.update(f"{'tuple' if isinstance(value, tuple) else 'list'} {len(value)}\n".encode())
            for item in value:
                add(item)
        else:
            digest.update(f"{type(value).__name__} {value!r}\n".encode())

    add(content)
    return digest.hexdigest()


def save_checkpoint(path: str | Path, content: dict[str, object]) -> None:
    """Write a checkpoint with its digest; a reader sees either the whole old file or the whole new one.

    Raises
    ------
    InvalidFileError
        The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content | {DIGEST: content_digest(content)}, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: str | Path, kinds: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Read a checkpoint.

    Parameters
    ----------
    path : str or Path
    kinds : dict of str to type
        Keys that the checkpoint must have, with the types of their values.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, lacks a key, or a value has another type.
    """
    require_file(path, "a checkpoint")
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # torch reports a damaged file by a dozen kinds of exception
        reason = shortened(str(error).partition("\n")[0] or type(error).__name__)
        raise InvalidFileError(f"{path} must be a whole checkpoint: {reason}") from None
    if not isinstance(content, dict):
        raise InvalidFileError(f"{path} must be a whole checkpoint, not {shown(type(content).__name__)}")
    for key, kind in kinds.items():
        if key not in content:
            raise InvalidFileError(f"{path} must be a whole checkpoint: {key} is missing")
        if not isinstance(content[key], kind):
            found = type(content[key]).__name__
            raise InvalidFileError(f"{path} must be a whole checkpoint: {key} must not be of type {found}")
    digest = content_digest({key: value for key, value in content.items() if key != DIGEST})
    if content.get(DIGEST) != digest:
        wrong = f"{DIGEST} must be {digest}, not {shown(content.get(DIGEST))}"
        raise InvalidFileError(f"{path} must be a whole checkpoint: {wrong}")
    return content
