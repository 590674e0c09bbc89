"""A person's own pictures become a data set, or what is wrong with them is said in one line, before any training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_data
from alexbench.experiment import datasets
from alexbench.experiment.datasets import folder
from alexbench.files import InputError
from alexbench.workflow import fingerprint
from conftest import ROOT

KEYS = {"image_size": 32, "test_share": 0.25, "split_seed": 0, "skip_broken": False}


def draw(path: Path, number: int, size: tuple[int, int] = (40, 32)) -> Path:
    """A picture of noise, another one for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def flowers(tmp_path) -> Path:
    """Three classes, named as people name them, of 8 pictures each."""
    place = tmp_path / "Meine Blumen"
    for number, name in enumerate(("wilde Möhre", "Gänseblümchen", "rose")):
        for picture in range(8):
            draw(place / name / f"IMG {picture}.{'png' if picture % 2 else 'JPG'}", 100 * number + picture)
    return place


def split(place: Path) -> Path:
    """Move the last two pictures of every class to test/."""
    for source in list(place.iterdir()):
        for number, picture in enumerate(sorted(source.iterdir())):
            target = place / ("test" if number > 5 else "train") / source.name / picture.name
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.rename(target)
        source.rmdir()
    return place


def test_a_share_of_every_class_is_for_testing(flowers):
    found = folder.read(flowers, **KEYS)
    assert (found.name, found.classes) == ("Meine Blumen", ("Gänseblümchen", "rose", "wilde Möhre"))
    assert np.bincount(found.train_labels).tolist() == [6, 6, 6] and np.bincount(found.test_labels).tolist() == [2, 2, 2]
    assert found.train_images.shape == (18, 32, 32, 3) and found.train_images.dtype == np.uint8
    assert folder.read(flowers, **KEYS).sha256() == found.sha256()
    assert folder.read(flowers, **KEYS | {"split_seed": 1}).sha256() != found.sha256()
    # Every picture is in one of them: its middle square.
    there = {image.tobytes() for images in (found.train_images, found.test_images) for image in images}
    assert len(there) == 24
    with Image.open(flowers / "rose" / "IMG 1.png") as image:
        assert np.array(image)[:, 4:36].tobytes() in there


def test_train_and_test_are_taken_as_they_are(flowers):
    found = folder.read(split(flowers), **KEYS)
    assert np.bincount(found.train_labels).tolist() == [6, 6, 6] and np.bincount(found.test_labels).tolist() == [2, 2, 2]
    assert not found.in_both and not found.left_out


def test_a_size_that_is_asked_for(flowers):
    assert folder.read(flowers, **KEYS | {"image_size": 64}).test_images.shape == (6, 64, 64, 3)


def test_the_same_picture_in_train_and_test_is_counted_and_named(flowers, capsys):
    split(flowers)
    Image.open(flowers / "train/rose/IMG 1.png").save(flowers / "test/rose/again.bmp")
    found = folder.read(flowers, **KEYS)
    assert found.in_both == 1
    assert "1 pictures are in both train and test, such as " in (said := capsys.readouterr().err)
    assert "train/rose/IMG 1.png and " in said and "test/rose/again.bmp" in said


def test_what_cannot_be_read_ends_it_or_is_left_out(flowers, capsys):
    (flowers / "rose" / "IMG 1.png").write_bytes(b"no picture")
    (flowers / "rose" / "Thumbs.db").write_bytes(b"litter")
    (flowers / "rose" / ".DS_Store").write_bytes(b"litter")
    with pytest.raises(InputError, match=r"folder: .*rose/IMG 1\.png: .*set data\.skip_broken to true"):
        folder.read(flowers, **KEYS)
    found = folder.read(flowers, **KEYS | {"skip_broken": True})
    assert found.left_out == 1 and len(found.train_labels) + len(found.test_labels) == 23
    assert "left out: " in capsys.readouterr().err


def empty_class(place: Path) -> None:
    (place / "nothing").mkdir()


def one_picture(place: Path) -> None:
    draw(place / "alone" / "1.png", 1)


def unknown_in_test(place: Path) -> None:
    draw(split(place) / "test" / "tulip" / "1.png", 1)


def missing_in_test(place: Path) -> None:
    draw(split(place) / "train" / "tulip" / "1.png", 1)


def only_test(place: Path) -> None:
    for source in list(place.iterdir()):
        source.rename(place.parent / source.name)
    draw(place / "test" / "tulip" / "1.png", 1)


def one_class(place: Path) -> None:
    for name in ("rose", "wilde Möhre"):
        for picture in (place / name).iterdir():
            picture.unlink()
        (place / name).rmdir()


def line_break(place: Path) -> None:
    (place / "rose").rename(place / "ro\nse")


def folder_in_class(place: Path) -> None:
    draw(place / "rose" / "more" / "1.png", 1)


def two_forms(place: Path) -> None:
    draw(place / "wilde Mo\u0308hre" / "1.png", 1)


