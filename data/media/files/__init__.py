"""Files of any kind: checks before the work, atomic writes, locks, the cache folder, background threads.

Imports only the top of `data`.
"""
