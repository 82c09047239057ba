"""The `certify` command, a file for each subcommand."""
