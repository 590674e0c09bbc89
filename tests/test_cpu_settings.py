"""CPU settings beyond arithmetic (numbers next to zero, waiting threads): the same in all frameworks or harmless, and recorded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, run_script

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's")
# Two threads with results next to zero, as in Adam's second moment: a multiplication, a convolution, its gradients.
PYTORCH = """
import json, sys, threading
from alexbench import backends
backends.load("pytorch")
import torch
torch.set_num_threads(2)
def left(x):
    return int((x != 0).sum())
x = torch.full((1 << 22,), 1e-20)
found = {"product": left(x * 1e-20)}
images, kernel = torch.full((16, 8, 32, 32), 1e-20), torch.full((8, 8, 3, 3), 1e-20, requires_grad=True)
output = torch.nn.functional.conv2d(images, kernel)
found["convolution"] = left(output)
output.backward(torch.full_like(output, 1e-23))
found["gradient"] = left(kernel.grad)
decayed = torch.full((1 << 22,), 1.2e-38)
for _ in range(30):
    decayed.mul_(0.999)
found["moment"] = left(decayed)
# A thread that was started later, and the threads that it starts.
later = threading.Thread(target=lambda: found.update(later=left(torch.full((1 << 22,), 1e-20) * 1e-20)))
later.start()
later.join()
print(json.dumps({"left": found, "settings": sys.modules["alexbench.backends.pytorch"].ON_CPU}))
"""
TENSORFLOW = """
import json, os
from alexbench import backends
backends.load("tensorflow")
import tensorflow as tf
# Beside the rest: a GPU's memory is taken as it is needed, or NVML's figure would mean nothing.
assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
tf.config.threading.set_intra_op_parallelism_threads(2)
x = tf.fill([1 << 22], 1e-20)
print(json.dumps({"left": {"product": int(tf.math.count_nonzero(tf.function(lambda: x * 1e-20)()))}}))
"""
JAX = """
import json, os
os.environ["NPROC"] = "2"
from alexbench import backends
backends.load("jax")
# Beside the rest: a GPU's memory is taken as it is needed, or NVML's figure would mean nothing.
assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
import jax, jax.numpy as jnp
x = jnp.full(1 << 22, 1e-20, jnp.float32)
print(json.dumps({"left": {"product": int(jnp.count_nonzero(jax.jit(lambda x: x * jnp.float32(1e-20))(x)))}}))
"""


def python(code: str, *arguments: str, **exported: str) -> subprocess.CompletedProcess:
    """Run `code` in a new process, with no settings for threads in its environment other than `exported`."""
    ours = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=ours | {"PYTHONPATH": str(ROOT / "scripts")} | exported, capture_output=True, text=True, encoding="utf-8", check=True
    )


def told(done: subprocess.CompletedProcess) -> set[str]:
    """The values of GOMP_SPINCOUNT that each loaded copy of libgomp reports; needs OMP_DISPLAY_ENV=verbose."""
    return {line.split("'")[1] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line}


@pytest.mark.parametrize("code", [PYTORCH, TENSORFLOW, JAX], ids=["pytorch", "tensorflow", "jax"])
def test_numbers_next_to_zero_are_zero_in_every_thread(code):
    """By default PyTorch computes with them, many times slower; the others do not. An exported spin count is left as it is."""
    done = python(code, GOMP_SPINCOUNT="300000", OMP_DISPLAY_ENV="verbose")
    found = json.loads(done.stdout)
    assert found["left"] == dict.fromkeys(found["left"], 0)
    if code == PYTORCH:
        assert found["settings"] == {"flush_denormals": True, "gomp_spincount": "300000", "omp_wait_policy": None}
        assert sys.platform != "linux" or told(done) == {"300000"}


SETTINGS = "from alexbench.backends import pytorch; import json; print(json.dumps(pytorch.ON_CPU))"


@LINUX
def test_an_exported_wait_policy_is_left_to_say_how_long_threads_spin():
    done = python(SETTINGS, OMP_WAIT_POLICY="active", OMP_DISPLAY_ENV="verbose")
    assert json.loads(done.stdout) == {"flush_denormals": True, "gomp_spincount": None, "omp_wait_policy": "active"}
    assert told(done) == {"30000000000"}


@LINUX
def test_a_library_that_was_loaded_before_is_not_said_to_have_been_told():
    """Then nothing is set and nothing recorded."""
    assert json.loads(python(f"import torch; {SETTINGS}").stdout)["gomp_spincount"] is None


@LINUX
def test_the_program_that_trains_loads_it_so(digits_file, tmp_path):
    """Whatever train.py imports before the framework."""
    options = ["--framework=pytorch", "--variant=alexnet_mod", f"--data={digits_file}", f"--output={tmp_path}", "--threads=2"]
    small = ["--device=cpu", "--train-limit=20", "--test-limit=10", "--epochs=1", "--batch-size=10", "--no-model", "--no-tensorboard"]
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *options, *small]
    done = subprocess.run(
        command, env=environment | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert told(done) == {"1000"}
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["settings"]["gomp_spincount"] == "1000" and metrics["settings"]["flush_denormals"] is True
    assert "warning" not in done.stderr.lower(), done.stderr


@LINUX
def test_the_benchmark_leaves_no_busy_process_behind():
    code = "import spinning, time\nwith spinning.busy_process() as busy: print(busy, flush=True); time.sleep(60)"
    path = os.pathsep.join([str(ROOT / "tests" / "benchmarks"), str(ROOT / "scripts")])
    environment = os.environ | {"PYTHONPATH": path}
    benchmark = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    busy = int(benchmark.stdout.readline())
    benchmark.send_signal(signal.SIGKILL)
    benchmark.wait()
    benchmark.stdout.close()
    ends = time.perf_counter() + 30
    while running(busy) and time.perf_counter() < ends:
        time.sleep(0.05)
    assert not running(busy)


def running(pid: int) -> bool:
    """Whether the process is running; a zombie is not, since nobody here may collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@LINUX
def test_threads_are_as_many_as_were_asked_for_whatever_is_exported():
    """OMP_THREAD_LIMIT and OMP_DYNAMIC would leave fewer, without torch saying so."""
    code = """
import json, os
from alexbench.backends import pytorch
import torch
torch.set_num_threads(3)
before = len(os.listdir("/proc/self/task"))
torch.relu(torch.ones(3_000_000))
print(json.dumps(len(os.listdir("/proc/self/task")) - before))
"""
    assert json.loads(python(code, OMP_THREAD_LIMIT="1", OMP_DYNAMIC="true", OMP_NUM_THREADS="1").stdout) == 2


def test_exported_variables_that_change_bits_or_speed_are_on_record_and_a_users_keras_json_has_no_say(digits_file, tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float64", "epsilon": 0.1, "image_data_format": "channels_first"}', encoding="utf-8")
    small = ["--train-limit=20", "--test-limit=10", "--epochs=1", "--batch-size=10", "--no-model", "--no-tensorboard", "--device=cpu"]
    found = []
    for name, exported in (("a", {}), ("b", {"KERAS_HOME": str(tmp_path), "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"})):
        options = ["--framework=tensorflow", "--variant=alexnet_mod", f"--data={digits_file}", f"--output={tmp_path / name}", "--threads=1"]
        done = run_script("train.py", *options, *small, **exported)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")))
    assert found[0]["loss"] == found[1]["loss"]
    assert found[1]["settings"] == found[0]["settings"] | {"ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"}
