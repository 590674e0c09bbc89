"""Read a user's own pictures as a network expects them: the central square, in RGB, at the size of the training images."""

import io
import os
import stat
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from alexbench.files import InputError

# Modes that `convert("RGB")` converts without clipping or dropping anything.
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
# Limit for pipes, whose size cannot be checked beforehand.
_MOST_PIPED_BYTES = 1 << 28
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_WHITE_IS_ZERO = 0


class Unreadable(InputError):
    """A picture that cannot be read, or whose colours are ambiguous; `reason` says why, without the picture's name."""

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(f"{shown(path)}: {reason}")
        self.reason = reason


def read(path: str | os.PathLike, side: int, ground: str | tuple[int, int, int] = "white") -> np.ndarray:
    """The central square of a picture, upright, uint8 (side, side, 3). Of an animation or a file with several pages, the first picture.

    Transparent pixels show `ground`, a colour as Pillow takes it. Values of 16 bits keep their upper 8. Unreadable if the file is not a
    picture, or if its mode does not say which number is black and which is white.
    """
    source: str | os.PathLike | io.BytesIO = path
    try:
        # Pillow warns of large pictures, damaged EXIF and the like without naming the file, and reads them all the same.
        with warnings.catch_warnings(action="ignore"):
            source = _source(path)
            _register_heic()
            with Image.open(source) as image:
                return np.array(ImageOps.fit(_flattened(path, image, ground), (side, side), Image.Resampling.BILINEAR))
    except Unreadable:
        raise
    except Exception as error:  # Pillow's plugins raise almost anything for a damaged file: struct.error, ZeroDivisionError ...
        raise Unreadable(path, f"cannot be read as a picture ({_reason(source, error)})") from None


def found(names: Iterable[str]) -> Iterator[str]:
    """The given files, with each folder replaced by the pictures in it, sorted. A folder without any is kept, for `read` to refuse."""
    for name in names:
        inside = []
        with suppress(OSError):
            inside = sorted(entry.path for entry in os.scandir(name) if _is_picture(entry))
        yield from inside or [name]


def shown(text: str | os.PathLike) -> str:
    """A name as one printable line. Characters that end a line, move the cursor or are not text are escaped as in Python."""
    safe = "".join(_escaped(letter) if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter for letter in os.fsdecode(text))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(letter: str) -> str:
    code = ord(letter)
    # Python's stand-in for a byte that is not UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else letter.encode("unicode_escape").decode("ascii")


def _is_picture(entry: os.DirEntry) -> bool:
    return Path(entry.name).suffix.lower() in _endings() and not entry.name.startswith(".") and not Path(entry.path).is_dir()


@cache
def _endings() -> frozenset[str]:
    """The file name extensions by which pictures in a folder are recognised."""
    endings = Image.registered_extensions()
    # Data formats and films: Pillow can identify but not read them.
    readers = {name: factory for name, (factory, _) in Image.OPEN.items()}
    others = {name for name, reader in readers.items() if isinstance(reader, type) and issubclass(reader, ImageFile.StubImageFile)} | {
        "MPEG"
    }
    return frozenset(ending for ending, name in endings.items() if name in readers.keys() - others) | {".heic", ".heif"}


@cache
def _register_heic() -> None:
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _source(path: str | os.PathLike) -> str | os.PathLike | io.BytesIO:
    """What Pillow can open: a file, or the content of a pipe, such as the shell's `<(...)`."""
    # Not through Path, which takes an empty name for the current folder.
    mode = os.stat(path).st_mode  # noqa: PTH116
    if stat.S_ISREG(mode):
        return path
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # raises if the folder may not be read
        raise Unreadable(path, "a folder without pictures; folders inside it are not searched, so name the one that holds the pictures")
    if not stat.S_ISFIFO(mode):
        raise Unreadable(path, "a device, not a file")
    # A blocking open would wait for ever for a pipe that nobody writes into.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(handle, True)
    with os.fdopen(handle, "rb") as pipe:
        content = pipe.read(_MOST_PIPED_BYTES + 1)
    if len(content) > _MOST_PIPED_BYTES:
        raise Unreadable(path, f"more than {_MOST_PIPED_BYTES >> 20} MB through a pipe; give it as a file")
    return io.BytesIO(content)


def _reason(source: str | os.PathLike | io.BytesIO, error: Exception) -> str:
    """Why Pillow could not read a picture, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        if isinstance(source, io.BytesIO):
            head = source.getvalue()[:12]
        else:
            with open(source, "rb") as file:  # noqa: PTH123  a name need not be a Path
                head = file.read(12)
        if not head:
            return "it is empty"
        if head[4:8] == b"ftyp" and head[8:] in _HEIC:
            return "it is HEIC, which Pillow does not read; convert it to JPEG or PNG, or `pip install pillow-heif`"
        return "Pillow does not know its format, or it is damaged; save it as PNG or JPEG"
    return (shown(str(error)) if error.args else "") or type(error).__name__


def _flattened(path: str | os.PathLike, image: Image.Image, ground: str | tuple[int, int, int]) -> Image.Image:
    """A picture upright and in RGB, by its mode: `convert("RGB")` alone clips values above 255 and shows what transparency hides."""
    if 0 in image.size:
        raise Unreadable(path, f"no pixels in it ({image.width}x{image.height})")
    kind, tags = image.format, getattr(image, "tag_v2", {})
    colours_of_16_bits = any(";16" in str(tile[3]) for tile in image.tile)
    upright = ImageOps.exif_transpose(image)
    mode, transparent = upright.mode, upright.info.get("transparency")
    # Pillow scales a PGM or PPM of more than 8 bits to 16 bits and stores it in 32.
    if mode.startswith("I;16") or (mode == "I" and kind == "PPM"):
        numbers = np.asarray(upright)
        bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
        grey = (numbers >> (bits - 8)).astype(np.uint8)
        if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
            grey = 255 - grey
        upright = Image.fromarray(grey)
        if isinstance(transparent, int):
            upright.putalpha(Image.fromarray(np.where(numbers == transparent, 0, 255).astype(np.uint8)))
    elif mode in ("I", "F"):
        what = "floating-point numbers" if mode == "F" else "integers of 32 bits or with a sign"
        raise Unreadable(
            path, f"its pixels are {what}, so it is not clear which value is black or white; save it with 8 or 16 bits per channel"
        )
    elif colours_of_16_bits and isinstance(transparent, tuple):
        upright.info["transparency"] = tuple(value >> 8 for value in transparent)
    if upright.has_transparency_data:
        # RGBA leaves the colours as they are and adds alpha, whether a palette's transparency is bytes or a number.
        pixels = upright.convert("RGBA")
        flat = Image.new("RGB", upright.size, ground)
        flat.paste(pixels, mask=pixels.getchannel("A"))
        return flat
    if upright.mode not in _PLAIN:
        raise Unreadable(path, f"its colour mode, {upright.mode}, is not supported; save it as PNG or JPEG")
    return upright.convert("RGB")
