"""Numbers, tables and summaries as text for a person."""
