"""The parts of ``bench_step.py``: the public codes' steps, the engine's, and what is measured of both."""
