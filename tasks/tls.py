"""Whose certificates our own requests believe: as the clients of Prefect and MLflow are told to."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext


def trusting(bundle: str | None, insecure: bool) -> "SSLContext | None":
    """Those of a file or folder of authorities, or any at all; None for the system's own.

    Raises:
        OSError: the file is not there, or holds none.
    """
    if not (bundle or insecure):
        return None
    import ssl

    place = Path(bundle) if bundle and not insecure else None
    context = ssl.create_default_context(
        cafile=str(place) if place and not place.is_dir() else None,
        capath=str(place) if place and place.is_dir() else None,
    )
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
