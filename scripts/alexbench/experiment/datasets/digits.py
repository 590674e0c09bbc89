"""scikit-learn's handwritten digits (UCI, 1998), which need no download."""

import numpy as np

from alexbench.experiment.datasets import Dataset

TITLE = "scikit-learn’s digits"
CREDIT = "the handwritten digits of the UCI repository (E. Alpaydin and C. Kaynak, 1998; CC BY 4.0), as scikit-learn ships them"
ABOUT = (
    "The images are handwritten digits of 8×8 pixels, enlarged. This data set is for trying out the workflow; accuracies on it say "
    "nothing about CIFAR-10."
)
ARCHIVE = ""
URL = ""
READS = ()

# How many of load_digits' 1,797 images are for testing, and the seed of the split: part of what "digits" means here.
TEST_IMAGES = 360
SPLIT_SEED = 2025


def read() -> Dataset:
    """scikit-learn's handwritten digits (UCI, 1998): 8x8 grey in 0..16, enlarged to 32x32x3 in 0..255, with a stratified split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    grey = np.round(source.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., np.newaxis], 3, axis=3)
    labels = source.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=labels)
    return Dataset("digits", images[train], labels[train], images[test], labels[test], tuple("0123456789"))
