#!/usr/bin/env python3
"""Read a data set from its published source or from a folder of pictures, check it, and write it as uint8 arrays for any framework (.npz).

CIFAR-10 is read from its archive, cifar-10-python.tar.gz, or the extracted folder; every member's SHA-256 is checked before
anything is unpickled. Digits are part of scikit-learn.

    python scripts/prepare_data.py digits --output resources/data/digits.npz
    python scripts/prepare_data.py cifar10 --archive ~/cifar-10-python.tar.gz --output resources/data/cifar10.npz
    python scripts/prepare_data.py folder --folder ~/flowers --image-size 64 --output flowers.npz
"""

import argparse
from pathlib import Path

import numpy as np

from alexbench import numeric
from alexbench.experiment import datasets
from alexbench.experiment.download import local_copy
from alexbench.files import InputError, run_program
from alexbench.workflow import fingerprint


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dataset", choices=datasets.NAMES, help="data set to prepare")
    p.add_argument("--output", required=True, type=Path, metavar="NPZ", help="file to write")
    p.add_argument("--archive", help="URL, local archive or extracted folder (default: the URL where the data set is published)")
    p.add_argument("--folder", metavar="FOLDER", help="of the data set folder: train/CLASS/ and test/CLASS/, or CLASS/, with pictures")
    p.add_argument(
        "--image-size",
        type=numeric.number(int, least=8, most=1024),
        default=32,
        metavar="PIXELS",
        help="side of the images made of them (%(default)s)",
    )
    p.add_argument(
        "--test-share",
        type=numeric.number(float, above=0, below=1),
        default=0.2,
        metavar="SHARE",
        help="of every class, if there is no test/ (%(default)s)",
    )
    p.add_argument("--split-seed", type=numeric.seed, default=0, metavar="SEED", help="which pictures that share is (%(default)s)")
    p.add_argument("--skip-broken", action=argparse.BooleanOptionalAction, default=False, help="leave out pictures that cannot be read")
    p.add_argument("--downloads", type=Path, default=Path("resources/downloads"), help="folder that keeps downloads (%(default)s)")
    args = p.parse_args(argv)
    source = datasets.source(args.dataset)
    values = {key: getattr(args, key) for key in source.READS}
    if source.ARCHIVE:
        with local_copy(args.archive or source.URL, args.downloads, key="data.archive") as path:
            dataset = source.read(archive=path, **values)
    elif "folder" in values and not args.folder:
        raise InputError("folder: data.folder names no folder; set it to one that holds train/CLASS/ or CLASS/ with pictures")
    else:
        dataset = source.read(**values)
    datasets.save(dataset, args.output)
    fingerprint.note(args.output)
    mean, std = dataset.channel_statistics()
    print(f"{dataset.name}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images -> {args.output}")
    print(f"classes: {', '.join(dataset.classes)}")
    print(f"channel mean {np.round(mean, 4).tolist()}, standard deviation {np.round(std, 4).tolist()}")
    print(f"sha256 {dataset.sha256()}")
    return 0


if __name__ == "__main__":
    run_program(main)
