"""`python -m certify` is `certify`."""

from certify.service.cli.main import app

if __name__ == "__main__":  # not in the processes that decode pictures, which import the main module
    app()
