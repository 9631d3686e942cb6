"""What only a GPU can answer, in one call: ``python -m benchmarks.gpu --all``."""
