"""CIFAR-10 (Krizhevsky, 2009), from its published archive."""

from pathlib import Path

import numpy as np

from alexbench.experiment.datasets import Dataset, _cifar

TITLE = "CIFAR-10"
CREDIT = (
    "CIFAR-10 (A. Krizhevsky, *Learning multiple layers of features from tiny images*, 2009), which comes without a licence "
    "and is in use for research; its images were collected from the web"
)
ABOUT = ""
ARCHIVE = "cifar-10-python.tar.gz, its extracted folder"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
READS = ()

FOLDER = "cifar-10-batches-py"
# SHA-256 of the members of cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html).
MEMBERS = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
}
PER_CLASS = {"train": 5000, "test": 1000}


def read(archive: Path | str) -> Dataset:
    """CIFAR-10 from its archive, cifar-10-python.tar.gz, or from its unpacked folder; see `_cifar.Archive.read`."""
    members = _cifar.Archive("cifar10", "cifar-10-python.tar.gz", 170_498_071, FOLDER, MEMBERS).read(archive)
    names = {"train": [name for name in MEMBERS if name.startswith("data_batch")], "test": ["test_batch"]}
    images = {split: np.concatenate([_cifar.images(members[name]) for name in names[split]]) for split in names}
    labels = {split: np.concatenate([np.array(members[name][b"labels"], np.int64) for name in names[split]]) for split in names}
    classes = tuple(name.decode() for name in members["batches.meta"][b"label_names"])
    _cifar.check_counts("cifar10", archive, PER_CLASS, labels, len(classes))
    return Dataset("cifar10", images["train"], labels["train"], images["test"], labels["test"], classes)
