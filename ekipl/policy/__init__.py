"""The policy as a source of actions: the model, its families, the shared prefix and the samplers."""
