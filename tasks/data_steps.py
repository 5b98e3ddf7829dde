"""The steps `ingest`, `prepare` and `restore`: the data of a retraining, taken in, decoded, or brought back."""

from tasks.data import ingest_and_record, prepare_and_record, prepared_version
from tasks.step import step

ingest = step(name="ingest")(ingest_and_record)
prepare = step(name="prepare")(prepare_and_record)
restore = step(name="restore")(prepared_version)
