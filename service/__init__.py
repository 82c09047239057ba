"""The gateway: HTTP, admission, the cascade state machine. Installs and passes its tests without torch."""

__version__ = "0.1.0"
