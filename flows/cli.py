"""The command line, `weathervane`. Help, wrong input and nothing to do are answered before anything heavy loads."""

import errno
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.sections import Sections

TRAINING, MODELS, PHOTOGRAPHS = "Training", "Models", "Photographs without labels"
RECORD, TEAM = "Data and runs", "A team's servers"
app = typer.Typer(
    cls=Sections,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"weathervane {version('weathervane')}")
        raise typer.Exit


@app.callback()
def weathervane(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Retrain image classifiers, compare them, and keep a champion."""


FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
MAX_SEED = 2**32 - 1  # as in weathervane.params, which is not loaded here
Variants = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Names from params/models, several at once; 'weathervane variants' says which by default."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="train.epochs=5 for all, cnn.train.epochs=5 for one variant."),
]


def _device(text: str) -> str:
    from weathervane.errors import InputError
    from weathervane.params import DEVICE

    if not re.fullmatch(DEVICE, text):
        raise InputError(f"--device {text}: it is one of auto, cpu, mps, cuda, and cuda:1 and so on")
    return text


Device = Annotated[str, typer.Option(metavar="DEVICE", callback=_device, help="auto, cpu, cuda, cuda:1 or mps.")]
Model = Annotated[
    str,
    typer.Option(metavar="MODEL", help="models:/weather/7, models:/weather@champion, or 7; the champion by default."),
]
DataVersion = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="Train on another version of the data; see 'weathervane data versions'."),
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")]


@app.command(rich_help_panel=TRAINING)
def retrain(
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="A folder, a zip or tar archive, 'mendeley' or 'synthetic': becomes the project's source.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the dataset and of its registered model; 'weather' on a first source of your own.",
        ),
    ] = None,
    variants: Variants = None,
    set_: Changes = None,
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Of initialisation, order and augmentation.")
    ] = 0,
    data_version: DataVersion = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0.01,
            help="Minutes that one variant may train, all tries together; it fails after that.",
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="How many train a variant together, each on a GPU of its own if there are any."
        ),
    ] = 1,
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0.001,
            help="GB of pixels to keep on the device (default: half its memory); more are read by batch.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what would be trained, why, and about how long; train nothing."),
    ] = False,
) -> None:
    """Go from the sources to a decision about the champion.

    Does nothing where nothing changed.
    """
    from flows.retrain_command import Request, run_retrain

    request = Request(
        source=source,
        dataset=dataset,
        variants=variants,
        changes=set_ or [],
        device=device,
        seed=seed,
        data_version=data_version,
        time_limit=time_limit,
        processes=processes,
        memory=memory,
        plan_only=plan,
    )
    raise typer.Exit(run_retrain(request))


@app.command(rich_help_panel=TRAINING)
def crossval(
    folds: Annotated[int, typer.Option(metavar="N", help="As many trainings a variant, each without one of them.")] = 5,
    variants: Variants = None,
    set_: Changes = None,
    share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the images to learn from: a learning curve's step.")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Of folds, initialisation, order and augmentation.")
    ] = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the table there: .json for all of it, .md to read.")
    ] = None,
) -> None:
    """Compare variants on all images by cross-validation.

    Each image is predicted by a model that saw none like it; nothing is registered.
    """
    from flows.crossval_command import Request, run_crossval

    raise typer.Exit(
        run_crossval(
            Request(variants=variants, changes=set_ or [], folds=folds, share=share, seed=seed, device=device, out=out)
        )
    )


@app.command(rich_help_panel=PHOTOGRAPHS)
def predict(
    source: Annotated[str, typer.Argument(help="A folder, a zip or tar archive, or a pattern such as 'photos/*.jpg'.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .parquet, .csv or .jsonl: a row a photograph.")],
    model: Model = "",
    device: Device = "auto",
) -> None:
    """Score photographs without labels.

    Started again after a kill, it scores what is missing.
    """
    from flows import model_commands

    model_commands.predict(source, out, model, device)


@app.command(rich_help_panel=PHOTOGRAPHS)
def monitor(
    source: Annotated[
        str, typer.Argument(help="A folder, an archive, a pattern or a table of predictions; params/monitor.yaml's.")
    ] = "",
    days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Of a folder, only files that changed in so many days; 0: all."),
    ] = None,
    model: Model = "",
    device: Device = "auto",
) -> None:
    """Say whether new photographs still look like the training data."""
    from flows import model_commands

    model_commands.monitor(source, days, model, device)


@app.command(rich_help_panel=PHOTOGRAPHS)
def suggest(
    source: Annotated[str, typer.Argument(help="A folder, an archive, a pattern, or a table that predict wrote.")],
    n: Annotated[int, typer.Option("--n", metavar="N", min=1, help="How many.")] = 50,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder: they, contact sheets and a table.")] = Path(
        "suggested"
    ),
    model: Model = "",
    device: Device = "auto",
) -> None:
    """Choose the photographs most worth a label.

    The model is unsure of them, or they are unlike what it has learnt from; each kind once.
    """
    from flows import model_commands

    model_commands.suggest(source, n, out, model, device)


@app.command(rich_help_panel=MODELS)
def export(
    model: Annotated[str, typer.Argument(help="models:/weather@champion, models:/weather/7, or 7.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="onnx.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file; dataset and version in the working folder by default."),
    ] = None,
) -> None:
    """Write a model for other runtimes.

    The file is kept only if it gives what the model gives; says how fast both are.
    """
    from flows import model_commands

    model_commands.export(model, to, out)


@app.command(rich_help_panel=TRAINING)
def variants() -> None:
    """List the variants with the comments that head their files."""
    from weathervane import project, variant
    from weathervane.progress import say

    root = project.root()
    for name in variant.names(root):
        only = "" if variant.load(root, name).by_default else " (only when named)"
        say(f"{name}{only}\n  " + variant.header(root, name).replace("\n", "\n  "))


data = typer.Typer(no_args_is_help=True, help="Look at data before it is taken in, and at its versions.")
app.add_typer(data, name="data", rich_help_panel=RECORD)


@data.command()
def check(
    source: Annotated[str, typer.Argument(help="A folder, a zip or tar archive, synthetic, or mendeley.")],
) -> None:
    """Say what would become of a source's files.

    Takes nothing in. The exit status is 2 if they are too few for a dataset, or cannot join the one that is there.
    """
    from flows.data_command import check

    raise typer.Exit(0 if check(source) else 2)


@data.command("versions")
def data_versions() -> None:
    """List the versions of data/raw.

    Each with its md5, its date, its images a class, and what changed.
    """
    from flows.data_command import list_versions

    list_versions()


@data.command("diff")
def data_diff(
    old: Annotated[str, typer.Argument(help="An md5, the beginning of one, or a git revision.")],
    new: Annotated[str, typer.Argument(help="Likewise.")],
) -> None:
    """Say what was added, removed, relabelled between two versions."""
    from flows.data_command import show_difference

    show_difference(old, new)


@data.command("gc")
def data_gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, it is only shown.")] = False,
    heads_only: Annotated[
        bool, typer.Option("--heads-only", help="Of git, keep what branches and tags name, not what older commits do.")
    ] = False,
) -> None:
    """Say which models need which data; remove what nobody needs.

    What nobody needs goes from DVC's cache, with --yes.
    """
    from flows.maintenance_command import collect_data

    collect_data(yes, heads_only)


runs = typer.Typer(no_args_is_help=True, help="Look after runs that nobody works at any more.")
app.add_typer(runs, name="runs", rich_help_panel=RECORD)


@runs.command("clean")
def runs_clean() -> None:
    """End the runs whose process is gone.

    They end in MLflow and in Prefect, with the reason.
    """
    from flows.maintenance_command import end_dead

    end_dead()


@app.command(rich_help_panel=MODELS)
def promote(
    version: Annotated[str, typer.Argument(help="Number of a version of the dataset's registered model.")],
    why: Annotated[str, typer.Option(metavar="REASON", help="The reason; it stays on record.")],
) -> None:
    """Make a version champion, whatever the gate said."""
    from flows.promote_command import promote

    promote(version, why)


@app.command(rich_help_panel=MODELS)
def rollback(
    why: Annotated[str, typer.Option(metavar="REASON", help="The reason; it stays on record.")] = "rolled back",
) -> None:
    """Make the previous champion champion again."""
    from flows.promote_command import rollback

    rollback(why)


@app.command(rich_help_panel=MODELS)
def history() -> None:
    """List the champion's moves: when, by whom, on what evidence."""
    from flows.promote_command import show_history

    show_history()


@app.command(rich_help_panel=MODELS)
def lineage(
    what: Annotated[
        str, typer.Argument(help="models:/weather@champion, models:/weather/7, 7; or an image, a sha256, a data md5.")
    ],
) -> None:
    """Say what a model was made of, or which models met an image.

    WHAT may be a version of the data, too.
    """
    from flows.lineage_command import show

    show(what)


@app.command(rich_help_panel=TRAINING)
def reproduce(
    model: Annotated[str, typer.Argument(help="models:/weather/7, models:/weather@champion, or 7.")],
) -> None:
    """Train a model again from its record, and say if it is equal."""
    from flows.lineage_command import reproduce

    raise typer.Exit(reproduce(model))


@app.command(rich_help_panel=RECORD)
def clean(
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="24h, 90d or 12w, for everything; params/retention.yaml by default."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, it is only shown.")] = False,
) -> None:
    """Remove old artifacts, versions and leftovers nobody needs.

    The bytes of quarantined files are among them.
    """
    from flows.maintenance_command import clean

    raise typer.Exit(clean(older_than, yes))


@app.command(rich_help_panel=RECORD)
def backup(file: Annotated[Path, typer.Argument(help="The tar file to write.")]) -> None:
    """Write mlflow.db and mlruns/ to one file.

    Runs may go on meanwhile.
    """
    from flows.maintenance_command import backup

    backup(file)


@app.command(rich_help_panel=RECORD)
def restore(
    file: Annotated[Path, typer.Argument(help="A file that 'weathervane backup' wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Set aside the store that is there.")] = False,
) -> None:
    """Put a backup in place, once all of it has been checked.

    It may be another clone than the one that it was made in.
    """
    from flows.maintenance_command import restore

    restore(file, force)


@app.command(rich_help_panel=TEAM)
def notify(
    kind: Annotated[str, typer.Argument(help="slack, teams, discord, webhook or email.")],
    block: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name in params/notify.yaml; weathervane-KIND by default.")
    ] = None,
) -> None:
    """Store an address for notifications on Prefect's server.

    You are asked for it, unless WEATHERVANE_NOTIFY_URL holds it; it gets a test message first.
    """
    from flows.notify_command import store

    store(kind, block)


