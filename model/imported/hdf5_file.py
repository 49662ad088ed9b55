"""Careful reading of HDF5 files: plain datasets of bounded size, and nothing outside the file."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py
import numpy as np

from chessrnn.model.errors import InvalidFileError, UserError, shown
from chessrnn.model.imported.recurrent_network import MAX_ELEMENTS
from chessrnn.model.imported.tensor_file import largest_expansion

# Filters that are part of HDF5 itself or of h5py: deflate, shuffle, checksum, LZF.  Others are plug-ins.
FILTERS = {1, 2, 3, 32000}
MAX_ATTRIBUTE = 1 << 24
ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError, OverflowError)


class Hdf5File:
    """An open HDF5 file.

    Parameters
    ----------
    path : Path
        Path of the file, or of the archive that contains it, for messages.
    file : h5py.File
    """

    def __init__(self, path: Path, file: h5py.File):
        self.path, self.file = path, file

    def _error(self, name: str, rule: str) -> InvalidFileError:
        return InvalidFileError(f"{shown(name)} must be {rule} in {self.path}")

    def item(self, name: str):
        """Return a group or dataset that hard links alone lead to, ``None`` where there is none."""
        place = self.file
        for part in (part for part in name.split("/") if part):
            if not isinstance(place, h5py.Group):
                return None
            link = place.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise self._error(name, "part of the file itself, not a link elsewhere,")
            place = place[part]
        return place

    def text(self, name: str) -> str | None:
        """Read an attribute of the whole file as text, ``None`` where there is none."""
        if name not in self.file.attrs:
            return None
        value = self.file.attrs[name]
        value = value.decode("utf-8") if isinstance(value, bytes) else value
        if not isinstance(value, str) or len(value) > MAX_ATTRIBUTE:
            raise self._error(name, f"text of at most {MAX_ATTRIBUTE} characters")
        return value

    def names(self, group: str, attribute: str) -> list[str] | None:
        """Read a list of names from an attribute of a group, ``None`` where there is none."""
        place = self.item(group)
        if not isinstance(place, h5py.Group) or attribute not in place.attrs:
            return None
        values = np.asarray(place.attrs[attribute]).ravel()
        if values.dtype.kind == "f" and not values.size:
            return []
        return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]

    def read(self, name: str) -> np.ndarray:
        """Read a dataset of floating-point numbers as float64.

        Raises
        ------
        InvalidFileError
            It is missing, stored elsewhere, too large, or made of something else.
        """
        found = self.item(name)
        if not isinstance(found, h5py.Dataset):
            raise self._error(name, "given, not left out")
        if found.external or found.is_virtual:
            raise self._error(name, "stored in the file itself")
        if found.dtype.kind != "f" or found.shape is None:
            raise self._error(name, f"made of floating-point numbers, not {found.dtype},")
        if max(prod(found.shape), prod(found.chunks or ())) > MAX_ELEMENTS:
            raise self._error(name, f"of at most {MAX_ELEMENTS} elements, not {found.shape},")
        filters = found.id.get_create_plist()
        if any(filters.get_filter(number)[0] not in FILTERS for number in range(filters.get_nfilters())):
            raise self._error(name, "stored plain or compressed with gzip or lzf")
        size, stored = found.dtype.itemsize * prod(found.shape), found.id.get_storage_size()
        if size > largest_expansion(stored):
            # A few stored bytes could fill the memory, and a dataset of which nothing is stored reads as zeros.
            raise self._error(name, f"stored in more than {stored} bytes for {size} bytes of numbers")
        values = np.asarray(found[()], dtype=np.float64)
        if not np.isfinite(values).all():
            raise self._error(name, f"made of finite numbers, not {values[~np.isfinite(values)][0]},")
        return values


@contextmanager
def open_hdf5(path: Path, content: bytes | None = None) -> Iterator[Hdf5File]:
    """Open a file, or the content of one that an archive contained.

    Raises
    ------
    InvalidFileError
        It is damaged, also where that shows only while it is read.
    """
    try:
        with h5py.File(path if content is None else io.BytesIO(content), "r") as file:
            yield Hdf5File(path, file)
    except UserError:
        raise
    except ERRORS as error:
        raise InvalidFileError(f"{path} must be a whole HDF5 file: {shown(str(error))}") from None
