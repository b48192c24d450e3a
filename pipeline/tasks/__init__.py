"""Whole commands as functions. Imports the stages and all below them, never `commands`."""
