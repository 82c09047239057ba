"""The gateway: the application, its routes, admission, readiness, metrics, logs."""
