"""Say in words what a file holds, judging by its first bytes, for messages about files that are not what they should be."""

import re
import tarfile
from pathlib import Path

HTML = "an HTML page"
SAFETENSORS = "a safetensors file"
ZIP = "a zip archive"
PICKLE = "a Python pickle"
TAR = "a tar archive"

_STARTS = {
    b"PK\x03\x04": ZIP,
    b"\x80": PICKLE,
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a Git LFS pointer instead of the file, which `git lfs pull` fetches",
}
_HTML = re.compile(r"<(!doctype html|html|head|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def describe(path: Path) -> str:
    """What kind of file this is, in words: one of the names above if its kind is known, else how it starts."""
    if path.is_dir():
        return "a folder"
    with path.open("rb") as file:
        start = file.read(16384)
    size = path.stat().st_size
    if not start:
        return "an empty file"
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= header <= size - 8:
        return SAFETENSORS
    if is_tar(start[:512]):
        return TAR
    # "replace" because the last character may be cut in two.
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = start.decode(encoding, "replace").lstrip()
    if text.startswith("<") and _HTML.search(text):
        title = _TITLE.search(text)
        words = " ".join(title[1].split()) if title else ""
        return f"{HTML} ({words[:80]!r})" if words else HTML
    odd = sum(not (character.isprintable() or character.isspace()) or character == "\ufffd" for character in text)
    if odd > len(text) // 20 + 1 or "\0" in text:
        return f"a file of {size:,} bytes that starts with {start[:16]!r}"
    kind = "XML" if text.startswith("<?xml") else "JSON" if text.startswith(("{", "[")) else "text"
    return f"{kind} that starts with {' '.join(text.split())[:80]!r}"


def is_html(kind: str) -> bool:
    """Whether `describe` found an HTML page."""
    return kind.startswith(HTML)


def is_tar(block: bytes) -> bool:
    """Whether the first 512 bytes of a file are a tar header, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):  # ValueError: a field is not a number
        return False
    return True
