"""TensorBoard event files, written during training: one point per epoch for each scalar."""

import shutil
from pathlib import Path
from typing import Self

from alexbench.training.checkpoint import Progress

SECONDS_TO_DISK = 5


class Events:
    """Writer of event files in `folder`, which is emptied first: a resumed run writes all its epochs again. None writes nothing.

    A context manager. Points reach the disk within seconds, or when the block ends.
    """

    def __init__(self, folder: Path | None) -> None:
        self.writer, self.written = None, 0
        if folder is not None:
            from tensorboardX import SummaryWriter

            shutil.rmtree(folder, ignore_errors=True)
            self.writer = SummaryWriter(str(folder), flush_secs=SECONDS_TO_DISK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def update(self, progress: Progress, images: int) -> None:
        """Write the epochs not yet written. `images`: size of the training set."""
        if self.writer is None:
            return
        for row in progress.history[self.written :]:
            kind = "validation" if "validation_loss" in row else "test"
            scalars = {
                "loss/train": row["train_loss"],
                f"loss/{kind}": row[f"{kind}_loss"],
                "accuracy/train": row["train_accuracy"],
                f"accuracy/{kind}": row[f"{kind}_accuracy"],
                "learning_rate": row["learning_rate"],
                "images_per_second": images / row["seconds"],
            }
            for name, value in scalars.items():
                if value is not None:
                    self.writer.add_scalar(name, value, row["epoch"])
        self.written = len(progress.history)