@app.command(rich_help_panel=RECORD)
def ui(
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")] = 5000,
    open_: Open = True,
) -> None:
    """Show the runs in MLflow's pages, on loopback, until Ctrl-C."""
    from flows.ui import serve

    raise typer.Exit(serve(port, open_))


@app.command(rich_help_panel=PHOTOGRAPHS)
def demo(
    model: Model = "",
    device: Device = "auto",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")] = 8501,
    open_: Open = True,
) -> None:
    """Serve a page that shows a model's answer to a photograph.

    It is served on loopback, until Ctrl-C.
    """
    from flows.demo import serve

    raise typer.Exit(serve(model, device, port, open_))


@app.command(rich_help_panel=TEAM)
def up(
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Of Prefect's server; 0 takes a free one.")
    ] = 4200,
    mlflow_port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Of MLflow's server; likewise.")
    ] = 5000,
    auth: Annotated[
        bool, typer.Option("--auth", help="Both servers ask for a password; see docs/operations.md.")
    ] = False,
) -> None:
    """Run a team's servers, deployments and worker until Ctrl-C.

    The servers are Prefect's and MLflow's, and listen on loopback.
    """
    from flows.up import up

    raise typer.Exit(up(port, mlflow_port, auth))


@app.command(rich_help_panel=TEAM)
def deploy() -> None:
    """Put the deployments of prefect.yaml on the Prefect server.

    Makes the work pool and the automations as well. PREFECT_API_URL or a profile names the server.
    """
    from flows.deploy import deploy

    raise typer.Exit(deploy())


