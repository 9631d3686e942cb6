"""The update of the policy: batches, DeepSpeed, adapters, training state, ranks."""
