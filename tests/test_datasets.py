"""The images are the published ones, or the run ends with the file's name and what was expected of it."""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

import prepare_data
from alexbench.experiment import datasets, recipe
from alexbench.experiment.datasets import _cifar, cifar10, cifar100, cifar100_coarse
from alexbench.experiment.datasets import digits as digits_source
from alexbench.files import InputError

PER_CLASS = {"train": 10, "test": 2}


def batch(images: int, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    content = {
        b"data": random.integers(0, 256, (images, 3072), dtype=np.uint8),
        b"labels": [i % 10 for i in range(images)],
    }
    # The genuine batches were pickled with NumPy's old module names.
    return pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core.")


@pytest.fixture
def members(monkeypatch) -> dict[str, bytes]:
    """A small data set in CIFAR-10's format; its hashes replace the published ones."""
    files = {f"data_batch_{i}": batch(20, i) for i in range(1, 6)} | {"test_batch": batch(20, 6)}
    files["batches.meta"] = pickle.dumps({b"label_names": [f"class{i}".encode() for i in range(10)]}, protocol=3)
    monkeypatch.setattr(cifar10, "PER_CLASS", PER_CLASS)
    publish(monkeypatch, files)
    return files


def publish(monkeypatch, files: dict[str, bytes]) -> None:
    monkeypatch.setattr(cifar10, "MEMBERS", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def pack(path, files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = (), folder: str = cifar10.FOLDER):
    with tarfile.open(path, "w:gz") as archive:
        for info in extra:
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpack(folder, files: dict[str, bytes]):
    (folder / cifar10.FOLDER).mkdir(parents=True)
    for name, content in files.items():
        (folder / cifar10.FOLDER / name).write_bytes(content)
    return folder


def test_archive_and_folder_give_the_same_images(members, tmp_path):
    archive = cifar10.read(pack(tmp_path / "cifar.tar.gz", members))
    outer = cifar10.read(unpack(tmp_path / "folder", members))
    inner = cifar10.read(tmp_path / "folder" / cifar10.FOLDER)
    assert archive.sha256() == outer.sha256() == inner.sha256()
    assert archive.train_images.shape == (100, 32, 32, 3) and archive.test_images.shape == (20, 32, 32, 3)
    assert archive.classes[3] == "class3"


def test_rows_become_images_channel_by_channel(members, tmp_path):
    dataset = cifar10.read(unpack(tmp_path, members))
    row = pickle.loads(members["data_batch_1"].replace(b"numpy.core.", b"numpy._core."), encoding="bytes")[b"data"][7]
    assert dataset.train_images[7, 5, 9].tolist() == [row[5 * 32 + 9], row[1024 + 5 * 32 + 9], row[2048 + 5 * 32 + 9]]


def test_cifar100s_fine_and_coarse_classes_come_from_one_archive(monkeypatch, tmp_path):
    """An archive in that format, made up; the genuine one was not at hand."""
    random = np.random.default_rng(1)

    def part(images: int) -> bytes:
        fine = [number % 100 for number in range(images)]
        content = {b"data": random.integers(0, 256, (images, 3072), dtype=np.uint8), b"fine_labels": fine}
        content |= {
            b"coarse_labels": [label // 5 for label in fine],
            b"filenames": [b"a.png"] * images,
            b"batch_label": b"training batch 1",
        }
        return pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core.")

    names = {
        b"fine_label_names": [f"fine {n}".encode() for n in range(100)],
        b"coarse_label_names": [f"coarse {n}".encode() for n in range(20)],
    }
    files = {"train": part(200), "test": part(100), "meta": pickle.dumps(names, protocol=3)}
    monkeypatch.setattr(cifar100, "MEMBERS", {name: hashlib.md5(content).hexdigest() for name, content in files.items()})
    monkeypatch.setattr(cifar100, "PER_CLASS", {"train": 2, "test": 1})
    monkeypatch.setattr(cifar100_coarse, "PER_CLASS", {"train": 10, "test": 5})
    archive = pack(tmp_path / "cifar-100-python.tar.gz", files, folder=cifar100.FOLDER)
    fine, coarse = (module.read(archive) for module in (cifar100, cifar100_coarse))
    assert (fine.name, len(fine.classes), coarse.name, len(coarse.classes)) == ("cifar100", 100, "cifar100_coarse", 20)
    assert np.array_equal(fine.train_images, coarse.train_images) and np.array_equal(fine.train_labels // 5, coarse.train_labels)
    assert (fine.classes[7], coarse.classes[7]) == ("fine 7", "coarse 7")
    files["test"] = files["test"][:-1] + b"!"
    with pytest.raises(InputError, match=r"cifar100: test in .* has MD5 [0-9a-f]{32}, expected [0-9a-f]{32}"):
        cifar100.read(pack(archive, files, folder=cifar100.FOLDER))


def spoil_truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def spoil_html(path):
    path.write_text("<!DOCTYPE html><html><body>404</body></html>", encoding="utf-8")


def spoil_zip(path):
    path.write_bytes(gzip.compress(b"not a tar archive" * 100))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_truncate, "truncated or damaged"),
        (spoil_flip, "damaged"),
        (spoil_html, "is an HTML page"),
        (spoil_zip, "damaged"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and so on"), "is no gzip file and no tar archive but a zip archive"),
        (lambda path: path.write_bytes(b""), "is no gzip file and no tar archive but an empty file"),
        (lambda path: path.write_bytes(b'{"error": "login"}'), "is no gzip file and no tar archive but JSON that starts with"),
        (lambda path: path.write_text("  <html><title>Log in</title>", encoding="utf-8"), r"is an HTML page \('Log in'\)"),
    ],
)
def test_a_spoilt_archive_is_named_and_leaves_nothing_behind(members, tmp_path, spoil, says):
    archive = pack(tmp_path / "cifar-10-python.tar.gz", members)
    spoil(archive)
    output = tmp_path / "out" / "cifar10.npz"
    with pytest.raises(InputError, match=f"{archive}.*{says}|in {archive}") as raised:
        prepare_data.main(["cifar10", "--archive", str(archive), "--output", str(output)])
    assert "\n" not in str(raised.value) and "expected" in str(raised.value)
    assert not output.parent.exists() or not list(output.parent.iterdir())


def test_a_flipped_byte_in_a_folder_names_the_member_and_both_hashes(members, tmp_path):
    folder = unpack(tmp_path, members)
    spoil_flip(folder / cifar10.FOLDER / "data_batch_3")
    with pytest.raises(InputError, match=f"data_batch_3 in .* has SHA-256 [0-9a-f]{{64}}, expected {cifar10.MEMBERS['data_batch_3']}"):
        cifar10.read(folder)


def test_a_missing_member_is_named(members, tmp_path):
    del members["data_batch_4"]
    with pytest.raises(InputError, match=r"lacks cifar-10-batches-py/data_batch_4"):
        cifar10.read(pack(tmp_path / "a.tar.gz", members))


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data\.archive: .*nowhere.* does not exist"):
        prepare_data.main(["cifar10", "--archive", str(tmp_path / "nowhere.tar.gz"), "--output", str(tmp_path / "x.npz")])


def test_wrong_class_counts_are_refused(members, monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "PER_CLASS", {"train": 5000, "test": 1000})
    with pytest.raises(InputError, match=r"train images a class, expected 5000 each"):
        cifar10.read(unpack(tmp_path, members))


class Attack:
    def __reduce__(self):
        return os.system, ("touch pickled_code_was_run",)


def test_no_code_in_a_pickle_is_run(members, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    members["data_batch_1"] = pickle.dumps(Attack(), protocol=3)
    archive = pack(tmp_path / "a.tar.gz", members)
    with pytest.raises(InputError, match="SHA-256"):
        cifar10.read(archive)
    # Even with the right hash, to see that the unpickler's own guard holds.
    publish(monkeypatch, members)
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.system"):
        cifar10.read(archive)
    assert not (tmp_path / "pickled_code_was_run").exists()


def test_links_and_paths_in_an_archive_are_passed_over(members, tmp_path):
    link = tarfile.TarInfo(f"{cifar10.FOLDER}/data_batch_1")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = tarfile.TarInfo("../../outside")
    device = tarfile.TarInfo(f"{cifar10.FOLDER}/test_batch")
    device.type = tarfile.CHRTYPE
    dataset = cifar10.read(pack(tmp_path / "a.tar.gz", members, (link, outside, device)))
    assert len(dataset.train_labels) == 100
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_member_far_too_large_is_not_read(members, monkeypatch, tmp_path):
    monkeypatch.setattr(_cifar, "_MEMBER_LIMIT_BYTES", 1000)
    with pytest.raises(InputError, match=r"data_batch_1 in .* bytes, far more than in the genuine archive"):
        cifar10.read(pack(tmp_path / "a.tar.gz", members))


def test_an_archive_that_unpacks_without_end_is_given_up(members, monkeypatch, tmp_path):
    monkeypatch.setattr(_cifar, "_ARCHIVE_LIMIT_BYTES", 500_000)
    bomb = pack(tmp_path / "a.tar.gz", {**members, "zeros": bytes(3_000_000)})
    with pytest.raises(InputError, match=r"the content in .* far more"):
        cifar10.read(bomb)


def test_digits_are_real_balanced_and_split_the_same_way_each_time():
    digits = digits_source.read()
    assert digits.train_images.shape == (1437, 32, 32, 3) and digits.test_images.shape == (360, 32, 32, 3)
    assert digits.sha256() == digits_source.read().sha256()
    assert np.bincount(digits.test_labels).min() >= 34
    assert digits.train_images.max() == 255


@pytest.mark.parametrize("limit", [10, 37, 100])
def test_a_subset_is_balanced_and_holds_the_smaller_ones(limit):
    digits = digits_source.read()
    subset = digits.limited(limit, None)
    counts = np.bincount(subset.train_labels, minlength=10)
    assert counts.sum() == limit and counts.max() - counts.min() <= 1
    assert len(subset.test_labels) == 360
    images = {image.tobytes() for image in digits.limited(limit + 5, None).train_images}
    assert all(image.tobytes() in images for image in subset.train_images)


def test_images_for_validation_are_balanced_and_no_longer_trained_on():
    digits = digits_source.read()
    rest, images, labels = datasets.held_out(digits, 200, 7)
    counts = np.bincount(labels, minlength=10)
    assert counts.sum() == 200 and counts.max() - counts.min() <= 1 and len(rest.train_labels) == 1437 - 200
    both = np.concatenate([rest.train_images, images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in digits.train_images)
    assert np.array_equal(rest.test_images, digits.test_images)
    assert np.array_equal(datasets.held_out(digits, 200, 7)[1], images) and not np.array_equal(datasets.held_out(digits, 200, 8)[1], images)
    assert len(datasets.held_out(digits, 0.1, 7)[2]) == 144


@pytest.mark.parametrize(
    ("wanted", "says"), [(9, "class '9' has none in them"), (1437, "has none beside them"), (0.001, "has none in them")]
)
def test_too_few_or_too_many_for_validation_are_refused(wanted, says):
    with pytest.raises(InputError, match=rf"data: validation is {wanted}, .* of the 1,437 training images of digits: .*{says}"):
        datasets.held_out(digits_source.read(), wanted, 7)


@pytest.mark.parametrize("limit", [0, 9, 100_000])
def test_a_subset_that_cannot_be_is_refused(limit):
    with pytest.raises(InputError, match=rf"train_limit is {limit}; digits allows 10 \(one a class\) to 1437"):
        digits_source.read().limited(limit, None)


def test_what_is_saved_is_loaded(digits, tmp_path):
    datasets.save(digits, tmp_path / "d.npz")
    loaded = datasets.load(tmp_path / "d.npz")
    assert loaded.sha256() == digits.sha256() and loaded.classes == digits.classes and loaded.name == "digits"
    before = (tmp_path / "d.npz").read_bytes()
    datasets.save(digits, tmp_path / "d.npz")
    assert (tmp_path / "d.npz").read_bytes() == before


def test_a_damaged_data_file_is_named(digits, tmp_path):
    path = tmp_path / "d.npz"
    datasets.save(digits, path)
    spoil_truncate(path)
    with pytest.raises(InputError, match=f"{path} is not a whole data file"):
        datasets.load(path)
    np.savez(path, name="x", classes=np.array(["a"]), train_images=np.array([Attack()], dtype=object))
    with pytest.raises(InputError, match=f"{path} is not a whole data file"):
        datasets.load(path)


def test_channel_statistics_are_numpys(digits):
    mean, std = digits_source.read().channel_statistics()
    pixels = digits_source.read().train_images.reshape(-1, 3) / 255
    assert mean == pytest.approx(pixels.mean(0), abs=1e-6) and std == pytest.approx(pixels.std(0), abs=1e-6)


@pytest.mark.skipif("CIFAR10" not in os.environ, reason="set CIFAR10 to cifar-10-python.tar.gz or its folder")
def test_genuine_cifar10(tmp_path):
    prepare_data.main(["cifar10", "--archive", os.environ["CIFAR10"], "--output", str(tmp_path / "cifar10.npz")])
    dataset = datasets.load(tmp_path / "cifar10.npz")
    mean, std = dataset.channel_statistics()
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)
    assert std == pytest.approx([0.2470, 0.2435, 0.2616], abs=5e-5)
    assert dataset.classes[:3] == ("airplane", "automobile", "bird")


def arrays_of(dataset) -> dict:
    return {name: np.array(value) for name, value in vars(dataset).items()}


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int16", "uint64", ">i4"])
def test_labels_of_any_integers_are_read_as_what_is_saved(digits, tmp_path, dtype):
    arrays = arrays_of(digits)
    arrays |= {"train_labels": arrays["train_labels"].astype(dtype), "test_labels": arrays["test_labels"].astype(dtype)[:, None]}
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    assert datasets.load(tmp_path / "mine.npz").sha256() == digits.sha256()


OWN = [
    (lambda a: {"train_labels": np.eye(10)[a["train_labels"]]}, r"train labels float64 \(100, 10\), one-hot; .*labels.argmax\(axis=1\)"),
    (lambda a: {"train_labels": np.eye(10, dtype=np.int64)[a["train_labels"]]}, "one-hot"),
    (lambda a: {"test_labels": a["test_labels"] / 1}, r"test labels float64 .*expected integers from 0 to 9"),
    (lambda a: {"test_labels": a["test_labels"] + 1}, r"test labels outside 0\.\.9 \(they run from 1 to 10\)"),
    (lambda a: {"test_labels": a["test_labels"] - 1}, r"outside 0\.\.9 \(they run from -1 to 8\)"),
    (lambda a: {"test_labels": a["test_labels"][1:]}, r"for 50 images; expected one label for each image"),
    (lambda a: {"train_labels": np.uint64(2**64 - 1) + 0 * a["train_labels"].astype(np.uint64)}, "outside"),
    (lambda a: {"train_labels": 0 * a["train_labels"]}, "no train image of class '1'"),
    (lambda a: {"test_images": a["test_images"][:0], "test_labels": a["test_labels"][:0]}, "test images .*which is none"),
    (lambda a: {"classes": np.array([])}, "classes are .*expected names"),
    (lambda a: {"classes": np.arange(10)}, "classes are int64"),
    (lambda a: {"classes": a["classes"].astype(object)}, r"classes is an array of Python objects: .*np\.array\(classes\.tolist\(\)\)"),
    (lambda a: {"test_labels": a["test_labels"].astype(object)}, "test_labels is an array of Python objects"),
    (lambda a: {"train_labels": a["train_labels"] > 4}, "train labels bool .*expected integers"),
    (lambda a: {"classes": np.array([*"012345678", "0"])}, "names class '0' more than once"),
    (lambda a: {"classes": np.array([*"012345678", ""])}, "expected names"),
    (lambda a: {"classes": np.array([*"01234567"])}, r"outside 0\.\.7"),
    (lambda a: {"classes": np.array([*"0123456789a"])}, "no train image of class 'a'"),
    (lambda a: {"classes": np.array("0")}, "expected names"),
    (lambda a: {"name": np.array(3)}, "expected a name"),
    (lambda a: {"train_images": a["train_images"] / 255}, "train images float64 .*scale and round"),
    (lambda a: {"train_images": a["train_images"].astype(np.int64)}, r"astype\('uint8'\)"),
    (lambda a: {"test_images": a["test_images"][..., 0]}, "test images .*grey"),
    (lambda a: {"test_images": a["test_images"][..., :1]}, "grey"),
    (lambda a: {"test_images": a["test_images"].transpose(0, 3, 1, 2)}, "channels first"),
    (lambda a: {"test_images": a["test_images"].reshape(50, -1)}, r"expected uint8 \(n, side, side, 3\)"),
    (lambda a: {"test_images": a["test_images"][:, :20]}, "not square"),
    (lambda a: {"test_images": a["test_images"][:, :0, :0]}, "not square"),
    (lambda a: {"test_images": a["test_images"][:, :20, :20]}, "side 32 and test images of side 20"),
]


@pytest.mark.parametrize(("change", "says"), OWN)
def test_arrays_of_ones_own_that_cannot_be_trained_on_are_refused_in_a_line(digits, tmp_path, change, says):
    path, arrays = tmp_path / "mine.npz", arrays_of(digits)
    np.savez(path, **arrays | change(arrays))
    with pytest.raises(InputError, match=says) as raised:
        datasets.load(path)
    assert str(raised.value).startswith(f"data: {path}") and "\n" not in str(raised.value)


def test_a_channel_that_does_not_vary_is_named(digits):
    images = digits.train_images.copy()
    images[..., 2] = 7
    dull = dataclasses.replace(digits, train_images=images)
    with pytest.raises(InputError, match="the blue channel of digits's training images is constant"):
        recipe.channel_scaling("dataset", dull)
    assert recipe.channel_scaling("unit", dull)[1].tolist() == [1, 1, 1]


def test_a_header_that_lies_about_its_size_is_refused_before_memory_is_asked_for(digits, tmp_path):
    path, damaged = tmp_path / "d.npz", tmp_path / "damaged.npz"
    datasets.save(digits, path)
    for before, after in ((b"(100, 32, 32, 3)", b"(9**9,32,32, 3)"), (b"(100, 32, 32, 3)", b"(99999, 3299, 3)"), (b"|u1", b"|O8")):
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(damaged, "w") as spoilt:
            for name in whole.namelist():
                spoilt.writestr(name, whole.read(name).replace(before, after, 1) if name == "train_images.npy" else whole.read(name))
        with pytest.raises(InputError, match="is not a whole data file"):
            datasets.load(damaged)


def test_any_byte_of_a_data_file_may_be_wrong(digits, tmp_path):
    path = tmp_path / "d.npz"
    datasets.save(digits.limited(10, 10), path)
    content, random = path.read_bytes(), np.random.default_rng(1)
    heads = [place for place in range(len(content)) if content[place : place + 6] == b"\x93NUMPY"]
    places = [first + offset for first in heads for offset in range(0, 80, 3)] + random.integers(0, len(content), 100).tolist()
    for place in places + list(range(len(content) - 400, len(content), 3)):
        path.write_bytes(content[:place] + bytes([content[place] ^ int(random.integers(1, 256))]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            datasets.load(path)


@pytest.mark.parametrize("folder", ["", "cifar-10-python/", "./a/b/cifar-10-batches-py/", "./"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_may_be_unpacked_and_its_folder_any(members, tmp_path, mode, folder):
    expected = cifar10.read(pack(tmp_path / "usual.tar.gz", members)).sha256()
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            # macOS adds such files.
            for name_there, content_there in ((f"{folder}._{name}", b"x"), (f"{folder}{name}", content)):
                info = tarfile.TarInfo(name_there)
                info.size = len(content_there)
                archive.addfile(info, io.BytesIO(content_there))
    assert cifar10.read(path).sha256() == expected


@pytest.mark.parametrize("first", [True, False])
def test_of_two_members_of_a_name_the_right_one_counts(members, tmp_path, first):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            right, wrong = (f"{cifar10.FOLDER}/{name}", content), (f"old/{name}", b"old")
            for name_there, content_there in (right, wrong) if first else (wrong, right):
                info = tarfile.TarInfo(name_there)
                info.size = len(content_there)
                archive.addfile(info, io.BytesIO(content_there))
    assert len(cifar10.read(path).train_labels) == 100


def test_what_lies_there_instead_is_named(tmp_path):
    files = {"train": b"x", "test": b"x", "meta": b"x", "file.txt~": b"x"}
    (tmp_path / "folder").mkdir()
    for name in files:
        (tmp_path / "folder" / name).write_bytes(b"x")
    says = "cifar10: .* lacks cifar-10-batches-py/data_batch_1 \\(it holds {}\\); expected the 7 files"
    with pytest.raises(InputError, match=says.format("'file.txt~', 'meta', 'test', 'train'")):
        cifar10.read(tmp_path / "folder")
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "folder", "cifar-100-python")
    with pytest.raises(InputError, match=says.format("'cifar-100-python/.*")):
        cifar10.read(tmp_path / "cifar-100-python.tar.gz")


def test_a_changed_url_fetches_another_archive(members, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.files["one/cifar-10-python.tar.gz"] = pack(tmp_path / "a", members).read_bytes()
    arguments = ["--output", "cifar10.npz", "--archive"]
    prepare_data.main(["cifar10", *arguments, server.url("one/cifar-10-python.tar.gz")])
    one = datasets.load("cifar10.npz").sha256()
    members["data_batch_1"] = batch(20, seed=99)
    publish(monkeypatch, members)
    server.files["two/cifar-10-python.tar.gz"] = pack(tmp_path / "a", members).read_bytes()
    prepare_data.main(["cifar10", *arguments, server.url("two/cifar-10-python.tar.gz")])
    assert datasets.load("cifar10.npz").sha256() != one
    server.files["login/cifar-10-python.tar.gz"] = b"<html><head><title>Log in</title>"
    with pytest.raises(InputError, match=r"is an HTML page \('Log in'\), perhaps for a login; expected .* was deleted\]"):
        prepare_data.main(["cifar10", *arguments, server.url("login/cifar-10-python.tar.gz")])
