"""Running: a run directory, its processes and what they leave behind."""
