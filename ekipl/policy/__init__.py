"""The policy as a source of actions: the model and its families, the shared prefix, the samplers."""
