"""What ends a command."""


class CommandError(Exception):
    """Say why a command could not do what was asked."""