BAD = {
    empty_class: r"nothing is empty; put pictures of class 'nothing' into it, or remove it",
    one_picture: r"class 'alone' has one picture, .*alone/1\.png; it needs one to train on and one to test on, or a folder test/",
    unknown_in_test: r"train has no class 'tulip', which test has",
    missing_in_test: r"test has no class 'tulip', which train has",
    only_test: r"has test/ but no train/; add train/CLASS/",
    one_class: r"has pictures of 1 classes; two are the least",
    line_break: r"ro\\nse cannot name a class",
    folder_in_class: r"rose/more is a folder inside a class",
    two_forms: r"has two folders for class 'wilde Möhre', written in two ways",
}


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_what_is_wrong_is_said_in_one_line(flowers, damage):
    damage(flowers)
    with pytest.raises(InputError, match=BAD[damage]) as raised:
        folder.read(flowers, **KEYS)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("folder: ")


@pytest.mark.parametrize(("path", "says"), [("nowhere", "does not exist"), ("Meine Blumen/rose/IMG 1.png", "is a file")])
def test_a_path_that_is_no_folder(flowers, path, says):
    with pytest.raises(InputError, match=rf"folder: .* {says}; set data\.folder to a folder"):
        folder.read(flowers.parent / path, **KEYS)


def test_two_classes_and_a_thousand_and_a_linked_folder(tmp_path):
    for number in range(1000):
        for picture in range(2):
            draw(tmp_path / "many" / f"class {number}" / f"{picture}.png", 2 * number + picture, (8, 8))
    found = folder.read(tmp_path / "many", **KEYS | {"image_size": 8})
    assert len(found.classes) == 1000 and len(found.test_labels) == 1000
    (tmp_path / "two").mkdir()
    for name in ("class 1", "class 2"):
        (tmp_path / "two" / name).symlink_to(tmp_path / "many" / name)
    (tmp_path / "linked").symlink_to(tmp_path / "two")
    assert folder.read(tmp_path / "linked", **KEYS | {"image_size": 8}).classes == ("class 1", "class 2")


def test_memory_stays_below_twice_the_array(tmp_path):
    """In a process of its own, whose peak is its own too."""
    for number in range(2):
        for picture in range(60):
            draw(tmp_path / "in" / str(number) / f"{picture}.png", 100 * number + picture, (16, 16))
    code = "import resource, sys; import prepare_data; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024"
    code += "; before = peak(); prepare_data.main(sys.argv[1:]); print(peak() - before, file=sys.stderr)"
    out = tmp_path / "out.npz"
    arguments = ["folder", "--folder", str(tmp_path / "in"), "--image-size=896", "--output", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True)
    assert out.stat().st_size > 280e6
    assert int(done.stderr.splitlines()[-1]) < 2 * out.stat().st_size


def test_the_program_and_the_file(flowers, tmp_path, capsys):
    (flowers / "rose" / "IMG 1.png").write_bytes(b"no picture")
    out = tmp_path / "flowers.npz"
    assert prepare_data.main(["folder", "--folder", str(flowers), "--skip-broken", "--output", str(out)]) == 0
    read = datasets.load(out)
    assert (read.left_out, read.in_both, read.classes[0]) == (1, 0, "Gänseblümchen")
    with pytest.raises(InputError, match=r"data\.folder names no folder"):
        prepare_data.main(["folder", "--output", str(out)])


def test_other_wishes_have_another_name(tmp_path):
    data = {"dataset": "folder", "folder": str(tmp_path), **KEYS}
    names = {
        datasets.prepared_name(data | change) for change in ({}, {"image_size": 64}, {"split_seed": 1}, {"folder": str(tmp_path / "a")})
    }
    assert len(names) == 4 and all(name.startswith("folder-") for name in names)
    assert datasets.prepared_name({"dataset": "digits"} | data | {"dataset": "digits"}) == "digits"


def test_a_changed_folder_is_noticed_by_its_content_not_by_its_times(flowers, tmp_path):
    def content() -> str:
        fingerprint.of_content.cache_clear()
        fingerprint._sha256.cache_clear()
        return fingerprint.of_content(flowers, tmp_path / "manifests")

    picture = flowers / "rose" / "IMG 1.png"
    before = content()
    os.utime(picture, (1, 1))
    assert content() == before
    kept = picture.read_bytes(), picture.stat()
    # Changed, with size and time as they were.
    picture.write_bytes(kept[0][:-1] + b"!")
    os.utime(picture, ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))
    assert content() != before
    picture.write_bytes(kept[0])
    assert content() == before
    picture.rename(picture.with_name("another.png"))
    assert content() != before


def test_of_a_folder_only_what_changed_is_read_again(flowers, tmp_path, monkeypatch):
    fingerprint.of_content.cache_clear()
    fingerprint._sha256.cache_clear()
    monkeypatch.setattr(fingerprint.time, "time", lambda: 4e9)
    before = fingerprint.of_content(flowers, tmp_path / "manifests")
    (noted,) = (tmp_path / "manifests").iterdir()
    assert len(json.loads(noted.read_text(encoding="utf-8"))) == 24
    fingerprint.of_content.cache_clear()
    monkeypatch.setattr(fingerprint, "_sha256", lambda path: pytest.fail(f"{path} is read again"))
    assert fingerprint.of_content(flowers, tmp_path / "manifests") == before