@app.command(rich_help_panel=TEAM)
def worker() -> None:
    """Work in this clone for the Prefect server, until Ctrl-C.

    PREFECT_API_URL or a profile names the server.
    """
    from flows.worker import work

    raise typer.Exit(work())


@app.command(rich_help_panel=TEAM)
def trigger(
    flow: Annotated[
        str,
        typer.Argument(
            help="First: retrain, ingest, crossval, predict, monitor, or a deployment as in retrain/nightly."
        ),
    ],
    variants: Variants = None,
    set_: Changes = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps, of the worker.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Of initialisation, order and augmentation.")
    ] = None,
    data_version: DataVersion = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0.01, help="Minutes that a variant may train.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many train a variant together.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", min=0.001, help="GB of pixels on the worker's device.")
    ] = None,
    folds: Annotated[int | None, typer.Option(metavar="N", help="Of crossval: trainings a variant.")] = None,
    share: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of crossval: of the images to learn from.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Of predict or monitor, on the worker's machine.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Of monitor: only files that changed in so many.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Of predict, on the worker's machine.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Of predict or monitor.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until it is done; show what it says, and what came of it.")
    ] = False,
) -> None:
    """Have a team's servers run a flow, from any machine.

    PREFECT_API_URL and MLFLOW_TRACKING_URI say where they are.
    """
    from flows.trigger import trigger

    given: dict[str, object] = {
        "variants": variants,
        "changes": set_,
        "device": device,
        "seed": seed,
        "data_version": data_version,
        "time_limit": time_limit,
        "processes": processes,
        "memory": memory,
        "folds": folds,
        "share": share,
        "source": source,
        "days": days,
        "out": out,
        "model": model,
    }
    raise typer.Exit(trigger(flow, {name: value for name, value in given.items() if value is not None}, wait))


