"""The one error that this package raises for what a person can put right."""


class RefusedError(Exception):
    """Say what was refused, why, and what to do about it; the message is all that a person sees."""
