"""The zip of real photographs that some measurements are made on."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT = Path(__file__).parents[2] / "shared/data/dataset2.zip"  # where it is looked for if nobody says
Photographs = Annotated[
    Path,
    typer.Option(
        exists=True, dir_okay=False, envvar="WEATHERVANE_PHOTOGRAPHS", help="zip of real photographs, by class"
    ),
]