def main() -> None:
    """Entry point: exit status 0 done, unchanged or not promoted; 1 it failed; 2 bad input; 130 interrupted."""
    from flows.beside import hint
    from flows.environment import apply
    from flows.service import ServerError
    from weathervane.errors import InputError, without_secrets

    try:
        apply()
        if not {"up", "--help"} & set(sys.argv) and (told := hint()):
            print(f"weathervane: {told}", file=sys.stderr)
        with without_secrets():
            app(args=_spread(sys.argv[1:]), prog_name="weathervane")
    except InputError as error:
        print(f"weathervane: {error}", file=sys.stderr)
        sys.exit(2)
    except ServerError as error:
        print(f"weathervane: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in FORBIDDEN or error.filename is None:
            raise
        way_out = "work where it can be written"
        if error.errno != errno.EROFS:
            way_out = "give this user the right to ('chmod', 'chown')"
        print(f"weathervane: {error.filename}: {error.strerror}: {way_out}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("weathervane: interrupted", file=sys.stderr)
        sys.exit(130)


def _spread(arguments: list[str]) -> list[str]:
    """`--variants cnn lstm` as `--variants cnn --variants lstm`, and `--set` likewise.

    Raises:
        InputError: one of them without a value, as an empty $VARIANTS leaves it.
    """
    from weathervane.errors import InputError

    out: list[str] = []
    option = ""
    for argument, after in zip(arguments, [*arguments[1:], "-"], strict=False):
        if argument.startswith("-"):
            option = argument if argument in ("--variants", "--set") else ""
            if option and after.startswith("-"):
                raise InputError(f"{option}: a value is missing")
            out += [] if option else [argument]
        else:
            out += [option, argument] if option else [argument]
    return out


if __name__ == "__main__":
    main()
