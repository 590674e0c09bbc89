"""Running a training: epochs, clocks, checkpoints, interruptions, GPU reservation. Uses frameworks only through their protocol."""
