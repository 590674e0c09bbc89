#!/usr/bin/env python3
"""Say what is on pictures of your own, by a trained network: a line a picture, with class and probability.

A picture is cut to its middle square and made as small as the images that the network was trained on. Networks know the classes that they
were trained on and nothing else: of anything else they name one of these all the same.

    python scripts/predict.py holiday.jpg cat.png --model results/runs/pytorch/alexnet_mod/seed1/model.safetensors
    python scripts/predict.py photos/*.jpg --model MODEL --top 3 --csv > photos.csv

Exit status 1 where a picture could not be read; it is named, and the others are answered.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alexbench import backends, network, numeric
from alexbench.files import run_program


def read(path: Path, side: int) -> np.ndarray:
    """A picture as the networks' images are: its middle square, uint8 (side, side, 3). OSError or the like where it is none."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR))


def read_all(paths: list[Path], side: int) -> tuple[list[Path], np.ndarray]:
    """The pictures that can be read, and their images, uint8 (n, side, side, 3); the others are named on stderr."""
    good, images = [], []
    for path in paths:
        try:
            images.append(read(path, side))
            good.append(path)
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            print(f"{path}: skipped, no picture that can be read ({error})", file=sys.stderr)
    return good, np.array(images, np.uint8)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="JPEG, PNG, WebP or whatever else Pillow reads")
    p.add_argument("--model", required=True, type=Path, metavar="SAFETENSORS", help="model.safetensors of a run")
    p.add_argument("--framework", choices=backends.FRAMEWORKS, help="to use (the one that trained it)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="(%(default)s)")
    p.add_argument(
        "--top",
        type=numeric.positive(int),
        default=1,
        metavar="K",
        help="how many classes to name for each, the likeliest first (%(default)s)",
    )
    p.add_argument("--csv", action="store_true", help="as CSV: image, class, probability")
    args = p.parse_args(argv)
    trained = network.load(args.model, args.framework, args.device)
    good, images = read_all(args.images, trained.side)
    table = csv.writer(sys.stdout)
    if args.csv:
        table.writerow(["image", "class", "probability"])
    for path, shares in zip(good, trained.predict(images) if good else (), strict=True):
        likeliest = [(trained.classes[place], shares[place]) for place in np.argsort(-shares)[: args.top]]
        if args.csv:
            table.writerows([path, name, f"{share:.4f}"] for name, share in likeliest)
        else:
            print(f"{path}: {', '.join(f'{name} {share:.1%}' for name, share in likeliest)}")
    return 0 if len(good) == len(args.images) else 1


if __name__ == "__main__":
    run_program(main)
