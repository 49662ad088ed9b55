"""Recognition of model files by their content, for formats that people have and that are not read here."""

import zipfile
from pathlib import Path

from chessrnn.model.errors import InvalidFileError

# Beginning of a file, its format, and one way on.
HDF5, KERAS, TFLITE = "a Keras or HDF5 file", "a Keras model", "a TensorFlow Lite model"
EXPORTED, NPZ = "an archive of torch.export", "an .npz file of arrays"
SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", HDF5, "call it .h5"),
    (b"GGUF", "a GGUF file", "use the PyTorch model that it was made from"),
    (b"lmgg", "a GGML file", "use the PyTorch model that it was made from"),
    (b"fmgg", "a GGML file", "use the PyTorch model that it was made from"),
    (b"tjgg", "a GGML file", "use the PyTorch model that it was made from"),
    (b"\x93NUMPY", "a NumPy array", "save its weights by their PyTorch names as .npz"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"<?xml", "an XML file, such as a model of OpenVINO", "use the ONNX model that it was made from"),
)
# The first object in a file of torch.save before 1.6 is this integer.
OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
WAY_OF_OBJECTS = "save its weights by their PyTorch names with safetensors.numpy.save_file"
PICKLE, MADMOM = ("a pickle of Python objects", WAY_OF_OBJECTS), ("a pickled network of madmom", WAY_OF_OBJECTS)
# Pickles of the oldest protocol are plain text, and have nothing at their beginning that others do not.
PICKLE_SUFFIXES = (".pkl", ".pickle")
# Bytes at the beginning of a file that are looked at.
START = 4096
# Names in an archive, its format, and one way on.
ARCHIVES = (
    ("model.weights.h5", KERAS, "call it .keras"),
    ("saved_model.pb", "a model of TensorFlow", "convert it with tf2onnx"),
    ("archive_format", EXPORTED, "call it .pt2"),
    ("serialized_exported_program.json", "an old archive of torch.export", "save model.state_dict() of the module"),
)
NUMPY = (NPZ, "call it .npz, with arrays by their PyTorch names")


def _archive_kind(path: Path) -> tuple[str, str] | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for ending, kind, way in ARCHIVES:
        if any(name.rpartition("/")[2] == ending for name in names):
            return kind, way
    return NUMPY if names and all(name.endswith(".npy") for name in names) else None


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive that ``torch.jit.save`` wrote."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    return {"data.pkl", "constants.pkl"} <= names


def check_kind(path: Path, readable: str, expected: str = "") -> None:
    """Reject a file of a known format that is not read here.

    Parameters
    ----------
    path : Path
        An existing file.
    readable : str
        Formats that are read, for the message.
    expected : str
        Format among those recognised here that the caller does read.

    Raises
    ------
    InvalidFileError
        Its message names the format and one way on.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START)
        if start[4:9] == b"\0\0\0\0{":
            # The length of a safetensors header may look like any of the signatures.
            return
        found = next(((kind, way) for magic, kind, way in SIGNATURES if start.startswith(magic)), None)
        if start[4:8] == b"TFL3":
            found = TFLITE, "call it .tflite"
        elif start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and OLD_TORCH not in start[:64]:
            found = MADMOM if b"madmom" in start else PICKLE
        elif zipfile.is_zipfile(path):
            found = _archive_kind(path)
        elif found is None and path.suffix.lower() in PICKLE_SUFFIXES and OLD_TORCH not in start[:64]:
            found = MADMOM if b"madmom" in start else PICKLE
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} must be {readable}: {error}") from None
    if found is not None and found[0] != expected:
        raise InvalidFileError(f"{path} must be {readable}, not {found[0]}: {found[1]}")
