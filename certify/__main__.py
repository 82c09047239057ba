"""`python -m certify` is `certify`."""

from certify.service.cli.main import app

app()
