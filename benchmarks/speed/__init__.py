"""One training step of ekipl beside one of TRL's GRPOTrainer: ``make bench``."""
