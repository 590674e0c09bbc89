"""A run of 200 epochs needs no more memory or file descriptors at its end than after its tenth epoch."""

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from small_experiment import ENVIRONMENT, copy_of_workflow

from alexbench.backends import FRAMEWORKS

pytestmark = [pytest.mark.fault, pytest.mark.slow]

EPOCHS = 200


def sample(process: subprocess.Popen) -> tuple[int, int]:
    """Resident bytes and open file descriptors of a process."""
    proc = Path(f"/proc/{process.pid}")
    return int((proc / "statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(list((proc / "fd").iterdir()))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_memory_and_descriptors_are_flat(framework, digits_file, tmp_path):
    folder = copy_of_workflow(tmp_path / "project")
    size = [f"--epochs={EPOCHS}", "--train-limit=60", "--test-limit=20", "--batch-size=16", "--threads=1", "--device=cpu"]
    cell = [f"--framework={framework}", "--variant=tiny", f"--data={digits_file}", "--output=run"]
    command = [sys.executable, "scripts/train.py", *cell, *size]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    samples = {}
    for line in process.stderr:
        # An epoch's line is written before its checkpoint, so the sample falls into the next few milliseconds.
        if found := re.match(r"epoch (\d+)/", line):
            samples[int(found[1])] = sample(process)
    assert process.wait() == 0 and len(samples) == EPOCHS
    memory, descriptors = zip(*(samples[epoch] for epoch in range(10, EPOCHS)), strict=True)
    growth = max(memory[-20:]) / max(memory[:20]) - 1
    print(f"{framework}: {memory[0] / 1e6:.0f} MB after 10 epochs, {memory[-1] / 1e6:.0f} MB at the end, growth {growth:.2%}")
    print(f"file descriptors {min(descriptors)} to {max(descriptors)}")
    assert growth < 0.02
    # The median, because there are more while files are being written.
    assert median(descriptors[-20:]) <= median(descriptors[:20])
