"""Vision-EKIPL: reinforcement learning of vision-language models with external knowledge."""

__version__ = "0.1.0.dev0"
