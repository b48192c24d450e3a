"""Full-reference and temporal quality metrics. May import `data.srgb`, `data.color` and `data.blur`."""
