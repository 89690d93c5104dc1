"""What can go wrong for a user, and how it is told.

The tree::

    UserError            message + hint; shown in two lines, exit status 1
    ├── ConfigError      stack.toml is missing or wrong; carries every mistake
    ├── ProgramError     a program that we ran failed or is missing
    ├── ServiceError     a service did not start or does not answer
    └── ModelError       a model is unknown, damaged or could not be fetched

Anything else that escapes is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Something that the person at the keyboard can put right.

    `message` says what happened and to which key, file or port; `hint` what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(UserError):
    """stack.toml cannot be used. `problems` has one `key.path: what is wrong` a line."""

    def __init__(self, message: str, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.problems = problems


class ProgramError(UserError):
    """A program that aistack runs is missing, too old, or ended with an error."""


class ServiceError(UserError):
    """A service of the stack did not start, died, or does not answer."""


class ModelError(UserError):
    """A model is unknown, damaged, or could not be fetched."""
