"""The page of `weathervane demo`: a photograph, and what the model says of it. Streamlit runs this file for each look.

The version is asked for each time, so a page that stays open follows the alias.
"""

import logging
import os

import numpy as np
import streamlit as st

from flows.demo import DEVICE, MODEL
from tasks.answering import Answering, answering, named
from tasks.tracking_read import check_server, uri
from weathervane import images, project
from weathervane.errors import InputError, masked

SHOWN = 320  # pixels a side


@st.cache_resource(max_entries=1, show_spinner="Loading the model ...")
def loaded(version: str) -> Answering:
    """The model of a version, kept until another answers; `version` alone says which."""
    root = project.root()
    return answering(root, named(root, version), os.environ[DEVICE])


@st.cache_data(ttl=5)
def asked() -> str:
    """The version that answers now; a server is asked once in so many seconds."""
    root = project.root()
    check_server(uri(root))
    version = named(root, os.environ[MODEL])
    return f"models:/{version.name}/{version.version}"


def page() -> None:
    """What is shown, from top to bottom."""
    st.set_page_config(page_title="Weathervane", page_icon="🌦️")
    st.title("Weathervane")
    given = st.file_uploader("A photograph")
    try:
        answers = loaded(asked())
        if given:
            show(answers, given.getvalue())
    except (InputError, images.BadImage) as error:
        st.error(str(error))
    except Exception as error:  # of MLflow's, or no memory: a person reads a line, the log has the rest
        logging.getLogger(__name__).exception("the page failed")
        st.error(masked(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    else:
        st.caption(f"{answers.uri}, trained on data {answers.data}. Nothing that is shown here is kept.")


def show(answers: Answering, data: bytes) -> None:
    """The answer: class, probabilities, and where the evidence is."""
    from weathervane.pictures.occlusion import evidence

    model = answers.model
    probability = model.classify([data])[0]
    best = int(probability.argmax())
    st.header(model.spec.classes[best])
    for number in (-probability).argsort():
        st.progress(float(probability[number]), f"{model.spec.classes[number]} {probability[number]:.1%}")
    pixels = np.array(images.decode(data, SHOWN))
    picture, low, high = evidence(model, pixels, best)
    seen, why = st.columns(2)
    seen.image(pixels, width="stretch", caption="The centre square, which the model sees.")
    least, most, name = f"{low:.1%}", f"{high:.1%}", model.spec.classes[best]
    if least == most:
        why.caption(f"Of {name}, {least} is left wherever a grey square hides a part of it: no place alone decides.")
    else:
        hidden = f"Of {name}, {least} to {most} is left while a grey square hides a part of it"
        why.image(picture, width="stretch", caption=f"{hidden}: least at the yellow places.")


if __name__ == "__main__":
    page()
