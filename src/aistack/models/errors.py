"""The one failure of a model source that its callers must tell from the others."""

from aistack.errors import ModelError


class HubUnreachable(ModelError):
    """The hub or registry could not be reached, or would not serve now: trying later may help.

    `retry_after_s` is what it asked for, if it did. A model that does not exist is a plain ModelError.
    """

    def __init__(self, message: str, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s
