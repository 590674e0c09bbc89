"""A person's own pictures: read according to their mode, one after another, whatever else is among them; and model files that lie."""

import csv
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from safetensors.numpy import load_file, save_file

import predict
from alexbench.experiment import pictures, variants, weights
from alexbench.files import InputError
from alexbench.training import trained_network
from conftest import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

GREY = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 256
COLOURS = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
AS_COLOURS = np.stack([GREY] * 3, axis=-1)
BLUE = np.array([0, 0, 255])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An untrained network, in a file as train.py writes it."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    variant = variants.get("alexnet_mod")
    third = np.full(3, 1 / 3, np.float32)
    about = {"framework": "pytorch", "classes": list("0123456789"), "side": 32}
    trained_network.save(path, variant, weights.initialise(variant, "torch", 1), third, third, **about)
    return path


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.png"
    Image.fromarray(COLOURS.astype(np.uint8)).save(path)
    return path


@pytest.fixture(autouse=True)
def whole_files_only(monkeypatch):
    # If another test has imported WeasyPrint, Pillow accepts files that are cut short.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


def png(pixels: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG with 16 bits per channel: grey, grey with alpha, colour, or colour with alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.size // (height * width)]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    colour = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + colour + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(pixels: bytes, bits: int, interpretation: int = 1, channels: int = 1, order: str = "<", numbers: int = 1) -> bytes:
    """A TIFF of 64x64 pixels. `numbers`: 1 unsigned, 2 signed."""
    short = {256: 64, 257: 64, 258: bits, 259: 1, 262: interpretation, 277: channels, 278: 64, 339: numbers}
    at = 8 + 2 + 12 * (len(short) + 2) + 4
    tags = [struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()]
    tags += [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in ((273, at), (279, len(pixels)))]
    tags.sort(key=lambda tag: struct.unpack(order + "H", tag[:2]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + b"".join(tags) + bytes(4) + pixels


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def packed_12_bits() -> bytes:
    pairs = (GREY * 16).reshape(64, 32, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    return np.stack([first >> 4, ((first & 15) << 4) | (second >> 8), second & 255], axis=-1).astype(np.uint8).tobytes()


DEEP = GREY * 257
SIXTEEN_BITS = {
    "a.png": (png(DEEP), AS_COLOURS),
    "colours.png": (png(COLOURS * 257), COLOURS),
    "little.tif": (tiff(DEEP.astype("<u2").tobytes(), 16), AS_COLOURS),
    "big.tif": (tiff(DEEP.astype(">u2").tobytes(), 16, order=">"), AS_COLOURS),
    "white_is_zero.tif": (tiff((65535 - DEEP).astype("<u2").tobytes(), 16, interpretation=0), AS_COLOURS),
    "twelve.tif": (tiff(packed_12_bits(), 12), AS_COLOURS),
    "a.pgm": (b"P5 64 64 65535\n" + DEEP.astype(">u2").tobytes(), AS_COLOURS),
    "ten.pgm": (b"P5 64 64 1023\n" + (GREY * 4).astype(">u2").tobytes(), AS_COLOURS),
    "a.jp2": (saved(Image.fromarray(DEEP), "JPEG2000"), AS_COLOURS),
}


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_16_bits_are_scaled_not_clipped(tmp_path, name):
    content, expected = SIXTEEN_BITS[name]
    (tmp_path / name).write_bytes(content)
    assert np.abs(predict.read(tmp_path / name, 64).astype(int) - expected).max() <= 1


PLAIN = Image.fromarray(COLOURS.astype(np.uint8))
ALPHA = Image.fromarray(GREY.astype(np.uint8))


def with_alpha(mode: str) -> Image.Image:
    image = PLAIN.convert(mode)
    image.putalpha(ALPHA)
    return image


def on_blue(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha[..., np.newaxis]
    return (colours * alpha + BLUE * (255 - alpha)) / 255


LUMA = np.asarray(PLAIN.convert("L").convert("RGB")).astype(int)
FOUR = PLAIN.quantize(4)
PALETTE = np.asarray(FOUR.convert("RGB")).astype(int)
INDEX = np.asarray(FOUR)
PARTLY = np.array([0, 128, 255, 64])
TRANSPARENT = {
    "rgba.png": (saved(with_alpha("RGB"), "PNG"), on_blue(COLOURS, GREY)),
    "la.png": (saved(with_alpha("L"), "PNG"), on_blue(LUMA, GREY)),
    "rgba.tif": (saved(with_alpha("RGB"), "TIFF"), on_blue(COLOURS, GREY)),
    "rgba.tga": (saved(with_alpha("RGB"), "TGA"), on_blue(COLOURS, GREY)),
    "rgba16.png": (png(np.dstack([COLOURS, GREY]) * 257), on_blue(COLOURS, GREY)),
    "la16.png": (png(np.dstack([GREY, GREY]) * 257), on_blue(AS_COLOURS, GREY)),
    "one_index.png": (saved(FOUR, "PNG", transparency=1), on_blue(PALETTE, 255 * (INDEX != 1))),
    "each_index.png": (saved(FOUR, "PNG", transparency=bytes(PARTLY.tolist())), on_blue(PALETTE, PARTLY[INDEX])),
    "index.gif": (saved(FOUR, "GIF", transparency=1), on_blue(PALETTE, 255 * (INDEX != 1))),
    "one_grey.png": (saved(PLAIN.convert("L"), "PNG", transparency=100), on_blue(LUMA, 255 * (LUMA[..., 0] != 100))),
    "one_grey16.png": (png(DEEP, (100 * 257,)), on_blue(AS_COLOURS, 255 * (GREY != 100))),
    "one_colour16.png": (png(COLOURS * 257, (100 * 257, 155 * 257, 50 * 257)), on_blue(COLOURS, 255 * (GREY != 100))),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_shows_the_ground(tmp_path, name):
    content, expected = TRANSPARENT[name]
    (tmp_path / name).write_bytes(content)
    assert np.abs(pictures.read(tmp_path / name, 64, "blue") - expected).max() <= 1


def test_the_ground_is_white_unless_said_otherwise(tmp_path, good, model, capsys):
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(tmp_path / "hidden.png")
    assert (pictures.read(tmp_path / "hidden.png", 32) == 255).all()
    for colour, answer in (("white", 255), ("#000000", 0)):
        Image.new("RGB", (40, 20), (answer,) * 3).save(tmp_path / "plain.png")
        files = [str(tmp_path / name) for name in ("hidden.png", "plain.png")]
        assert predict.main([*files, f"--model={model}", f"--ground={colour}", "--top=10"]) == 0
        hidden, plain = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines())
        assert hidden == plain
    for colour in ("nothing", "#12", "#11223344", ""):
        with pytest.raises(SystemExit):
            predict.main([str(good), f"--model={model}", f"--ground={colour}"])
        assert f"{colour!r} is no colour; say its name, such as white, or #rrggbb" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr", "1", "L"])
def test_other_modes_are_converted(tmp_path, mode):
    PLAIN.convert(mode).save(tmp_path / "a.tif")
    expected = np.asarray(PLAIN if mode in ("CMYK", "LAB", "YCbCr") else PLAIN.convert(mode).convert("RGB")).astype(int)
    # LAB does not have all of these colours.
    assert np.abs(pictures.read(tmp_path / "a.tif", 64) - expected).mean() < 4


def test_of_an_animation_the_first_picture_is_read_and_a_photograph_is_turned_upright(tmp_path):
    for name in ("a.gif", "a.png", "a.tif"):
        FOUR.save(tmp_path / name, save_all=True, append_images=[FOUR.rotate(90)])
        assert np.array_equal(pictures.read(tmp_path / name, 64), PALETTE)
    turned = Image.Exif()
    turned[0x0112] = 6
    PLAIN.save(tmp_path / "turned.png", exif=turned)
    assert np.array_equal(pictures.read(tmp_path / "turned.png", 64), np.rot90(COLOURS, -1))
    Image.fromarray(DEEP).save(tmp_path / "deep.png", exif=turned)
    assert np.array_equal(pictures.read(tmp_path / "deep.png", 64), np.rot90(AS_COLOURS, -1))


def odd_exif() -> bytes:
    """An orientation that must be followed, and text as the resolution."""
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 2, 5, 38)
    return b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4) + b"text\0"


HUGE = png(np.zeros((1, 1), np.uint16)).replace(struct.pack(">II", 1, 1), struct.pack(">II", 60_000, 60_000))
# Each file is what its name says; the text is the message about it.
ODD = {
    "exif.jpg": (saved(PLAIN, "JPEG", exif=odd_exif()), "cannot be read as a picture"),
    "cut.avif": (saved(PLAIN, "AVIF")[:-200], "cannot be read as a picture"),
    "cut.jpg": (saved(PLAIN, "JPEG")[:900], "truncated"),
    "cut.png": (saved(PLAIN, "PNG")[:150], "truncated"),
    "cut.webp": (saved(PLAIN, "WEBP")[:300], "cannot be read as a picture"),
    "cut.tif": (saved(PLAIN, "TIFF")[:500], "truncated"),
    "cut.bmp": (saved(PLAIN, "BMP")[:500], "truncated"),
    "cut.jp2": (SIXTEEN_BITS["a.jp2"][0][:500], "broken data stream"),
    "bad.dds": (b"DDS " + struct.pack("<I", 124) + bytes(120), "cannot be read as a picture"),
    "bad.im": (b"Image type: L image\r\nImage size (x*y): 0*x\r\nFile size (no of images): 1\r\n".ljust(512, b"\0"), "cannot be read"),
    "huge.png": (HUGE.replace(HUGE[29:33], struct.pack(">I", zlib.crc32(HUGE[12:29]))), "60000|3600000000 pixels"),
    "nothing.ppm": (b"P6 0 5 255\n", "cannot be read|no pixels"),
    "float.tif": (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floating-point numbers, so it is not clear"),
    "deep.tif": (saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "integers of 32 bits or with a sign, so it is not clear"),
    "signed.tif": (tiff(GREY.astype("<i2").tobytes(), 16, numbers=2), "integers of 32 bits or with a sign, so it is not clear"),
    "five.tif": (tiff(bytes(64 * 64 * 5), 8, interpretation=2, channels=5), "cannot be read as a picture"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIC, .* convert it to JPEG or PNG, or `pip install pillow-heif`"),
    "paper.pdf": (saved(PLAIN, "PDF"), "Pillow does not know its format, or it is damaged; save it as PNG or JPEG"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Pillow does not know its format"),
    "text.jpg": (b"not a picture", "Pillow does not know its format"),
    "empty.jpg": (b"", "it is empty"),
}


def test_an_odd_file_is_named_and_the_others_are_answered(tmp_path, good, model, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, (content, _) in ODD.items():
        (folder / name).write_bytes(content)
    (folder / "nowhere.png").symlink_to("missing")
    (folder / "round.png").symlink_to("round.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "without").mkdir()
    said = {name: reason for name, (_, reason) in ODD.items()}
    said |= {
        "nowhere.png": "No such file",
        "round.png": "symbolic links",
        "pipe.png": "it is empty",
        "without": "a folder without pictures",
    }
    arguments = [text for name in said for text in (str(folder / name), str(good))]
    assert predict.main([*arguments, "", "/dev/zero", "a" * 300, str(good), f"--model={model}"]) == 1
    shown = capsys.readouterr()
    assert [line.partition(": ")[0] for line in shown.out.splitlines()] == [str(good)] * (len(said) + 1)
    lines = shown.err.splitlines()
    assert len(lines) == len(said) + 3
    for line, (name, reason) in zip(lines, said.items(), strict=False):
        assert line.startswith(f"{folder / name}: skipped, ")
        assert re.search(reason, line), line


def test_every_kind_of_exception_is_one_pictures_own(good, model, capsys, monkeypatch):
    kinds = [RuntimeError, struct.error, TypeError, ZeroDivisionError, MemoryError, KeyError, Image.DecompressionBombError, SyntaxError]
    for kind in kinds:

        def raising(*_, kind=kind, **__):
            raise kind

        with monkeypatch.context() as patch:
            patch.setattr(Image, "open", raising)
            assert predict.main([str(good), f"--model={model}"]) == 1
        assert f"({kind.__name__})" in capsys.readouterr().err


def test_pictures_of_any_size_are_answered(tmp_path):
    for size in ((1, 1), (1, 10_000), (10_000, 1)):
        Image.new("RGB", size, "red").save(tmp_path / "a.png")
        assert (pictures.read(tmp_path / "a.png", 32) == (255, 0, 0)).all()


def run(model: Path, *arguments: str | bytes, shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run predict.py as a user does; `shell` is appended to the command line."""
    command = [sys.executable, ROOT / "scripts/predict.py", *arguments, "--model", model]
    if shell:
        command = ["bash", "-o", "pipefail", "-c", f'"$@" {shell}', "bash", *command]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | environment)


def test_one_line_is_one_picture_whatever_its_name(tmp_path, model):
    names = {b"a\nb.png": rb"a\nb.png", b"a\xff.png": rb"a\xff.png", b"\x1b[31m.png": rb"\x1b[31m.png", "café – 1.png".encode(): None}
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(saved(PLAIN, "PNG"))  # noqa: PTH118
    bad = os.path.join(os.fsencode(tmp_path), b"bad\n\xff.png")  # noqa: PTH118
    Path(os.fsdecode(bad)).write_bytes(b"")
    done = run(model, tmp_path, PYTHONUTF8="1")
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert done.stderr == os.fsencode(tmp_path) + rb"/bad\n\xff.png: skipped, cannot be read as a picture (it is empty)" + b"\n"
    shown = [line.partition(b": ")[0].rpartition(b"/")[2] for line in done.stdout.splitlines()]
    assert sorted(shown) == sorted(escaped or name for name, escaped in names.items())
    table = run(model, tmp_path, "--csv", PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0")
    assert b"Traceback" not in table.stderr and b"\r" not in table.stdout and len(table.stdout.splitlines()) == 1 + len(names)


def test_a_pipe_that_closes_ends_it_quietly(good, model):
    done = run(model, *[str(good)] * 50, shell="| head -1")
    assert done.stdout.count(b"\n") == 1 and done.stderr == b"" and done.returncode in (0, 141)


def test_each_picture_is_answered_when_it_is_read(good, model):
    """The second picture comes through a pipe, which is filled only when the first one has been answered."""
    reader, writer = os.pipe()
    command = [sys.executable, ROOT / "scripts/predict.py", good, f"/dev/fd/{reader}", "--model", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[reader]) as process:
        # Instead of waiting for ever if answers come only after the last picture.
        late = threading.Timer(60, process.kill)
        late.start()
        try:
            assert process.stdout.readline().startswith(os.fsencode(good) + b": ")
            os.write(writer, good.read_bytes())
            os.close(writer)
            assert process.stdout.readline().startswith(f"/dev/fd/{reader}: ".encode())
            assert process.wait() == 0 and process.stderr.read() == b""
        finally:
            late.cancel()
            process.kill()
            os.close(reader)


def test_a_folder_is_the_pictures_in_it(tmp_path, model, capsys):
    folder = tmp_path / "photos"
    (folder / "more.png").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", ".hidden.png"):
        PLAIN.save(folder / name)
    for name in ("notes.txt", "film.mpg", "data.h5", "phone.heic"):
        (folder / name).write_bytes(b"something")
    assert predict.main([str(folder), f"--model={model}"]) == 1
    said = capsys.readouterr()
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == [str(folder / "a.jpg"), str(folder / "b.PNG")]
    assert said.err.startswith(f"{folder / 'phone.heic'}: skipped") and said.err.count("\n") == 1


@pytest.mark.parametrize("top", ["0", "-1", "1.5", "many"])
def test_how_many_classes_to_name_is_a_number_above_zero(good, model, capsys, top):
    with pytest.raises(SystemExit) as ended:
        predict.main([str(good), f"--model={model}", f"--top={top}"])
    assert ended.value.code == 2 and "--top" in capsys.readouterr().err


def test_tables_have_unix_line_ends(good, model, capsys):
    assert predict.main([str(good), f"--model={model}", "--csv"]) == 0
    said = capsys.readouterr().out
    assert "\r" not in said and [row["image"] for row in csv.DictReader(said.splitlines())] == [str(good)]


# Makes modules look as if they were not installed.
def without(tmp_path: Path, *modules: str) -> dict[str, str]:
    for module in modules:
        (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{module}'\")\n", encoding="utf-8")
    return {"PYTHONPATH": str(tmp_path)}


def test_without_the_framework_that_trained_it_another_one_answers_or_is_named(tmp_path, good, model):
    without_torch = without(tmp_path, "torch")
    done = run(model, good, **without_torch)
    assert done.returncode == 0 and done.stdout.startswith(os.fsencode(good))
    # TensorFlow must print nothing else.
    assert done.stderr.decode() == f"{model} was trained in pytorch, which is not installed here; using --framework tensorflow\n"
    done = run(model, good, "--framework=pytorch", **without_torch)
    assert done.returncode == 1 and done.stderr.decode() == (
        "framework: pytorch cannot be imported here (No module named 'torch'); "
        "install it (requirements.txt), or use --framework tensorflow\n"
    )


LIES = {
    "classes": [[], ["cat"], [*"012345678", "8"], "0123456789", [*"012345678", 9], [*"012345678", ""], None],
    "side": [0, -1, 1e5, 100_000, 32.5, "32", True, None, [32]],
    "mean": [[0.5, 0.5], [0.5] * 4, 0.5, [0.5, 0.5, "0.5"], [0.5, 0.5, float("nan")], [0.5, 0.5, 2], None],
    "std": [[0, 0, 0], [0.5, 0.5], [0.2, 0.2, float("nan")], [0.2, 0.2, float("inf")], [-0.2] * 3, [1e-300] * 3, {}],
    "framework": ["jax", None, ["pytorch"], 1],
    "variant": ["alexnett", None, {}, ["alexnet"]],
}


@pytest.fixture(scope="module")
def small(model) -> dict[str, np.ndarray]:
    return load_file(model)


def metadata(**changes) -> dict[str, str]:
    told = {
        "framework": "pytorch",
        "variant": "alexnet_mod",
        "classes": list("0123456789"),
        "side": 32,
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }
    return {key: json.dumps(value) for key, value in (told | changes).items()}


def one_line(path: Path, field: str) -> str:
    with pytest.raises(InputError) as refused:
        trained_network.load(path)
    text = str(refused.value)
    assert str(path) in text and field in text and "\n" not in text and len(text) < 500
    return text


def test_a_model_file_that_lies_is_refused_by_file_field_and_value(tmp_path):
    path = tmp_path / "model.safetensors"
    for field, values in LIES.items():
        for value in values:
            # The field is checked before any tensor: this file has none.
            save_file({}, path, metadata(**{field: value}))
            assert repr(value)[:20] in one_line(path, field)
        told = metadata()
        del told[field]
        save_file({}, path, told)
        assert "nothing" in one_line(path, field)
    for text in ("[" * 100_000, "not JSON", "", "1" * 10_000, "{"):
        save_file({}, path, metadata() | {"side": text})
        assert "expected JSON" in one_line(path, "side")
        save_file({}, path, metadata() | {"note": text})
        assert "expected JSON" in one_line(path, "note")


def test_a_model_files_tensors_are_checked_before_they_are_read(tmp_path, small, monkeypatch):
    path = tmp_path / "model.safetensors"
    name = "conv1.weight"
    one = {name: np.zeros((1, 1), np.float32)}
    for tensors, said in (
        ({}, "lacks conv1.weight (96, 3, 5, 5)"),
        (one, r"conv1.weight of (1, 1) float32"),
        ({name: small[name].astype(np.float64)}, "float64"),
        ({name: small[name].astype(np.float16)}, "float16"),
        ({"conv9.weight": small[name]}, "has conv9.weight, which alexnet_mod has not"),
        (small | {"dense1.bias": small["dense1.bias"] * np.nan}, "dense1.bias that are not finite"),
    ):
        save_file(tensors, path, metadata())
        text = one_line(path, "")
        assert said.replace("(96, 3, 5, 5)", str(small[name].shape)) in text


def test_numbers_that_lead_nowhere_are_no_answer(tmp_path, good, small):
    path = tmp_path / "model.safetensors"
    last = "dense3.weight"
    save_file(small | {last: np.full_like(small[last], 3e38)}, path, metadata())
    with pytest.raises(InputError, match="outputs are not finite numbers"):
        predict.main([str(good), f"--model={path}"])


def test_what_is_no_model_file_is_refused(tmp_path, model):
    with pytest.raises(InputError, match=rf"{tmp_path} is a folder; take the model\.safetensors of a run in it"):
        trained_network.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "half").write_bytes(model.read_bytes()[:5000])
    for name in ("pipe", "empty", "round", "half", "missing", "half/more"):
        one_line(tmp_path / name, "weights: ")
    one_line(Path("/dev/zero"), "weights: ")
