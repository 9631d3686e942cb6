"""The policy as something that learns."""
