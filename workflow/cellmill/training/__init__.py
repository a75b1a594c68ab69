"""The parts of a training: what is shown to a network, how a step is made, and how a training outlives its machine."""
