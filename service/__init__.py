"""What answers: the statistics, the backends, the gateway, the command. Installs and passes its tests without torch."""

__version__ = "0.1.0"

if __name__ == "service":  # its name up to 0.1, in this repository's folder
    raise ImportError("`service` is `certify.service` now; `python -m service` is `certify`")
