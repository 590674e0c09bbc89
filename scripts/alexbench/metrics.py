"""The format of metrics.json, a run's record, and what earlier versions of this code wrote."""

from alexbench.files import InputError

# 1: before GPUs could be shared. 2: with runs_per_gpu, and this number.
FORMAT = 2


def upgraded(metrics: dict) -> dict:
    """`metrics` of any earlier format in today's. Raises InputError for a later one."""
    found = metrics.get("format", 1)
    if found not in range(1, FORMAT + 1):
        raise InputError(f"format is {found!r}; this version reads 1 to {FORMAT}: update it, or train that run again")
    return {"runs_per_gpu": 1, "left_out": 0, "in_both": 0, "validation_images": 0, "validation_seed": None} | metrics | {"format": FORMAT}
