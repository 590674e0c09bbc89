"""Read .npz files, or say in one reason why they cannot be read. Declared sizes are checked before memory is allocated."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# Deflate cannot compress by a larger factor than this.
_MOST_COMPRESSED = 1040
# What zipfile and NumPy raise for damaged files; NumPy parses array headers as Python source.
_DAMAGED = (
    *(TypeError, KeyError, AttributeError, EOFError, MemoryError, OverflowError, RecursionError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)


def read(path: Path | str, names: Iterable[str] | None = None, if_there: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an .npz file: those in `names`, or all; of those in `if_there`, the ones that it has.

    ValueError with the reason if the file is damaged, lacks one of `names` or holds Python objects; OSError if it cannot be opened.
    """
    try:
        return _arrays(Path(path), names, if_there)
    except _DAMAGED as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _arrays(path: Path, names: Iterable[str] | None, if_there: Iterable[str]) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as file:
        members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        names = members if names is None else tuple(names)
        absent = [name for name in names if name not in members]
        if absent:
            raise ValueError(f"it lacks {', '.join(absent)}")
        for name in (*names, *(name for name in if_there if name in members)):
            info = members[name]
            with file.open(info) as member:
                version = np.lib.format.read_magic(member)
                read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read_header(member)
                if dtype.hasobject:
                    raise ValueError(f"{name} is an array of Python objects: give it a type, as in np.array({name}.tolist())")
                packed = min(info.compress_size, path.stat().st_size)
                declared = math.prod(shape) * dtype.itemsize if min(shape, default=0) >= 0 else -1
                if declared != info.file_size - member.tell() or info.file_size > _MOST_COMPRESSED * packed + 1000:
                    raise ValueError(f"{name} is declared as {dtype} {shape}, which its {info.file_size:,} bytes are not")
            with file.open(info) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays
