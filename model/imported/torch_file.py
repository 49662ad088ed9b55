"""Reader of tensors in a file of ``torch.save``; it executes no code of the file."""

import re
import warnings
import zipfile
from pathlib import Path

import torch

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.imported.file_kind import is_torchscript
from chessrnn.model.imported.state_dict import recurrent_groups
from chessrnn.model.imported.tensor_file import MAX_FILE_BYTES, TensorFile
from chessrnn.model.imported.torchscript_file import open_torchscript

# Dictionaries in dictionaries that are searched for tensors.
MAX_DEPTH = 16


def _check_archive(path: Path) -> bool:
    """Whether the file is an archive (torch 1.6 or newer), which can be mapped instead of read."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            # torch.save never compresses, and a few compressed bytes could expand to gigabytes.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > MAX_FILE_BYTES:
                raise InvalidFileError(f"{path} must hold stored entries, not the compressed {shown(entry.filename)}")
    return True


def _reason(error: Exception) -> str:
    """Extract what a user needs to know from torch's error, without its advice to allow code to run."""
    text = str(error)
    found = re.search(r"GLOBAL (\S+)", text)
    if found is not None:
        if "ScriptObject" in found[1] or "quantized" in found[1]:
            return "its weights are quantized dynamically; save state_dict() of the float model before quantize_dynamic"
        return f"it needs the code of {found[1]}; save model.state_dict() alone"
    found = re.search(r"Unsupported (operand|class)[^\n]*", text)
    if found is not None:
        return f"{found[0].strip()} in its pickle"
    text = text.partition("\n")[0].partition(". ")[0]
    # An unpickler names a byte that it does not know by its number alone.
    return "it is none that torch.save wrote" if not text or text.strip("'").isdigit() else text


def _dictionaries(content: dict) -> dict[str, dict[str, torch.Tensor]]:
    """Find the dictionaries of tensors in nested dictionaries, each once, by the keys around them."""
    found, todo, seen = {}, [("", content, 0)], set()
    while todo:
        path, part, depth = todo.pop(0)
        if id(part) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(part))
        named = {key: value for key, value in part.items() if isinstance(key, str)}
        tensors = {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}
        if tensors:
            found[path] = tensors
        todo += [(f"{path}{key}.", value, depth + 1) for key, value in named.items() if isinstance(value, dict)]
    return found


def _named(found: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Name all tensors: as in the only dictionary with recurrent weights, others with the keys around them in front."""
    recurrent = [path for path, tensors in found.items() if recurrent_groups(tensors)]
    alone = recurrent[0] if len(recurrent) == 1 else None
    named = {}
    for path, tensors in sorted(found.items(), key=lambda item: item[0] != alone):
        for key, value in tensors.items():
            named.setdefault(key if path == alone else f"{path}{key}", value)
    return named


def open_torch(path: Path) -> TensorFile:
    """Open a state_dict, a checkpoint with one or more of them in nested dictionaries, or a TorchScript archive.

    Where one dictionary alone holds recurrent weights, they have the names that they have there; else all names begin
    with the keys of the dictionaries around them.

    Raises
    ------
    InvalidFileError
        The file is damaged, or holds objects that could only be created by executing code, which never happens here.
    """
    if is_torchscript(path):
        return open_torchscript(path)
    try:
        mapped = _check_archive(path)
        with warnings.catch_warnings():
            # torch warns about the pickle's protocol and TorchScript; where that matters an error follows.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except InvalidFileError:
        raise
    except Exception as error:  # torch reports a damaged file by a dozen kinds of exception.
        raise InvalidFileError(f"{path} must be a readable state_dict: {_reason(error)}") from None
    if not isinstance(content, dict):
        raise InvalidFileError(f"{path} must be a readable state_dict, not {type(content).__name__!r}")
    tensors = _named(_dictionaries(content))

    def load(name: str):
        value = tensors[name].detach()
        if value.layout != torch.strided or value.device.type != "cpu":
            raise InvalidFileError(f"{name} must be a dense tensor, not {value.layout} on {value.device} as in {path}")
        return value.to(torch.float64).numpy()

    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    dtypes = {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()}
    return TensorFile(path, shapes, dtypes, load)
