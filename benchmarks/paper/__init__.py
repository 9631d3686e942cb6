"""The comparison of the paper on the tiny model: ``make paper``."""
