"""What no log and no traceback may hold, and where the passwords of addresses belong."""

import logging
import sys
import traceback
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from weathervane.errors import masked


def keep_secrets() -> None:
    """From now on no logger's record, and no traceback that ends the process, holds a secret."""
    usual = logging.getLogRecordFactory()
    if not isinstance(usual, _Masked):
        logging.setLogRecordFactory(_Masked(usual))
        sys.excepthook = _say_masked


class _Masked:
    """Makes log records, with message and traceback masked where need be."""

    def __init__(self, usual: Any) -> None:
        self.usual = usual

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.usual(*arguments, **named)
        try:
            text = record.getMessage()
        except Exception:  # whoever shows it tells of arguments that do not fit
            return record
        if (told := masked(text)) != text:
            record.msg, record.args = told, ()
        if record.exc_info and record.exc_info[0]:
            record.exc_text = masked(logging.Formatter().formatException(record.exc_info))
        return record


def _say_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def parted(url: str) -> tuple[str, str, str]:
    """The URL of a web server without its user and password, and these."""
    if not url.startswith(("http://", "https://")):
        return url, "", ""
    try:
        parts = urlsplit(url)
    except ValueError:  # whoever uses it says so
        return url, "", ""
    both, _, host = parts.netloc.rpartition("@")
    user, _, password = both.partition(":")
    return parts._replace(netloc=host).geturl(), unquote(user), unquote(password)
