"""Training of the networks: one loop, one task per network. Imports `stages`, `support` and below."""
