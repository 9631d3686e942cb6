"""The embedded default policy: a genuine Qwen2-VL of about 1.5 million parameters, and the script that builds it."""
