#!/usr/bin/env python3
"""Classify pictures of your own with a trained network: one line per picture, as it is read, with class and probability.

A picture is cut to its middle square and made as small as the images that the network was trained on; its transparent parts show
--ground. Networks know the classes that they were trained on and nothing else: they answer any picture with one of these.

    python scripts/predict.py holiday.jpg photos/ --model results/runs/pytorch/alexnet_mod/seed1/model.safetensors
    python scripts/predict.py photos/*.jpg --model MODEL --top 3 --csv > photos.csv

Exit status 1 where a picture could not be read; it is named on stderr, and the others are answered.
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
    """An argparse type: a colour as Pillow names it, without transparency."""
    try:
        red, green, blue = ImageColor.getrgb(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no colour; say its name, such as white, or #rrggbb") from None
    return red, green, blue


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP or whatever else Pillow reads; a folder: the pictures in it")
    p.add_argument("--model", required=True, type=Path, metavar="SAFETENSORS", help="model.safetensors of a run")
    p.add_argument("--framework", choices=backends.FRAMEWORKS, help="to use (the one that trained the network, where it is installed)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="(%(default)s)")
    p.add_argument(
        "--ground", type=colour, default="white", metavar="COLOUR", help="behind transparent pictures: a name, #rrggbb (%(default)s)"
    )
    p.add_argument(
        "--top", type=numeric.positive(int), default=1, metavar="K", help="how many classes to name, likeliest first (%(default)s)"
    )
    p.add_argument("--csv", action="store_true", help="as CSV: image, class, probability")
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
        # Whoever reads them need not wait for the last one.
        print(end="", flush=True)
    return status


if __name__ == "__main__":
    run_program(main)
