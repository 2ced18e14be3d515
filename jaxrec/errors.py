"""What a user got wrong; without jax, so that a command refuses a wrong flag at once."""


class InputError(ValueError):
    """Bad input from a user: its message says all they need, and a command prints it alone and exits with status 2."""
