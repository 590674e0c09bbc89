"""How a run goes: epochs and clocks, checkpoints, interruptions, the GPU it holds. Knows frameworks by their protocol only."""
