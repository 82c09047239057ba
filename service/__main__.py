"""`python -m service` is `certify`."""

from service.cli.main import app

app()
