"""Reader of tensors in a file of ``torch.save``; it executes no code of the file."""

import re
import warnings
import zipfile
from pathlib import Path

import torch

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.imported.tensor_file import MAX_FILE_BYTES, TensorFile

# Where checkpoints of common training programs keep the state_dict.
NESTED = ("state_dict", "model_state_dict", "model")


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
        return f"it needs the code of {found[1]}; save model.state_dict() alone"
    if "TorchScript" in text:
        return "it is a TorchScript archive; save model.state_dict() alone"
    found = re.search(r"Unsupported (operand|class)[^\n]*", text)
    if found is not None:
        return f"{found[0].strip()} in its pickle"
    return text.partition("\n")[0].partition(". ")[0] or type(error).__name__


def open_torch(path: Path) -> TensorFile:
    """Open a state_dict, or a checkpoint that holds one under a usual name.

    Raises
    ------
    InvalidFileError
        The file is damaged, or holds objects that could only be created by executing code, which never happens here.
    """
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
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise InvalidFileError(f"{path} must be a readable state_dict, not {type(content).__name__!r}")
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}

    def load(name: str):
        value = tensors[name].detach()
        if value.layout != torch.strided or value.device.type != "cpu":
            raise InvalidFileError(f"{name} must be a dense tensor, not {value.layout} on {value.device} as in {path}")
        return value.to(torch.float64).numpy()

    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    dtypes = {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()}
    return TensorFile(path, shapes, dtypes, load)
