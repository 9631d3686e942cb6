"""Measurements that the documentation quotes. Each writes the file it is quoted from."""
