"""`python -m certify` is `certify`."""

import sys

__all__ = ("main",)


def main() -> None:
    """The command. Loading it takes a while, in which Ctrl-C ends it as it does later: without a traceback."""
    try:
        from certify.service.cli.main import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":  # not in the processes that decode pictures, which import the main module
    main()
