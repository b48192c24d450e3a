"""The typer functions of the command line, one file per command.

Imports all of `pipeline`; heavy modules are imported inside the commands, so that --help answers at once.
"""
