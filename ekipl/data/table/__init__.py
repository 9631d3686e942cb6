"""Rows of one's own in any usual file format (docs/your-data.md)."""
