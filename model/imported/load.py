"""A network from its file, by the file's name."""

from pathlib import Path

from model.errors import InvalidFileError, MissingToolError, require
from model.imported.network import RecurrentNetwork
from model.imported.state_dict import network_from_tensors
from model.imported.tensor_file import SUFFIXES, open_tensors


def load_network(path: str | Path, prefix: str | None = None, activation: str | None = None) -> RecurrentNetwork:
    """Read a state_dict or an ONNX model.

    Parameters
    ----------
    path : path
        ``.onnx``, ``.safetensors``, or a file of ``torch.save`` (``.pt``, ``.pth``, ``.bin``, ``.ckpt``).
    prefix : str, optional
        Which network of several: the module's name in a state_dict, the beginning of the nodes' names in ONNX.
    activation : str, optional
        ``"relu"`` or ``"tanh"`` of a ``torch.nn.RNN``, whose state_dict does not tell.

    Raises
    ------
    InvalidFileError
    MissingToolError
        The package that reads the file is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".onnx":
        if suffix not in SUFFIXES:
            raise InvalidFileError(f"{path} must be a file {', '.join(('.onnx', *SUFFIXES))}, not {suffix!r}")
        return network_from_tensors(open_tensors(path), prefix, activation)
    require(activation is None, "--activation", "left out for an ONNX model, which tells it", activation)
    try:
        from model.imported.onnx_graph import network_from_onnx
    except ImportError:
        raise MissingToolError("onnx must be installed to read an ONNX model: pip install onnx==1.23.2") from None
    return network_from_onnx(path, prefix)
