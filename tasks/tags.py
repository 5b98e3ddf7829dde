"""Words by which one part of the project finds what another has written to MLflow or Prefect."""

# Tag `kind` of an MLflow run.
KINDS = {"retraining": "variant", "crossval": "crossval variant"}  # of a parent run → of its children
MONITORING = "monitoring"  # of a run that has no children

# Tag `decision` of a registered version, and of its retraining.
PROMOTED, NOT_PROMOTED, WAITING = "promoted", "not promoted", "waiting for approval"
COMPARED_WITH = "compared_with"  # tag of a version that met a champion: the champion's number
BY_HAND = "by_hand"  # tag of a version that a person made champion: how, who, why

CLEANED = "artifacts_deleted"  # tag of a run whose artifacts `weathervane clean` removed: the date
BECAME = "became"  # tag of a variant's run: champion or challenger; absent where another variant was the best
OLDER = "older_data"  # tag of a retraining on another version of the data than that of its day

# Labels of a flow run in Prefect.
OWNER = "weathervane.owner"  # the process that it runs in
HOLDS = "weathervane.holds"  # the dataset that it retrains, of one that has its turn
OF = "weathervane.dataset"  # the dataset in whose experiment its MLflow run is
