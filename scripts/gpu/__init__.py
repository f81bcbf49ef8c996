"""The parts of ``scripts/gpu_check``: everything that needs a GPU, each within its own time."""
