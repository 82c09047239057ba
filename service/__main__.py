"""`python -m service` is `certify`."""

from service.cli import app

app()
