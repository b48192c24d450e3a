"""Benchmarks of time and memory. Each file prints a Markdown table."""
