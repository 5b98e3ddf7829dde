"""Following a flow run from the terminal, through what may happen to its server."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from httpx import ConnectError, HTTPStatusError, Request, Response
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Running

from flows import trigger
from weathervane.errors import InputError
from weathervane.progress import logger

GET = Request("GET", "http://127.0.0.1:1/api")
AT_WORK = FlowRun(id=uuid4(), flow_id=uuid4(), name="red-fox", state=Running())
DONE = AT_WORK.model_copy(update={"state": Completed(message="dnn: better")})


class Client:
    """Answers in turn; the log comes two lines at a time, and its last line when all others have been read."""

    def __init__(self, *answers: FlowRun | Exception) -> None:
        self.answers = iter(answers)
        self.log, self.late = [line(second) for second in (0, 1, 1, 1, 2)], [line(9)]

    def read_flow_run(self, _: object) -> FlowRun:
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read_logs(self, wanted: LogFilter, offset: int) -> list[Log]:
        after = wanted.timestamp.after_ if wanted.timestamp else None
        found = [one for one in self.log if after is None or one.timestamp >= after][offset:]
        if not found:
            self.log, self.late = self.log + self.late, []
        return found[:2]


def line(second: int) -> Log:
    """A line that this project's logger has sent to Prefect."""
    moment = datetime(2026, 11, 28, 3, 0, second, tzinfo=UTC)
    return Log(name=logger().name, level=20, message=f"line {second}", timestamp=moment, flow_run_id=AT_WORK.id)


def status(code: int) -> HTTPStatusError:
    return HTTPStatusError(str(code), request=GET, response=Response(code, request=GET))


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(trigger, "POLL", 0)
    return lambda *answers: trigger._follow(Client(*answers), AT_WORK)  # type: ignore[arg-type]


def test_a_server_that_is_gone_for_a_moment_is_waited_for(
    follow: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether nothing answers or a proxy before it says 502: it is told once, and what came of the run is told."""
    assert follow(AT_WORK, ConnectError("refused"), status(502), AT_WORK, DONE) == 0
    said = capsys.readouterr().out
    assert said.count("does not answer") == 1 and "Completed: dnn: better" in said


def test_the_last_lines_are_shown(follow: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """Each line once, though the server gives so many at a time, and has the last ones after the run's end."""
    assert follow(DONE) == 0
    said = [text.partition("  ")[2] for text in capsys.readouterr().out.splitlines() if "line" in text]
    assert said == [f"line {second}" for second in (0, 1, 1, 1, 2, 9)]


def test_an_option_of_another_flow_is_refused() -> None:
    """A server lets through what a flow does not take, and its run would crash: it is refused before, with what there
    is to choose from."""
    taken = {"properties": {"source": {}, "changes": {}, "time_limit": {}}}
    deployment = DeploymentResponse.model_construct(parameter_openapi_schema=taken)
    trigger._check("predict", deployment, {"source": "docs", "changes": []})
    with pytest.raises(InputError, match="predict does not take --folds; its options: --source, --set, --time-limit"):
        trigger._check("predict", deployment, {"source": "docs", "folds": 3})


def test_a_run_that_was_deleted_is_told(follow: Callable[..., int]) -> None:
    """Not as a traceback, nor as a run that failed."""
    with pytest.raises(InputError, match=r"^flow run red-fox is gone"):
        follow(AT_WORK, ObjectNotFound(status(404)))


def test_a_refusal_is_no_matter_of_time(follow: Callable[..., int]) -> None:
    """A password that was changed meanwhile does not come back."""
    with pytest.raises(HTTPStatusError):
        follow(AT_WORK, status(401))
