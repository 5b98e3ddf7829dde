"""What a person can put right, and how it is told."""

import re


class InputError(ValueError):
    """Bad input: the message names the file or the parameter, what is wrong with it, and the way out.

    The command line prints it as one line and ends with status 2; nothing has been written.
    """


class TrainingError(RuntimeError):
    """A variant could not be trained: the message says at which epoch and why."""


class Interrupted(RuntimeError):
    """Somebody asked the training to stop; its checkpoint is written and the same call goes on from there."""


def masked(text: str) -> str:
    """The text with user and password of every URL in it left out."""
    return re.sub(r"://[^/\s]*@", "://***@", text)
