"""Reporting: numbers in, tables and figures out."""
