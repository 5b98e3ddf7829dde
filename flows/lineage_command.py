"""`weathervane lineage` and `reproduce`: where a model comes from, who met an image, and the same model once more."""

from tasks import lineage
from tasks.data import dataset_of
from tasks.tracking_inventory import inventory
from tasks.tracking_read import moment, tracked_root
from weathervane.errors import TrainingError
from weathervane.progress import say, tabulate


def show(what: str) -> None:
    """Print where a model comes from, or which models met an image or a version of the data."""
    root = tracked_root()
    if not lineage.names_a_model(what):
        return _show_users(lineage.users(root, what))
    stock = inventory(root)
    version = lineage.find(stock, what, dataset_of(root))
    for name, text in lineage.origin(root, stock, version).items():
        say(f"{name:<12}{text}")


def reproduce(what: str) -> int:
    """Make a model once more and say whether it came out the same; the exit status: 1 if it did not."""
    from tasks import reproduce as again

    root = tracked_root()
    stock = inventory(root)
    version = lineage.find(stock, what, dataset_of(root))
    try:
        found = again.reproduce(root, stock, version)
    except TrainingError as error:
        say(f"failed: {error}")
        return 1
    for text in found.different:
        say(f"not as it was then: {text}")
    if found.same_weights:
        say(f"{version}: reproduced, the same weights to the last bit (sha256 {found.weights[0]})")
        return 0
    say("weights     sha256 {} → {}".format(*found.weights))
    say("validation  accuracy {:.3f} → {:.3f}, loss {:.3f} → {:.3f}".format(*found.accuracy, *found.loss))
    allowed = f"accuracy within {again.ACCURACY}, loss within {again.LOSS}"
    if found.holds:
        say(f"{version}: reproduced, but for what may come of that difference ({allowed})")
    elif found.different:
        say(f"{version}: not reproduced: further off than that difference explains ({allowed})")
    else:
        say(f"{version}: not reproduced: data, parameters, code, libraries and machine are the same, the weights not")
    return 0 if found.holds else 1


def _show_users(found: lineage.Users) -> None:
    say(found.what)
    if found.uses:
        rows = [[use.model, use.variant, moment(use.ended), use.data_md5[:12], use.how] for use in found.uses]
        tabulate(["model", "variant", "trained (UTC)", "data", "what it was to it"], rows)
    else:
        say("no model has met it")
    for md5 in found.unread:
        say(f"not looked into: data {md5}: not in DVC's cache: 'dvc fetch --all-commits' if a remote has it")
