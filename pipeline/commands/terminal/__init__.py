"""Options, parser, messages and progress bar of the commands. Imports no task."""
