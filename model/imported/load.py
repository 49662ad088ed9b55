"""Loading of a network from its file, whose name determines the reader."""

from importlib import import_module
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, MissingToolError, require, shown
from chessrnn.model.files import require_file
from chessrnn.model.imported.file_kind import EXPORTED, HDF5, KERAS, NPZ, TFLITE, check_kind
from chessrnn.model.imported.input_arrays import load_arrays
from chessrnn.model.imported.recurrent_network import RecurrentNetwork
from chessrnn.model.imported.state_dict import network_from_tensors, recurrent_groups
from chessrnn.model.imported.tensor_file import TensorFile, check_size

# torch.save makes the same file whatever its name; .pth.tar and .pkl are names that training scripts give.
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl")
# File name ending → module of this package and the function in it that opens a file of tensors.  A new format is a row
# here and a module; it is imported when a file of its kind is opened, so that only then its package must be installed.
READERS = {
    **dict.fromkeys(TORCH_SUFFIXES, ("chessrnn.model.imported.torch_file", "open_torch")),
    ".safetensors": ("chessrnn.model.imported.safetensors_file", "open_safetensors"),
    **dict.fromkeys((".jit", ".ts"), ("chessrnn.model.imported.torchscript_file", "open_torchscript")),
    ".pt2": ("chessrnn.model.imported.exported_file", "open_exported"),
    ".npz": ("chessrnn.model.imported.input_arrays", "open_npz"),
}
# File name endings of Keras, with the format that files of that name have.
KERAS_SUFFIXES = {".keras": KERAS, ".h5": HDF5, ".hdf5": HDF5}
# Formats that are recognised by their content, and are read from files of these names alone.
KINDS = {**KERAS_SUFFIXES, ".pt2": EXPORTED, ".npz": NPZ, ".tflite": TFLITE}
READABLE = "a state_dict (.pt or .safetensors), an ONNX, Keras or TFLite model"


def open_tensors(path: str | Path) -> TensorFile:
    """Open a file of tensors: a state_dict of ``torch.save``, ``.safetensors`` or ``.npz``, or an archive of a module.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, or holds objects that could only be created by executing code.
    MissingToolError
        The file was written by ``torch.save``, and torch is not installed.
    """
    path = Path(path)
    check_size(path, READABLE)
    check_kind(path, READABLE, KINDS.get(path.suffix.lower(), ""))
    module, function = READERS.get(path.suffix.lower(), READERS[".pt"])
    try:
        reader = import_module(module)
    except ImportError:
        raise MissingToolError(
            f"torch must be installed to read {path.name}: pip install torch==2.13.0, or save it as .safetensors"
        ) from None
    return getattr(reader, function)(path)


def load_network(
    path: str | Path,
    prefix: str | None = None,
    activation: str | None = None,
    inputs: str | Path | None = None,
    output_layer: str | None = None,
) -> RecurrentNetwork:
    """Load the recurrent network of a state_dict, an ONNX, Keras or TensorFlow Lite model.

    Parameters
    ----------
    path : path
        ``.onnx``, ``.safetensors``, a file of ``torch.save`` (``.pt``, ``.pth``, ``.bin``, ``.ckpt``, ``.tar``,
        ``.pkl``), a TorchScript archive (also ``.jit``, ``.ts``), one of ``torch.export`` (``.pt2``), arrays by their
        PyTorch names (``.npz``), a Keras model (``.keras``, ``.h5``), or one of TensorFlow Lite (``.tflite``).
    prefix : str, optional
        Chooses one network of several: by the module's name in a state_dict, by the beginning of the nodes' names in
        ONNX, by the name of a layer in Keras, by the name of a layer's output in TensorFlow Lite.
    activation : str, optional
        ``"relu"`` or ``"tanh"`` for a ``torch.nn.RNN``, whose state_dict does not store it.
    inputs : path, optional
        An .npz file with values of graph inputs of an ONNX model, such as weights that the model takes as inputs.
    output_layer : str, optional
        Name of the linear layer behind the last recurrent one, or ``"none"``; left out, the only one that fits.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, or holds no network that can be read.
    MissingToolError
        The package that reads the file is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require_file(path, READABLE)
    if suffix in KERAS_SUFFIXES:
        check_kind(path, READABLE, KINDS[suffix])
        require(inputs is None, "--inputs", "left out for files other than ONNX models", str(inputs))
        require(activation is None, "--activation", "left out for a Keras model, which stores it", activation)
        try:
            from chessrnn.model.imported.keras_file import network_from_keras
        except ImportError:
            raise MissingToolError("h5py must be installed to read a Keras model: pip install h5py") from None
        return network_from_keras(path, prefix, output_layer)
    check_kind(path, READABLE, KINDS.get(suffix, ""))
    if suffix == ".tflite":
        require(inputs is None, "--inputs", "left out for files other than ONNX models", str(inputs))
        require(activation is None, "--activation", "left out for a TFLite model, which stores it", activation)
        return _tflite_reader().network_from_tflite(path, prefix, output_layer)
    if suffix != ".onnx":
        if suffix not in READERS:
            endings = ", ".join((".onnx", *READERS, *KERAS_SUFFIXES, ".tflite"))
            raise InvalidFileError(f"{path} must be a file {endings}, not {shown(suffix)}")
        require(inputs is None, "--inputs", "left out for files other than ONNX models", str(inputs))
        return network_from_tensors(open_tensors(path), prefix, activation, output_layer)
    require(activation is None, "--activation", "left out for an ONNX model, which stores it", activation)
    try:
        from chessrnn.model.imported.onnx_graph import network_from_onnx
    except ImportError:
        raise MissingToolError("onnx must be installed to read an ONNX model: pip install onnx==1.23.2") from None
    return network_from_onnx(path, prefix, None if inputs is None else load_arrays(inputs), output_layer)


def _tflite_reader():
    """Import the reader of TensorFlow Lite models."""
    try:
        return import_module("chessrnn.model.imported.tflite_file")
    except ImportError:
        raise MissingToolError("tflite must be installed to read a TFLite model: pip install tflite") from None


def network_names(path: str | Path, inputs: str | Path | None = None) -> list[str]:
    """List the values of ``prefix`` that choose each recurrent network of a file.

    Raises
    ------
    InvalidFileError
        The file is missing or damaged, or holds none.
    MissingToolError
        The package that reads the file is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require_file(path, READABLE)
    # Where a reader is missing, or there is nothing to read, the message is that of reading one network.
    if suffix == ".tflite":
        check_kind(path, READABLE, TFLITE)
        names = _tflite_reader().tflite_networks(path)
    elif suffix in KERAS_SUFFIXES or suffix == ".onnx" or suffix not in READERS:
        names = []
        try:
            if suffix == ".onnx":
                from chessrnn.model.imported.onnx_graph import onnx_networks

                names = onnx_networks(path, None if inputs is None else load_arrays(inputs))
            elif suffix in KERAS_SUFFIXES:
                from chessrnn.model.imported.keras_file import keras_networks

                names = keras_networks(path)
        except ImportError:
            pass
    else:
        names = sorted(name.removesuffix(".") for name in recurrent_groups(open_tensors(path).shapes))
    if not names:
        load_network(path, inputs=inputs)
    return names
