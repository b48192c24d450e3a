"""Networks, their weights, and how they run. Imports data only; nothing here knows of videos or commands."""
