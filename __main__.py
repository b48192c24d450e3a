"""The `freezeframe` command, also as `python -m freezeframe`."""

from freezeframe.pipeline.support.signals import install_handlers

install_handlers()  # before the slow imports: a signal among them would end in a traceback

from .cli import main  # noqa: E402

if __name__ == "__main__":
    main()
