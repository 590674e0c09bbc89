"""Running a training: epochs and timing, checkpoints, interruptions, GPU reservation. Uses frameworks only through their protocol."""
