#!/usr/bin/env python3
"""Classify your own pictures with a trained network: prints one line per picture, with class and probability.

Each picture is cropped to its central square and resized to the training images; transparent parts get the colour --ground. The network
always answers with one of the classes that it was trained on, whatever the picture shows.

    python scripts/predict.py holiday.jpg photos/ --model results/runs/pytorch/alexnet_mod/seed1/model.safetensors
    python scripts/predict.py photos/*.jpg --model MODEL --top 3 --csv > photos.csv

Exit status 1 if a picture could not be read: it is named on stderr, and the others are classified.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import ImageColor

from alexbench import backends, numeric
from alexbench.experiment.pictures import Unreadable, found, read, shown
from alexbench.files import run_program
from alexbench.training import trained_network


def colour(text: str) -> tuple[int, int, int]:
    """An argparse type: a colour that Pillow knows, without transparency."""
    try:
        red, green, blue = ImageColor.getrgb(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no colour; say its name, such as white, or #rrggbb") from None
    return red, green, blue


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a picture that Pillow can read (JPEG, PNG, WebP ...), or a folder of pictures"
    )
    p.add_argument("--model", required=True, type=Path, metavar="SAFETENSORS", help="model.safetensors of a run")
    p.add_argument(
        "--framework", choices=backends.FRAMEWORKS, help="framework to use (default: the one that trained the network, if it is installed)"
    )
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="device to use (%(default)s)")
    p.add_argument(
        "--ground",
        type=colour,
        default="white",
        metavar="COLOUR",
        help="colour behind transparent pictures: a name or #rrggbb (%(default)s)",
    )
    p.add_argument(
        "--top", type=numeric.positive(int), default=1, metavar="K", help="number of classes to print, most likely first (%(default)s)"
    )
    p.add_argument("--csv", action="store_true", help="print CSV: image, class, probability")
    args = p.parse_args(argv)
    trained = trained_network.load(args.model, args.framework, args.device)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if args.csv:
        table.writerow(["image", "class", "probability"])
    status = 0
    for path in found(args.images):
        try:
            image = read(path, trained.side, args.ground)
        except Unreadable as error:
            print(f"{shown(path)}: skipped, {error.reason}", file=sys.stderr, flush=True)
            status = 1
            continue
        shares = trained.predict(image[np.newaxis])[0]
        likeliest = [(shown(trained.classes[place]), shares[place]) for place in np.argsort(-shares)[: args.top]]
        if args.csv:
            table.writerows([shown(path), name, f"{share:.4f}"] for name, share in likeliest)
        else:
            print(f"{shown(path)}: {', '.join(f'{name} {share:.1%}' for name, share in likeliest)}")
        # Flush, so that whoever reads the output need not wait for the last picture.
        print(end="", flush=True)
    return status


if __name__ == "__main__":
    run_program(main)
