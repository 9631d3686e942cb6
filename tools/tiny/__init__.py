"""How the checkpoint behind ``model=tiny`` is built."""
