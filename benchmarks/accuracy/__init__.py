"""Benchmarks of quality against ground truth. Each file prints a Markdown table."""
