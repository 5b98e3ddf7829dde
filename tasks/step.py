"""What all Prefect tasks of ours share: nothing is cached, and no error takes a secret into Prefect's database."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from weathervane.errors import without_secrets


def step(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Prefect's `task`, with these options, for functions of ours."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    def made(work: Callable[..., Any]) -> Any:
        @wraps(work)
        def worked(*arguments: Any, **named: Any) -> Any:
            with without_secrets():
                return work(*arguments, **named)

        # A result that is kept is pickled, and unpickled by whoever asks for it.
        named = {"task_run_name": options["name"]}  # else Prefect adds digits that tell nothing
        return task(**{"cache_policy": NO_CACHE, "persist_result": False, **named, **options})(worked)

    return made
