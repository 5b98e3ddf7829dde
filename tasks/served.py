"""The model as everybody else's tools see it: an MLflow pyfunc "from code", which pickles nothing.

In: a column `image` of photograph bytes (base64 over HTTP). Out, a row an image: `class`, `probability`, and
`p_<class>` for each class. MLflow runs this file where it loads the model, with the weathervane package that
was logged beside it.
"""

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class Weather(PythonModel):
    """Photographs to class probabilities."""

    def load_context(self, context: PythonModelContext) -> None:
        """Weights from safetensors + JSON."""
        from pathlib import Path

        from weathervane.model import Model

        self.model = Model.load(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Refuses strings: a served model must not read its host's files."""
        from weathervane.images import BadImage

        photographs = list(model_input["image"])
        for number, data in enumerate(photographs):
            if not isinstance(data, bytes):
                raise MlflowException.invalid_parameter_value(
                    f"row {number}: image bytes are expected, not {type(data).__name__}"
                )
        try:
            probability = self.model.classify(photographs)
        except BadImage as error:
            raise MlflowException.invalid_parameter_value(f"an image cannot be used: {error}") from None
        classes = self.model.spec.classes
        best = probability.argmax(1)
        out = pd.DataFrame({"class": [classes[number] for number in best], "probability": probability.max(1)})
        for number, label in enumerate(classes):
            out[f"p_{label}"] = probability[:, number]
        return out.astype({column: "float64" for column in out.columns if column != "class"})


set_model(Weather())
