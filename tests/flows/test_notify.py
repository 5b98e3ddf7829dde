"""Notifications, from a flow run's end to what arrives: a real Prefect server, and receivers on loopback."""

import datetime
import email.policy
import http.server
import ipaddress
import json
import os
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from jinja2 import Environment

from flows.notify import KINDS, Notify, block, body, read
from tests.conftest import ROOT
from weathervane.errors import InputError
from weathervane.params import check

OVERDUE, WITHIN = 45, 12  # seconds, instead of days, an hour and 90 s
TARGETS = """
targets:
- {kind: slack, block: weathervane-slack, on: [failure, promotion, approval, overdue]}
- {kind: teams, block: weathervane-teams, on: [failure]}
- {kind: discord, block: weathervane-discord, on: [failure]}
- {kind: webhook, block: weathervane-webhook, on: [failure]}
- {kind: email, block: weathervane-email, on: [failure]}
- {kind: webhook, block: gone, on: [failure]}
"""
SETUP = f"""
import json, os, sys
from datetime import timedelta
from pathlib import Path
from flows import automations, notify
from flows.notify_command import VARIABLE, store

automations.LATE = automations.SILENCE = timedelta(seconds={WITHIN})
notify.RETRY = {{"retry": "1", "wait": "0"}}
for target in notify.read(Path.cwd()).targets:
    os.environ[VARIABLE] = json.loads(sys.argv[1])[target.block]
    store(target.kind, target.block)
notify.block("webhook", sys.argv[2]).save("gone", overwrite=True)  # and its webhook is deleted later
for _ in range(2):
    print(automations.ensure_automations(Path.cwd())[0])
"""
RUNS = """
import time
from prefect import flow
from prefect.states import Completed

@flow(name="retrain")
def retrain(how):
    if how == "failed":
        raise ValueError("no <image> & @everyone, {{ url }}" + "!" * 3000)
    if how == "hangs":
        time.sleep(3)  # its first heartbeat gets out
        print("now", flush=True)
        time.sleep(600)
    return Completed(name=how, message="weather 3 is champion, it was 2")

@flow(name="another")
def another():
    raise ValueError("not ours")

for run in (another, lambda: retrain("failed"), lambda: retrain("Promoted"), lambda: retrain("Unchanged")):
    try:
        run()
    except ValueError:
        pass
retrain("hangs")
"""


@dataclass
class Receivers:
    """Servers on loopback that take what is sent: HTTP, the same over TLS, and SMTP."""

    folder: Path
    posts: list[tuple[str, Any, float]] = field(default_factory=list)  # (path, JSON, when), as they came
    mails: list[Any] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def sent(self, name: str, with_: str = "") -> list[Any]:
        """What came to the path with this name and holds these words, so far."""
        return [post for path, post, _ in list(self.posts) if f"/{name}" in path and with_ in json.dumps(post)]


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receivers]:
    out = Receivers(tmp_path_factory.mktemp("receivers"))

    class Web(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            out.posts.append((self.path, sent, time.time()))
            self.send_response(404 if "/gone" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Mail(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            letter: list[str] | None = None
            for raw in self.rfile:
                line = raw.decode().rstrip("\r\n")
                if letter is not None:
                    if line != ".":
                        letter.append(line)
                        continue
                    out.mails.append(email.message_from_string("\n".join(letter), policy=email.policy.default))
                    letter = None
                    self.say("250 taken")
                elif line.upper() == "DATA":
                    letter = []
                    self.say("354 go on")
                else:
                    self.say({"EHLO": "250-here\r\n250 AUTH PLAIN", "AUTH": "235 in"}.get(line[:4].upper(), "250 yes"))

        def say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    web, safe = (http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) for _ in range(2))
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
    mail.daemon_threads = True
    make_certificate(out.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(out.certificate, out.folder / "key.pem")
    safe.socket = context.wrap_socket(safe.socket, server_side=True)
    for name, server in {"http": web, "https": safe, "smtp": mail}.items():
        out.ports[name] = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield out
    for server in (web, safe, mail):
        server.shutdown()
        server.server_close()


def make_certificate(folder: Path) -> None:
    """Of 127.0.0.1, by itself: certificate.pem and key.pem."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@dataclass(frozen=True)
class Team:
    """A Prefect server that stays up, with five targets and a sixth whose webhook is gone."""

    folder: Path
    api: str
    env: dict[str, str]
    setup: str  # what was said when the addresses were stored and the automations made

    def state(self, name: str) -> list[Any]:
        """Flow runs in the state of this name."""
        return list(ask(f"{self.api}/flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": [name]}}}}))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, receivers: Receivers, prefect_database: Path) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "home").mkdir()
    shutil.copyfile(prefect_database, folder / "home/prefect.db")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "2",
        "REQUESTS_CA_BUNDLE": str(receivers.certificate),
    }
    (folder / "params").mkdir()
    (folder / "dvc.yaml").touch()
    (folder / "params/notify.yaml").write_text(f"{TARGETS}overdue_days: {OVERDUE / 86400}\n")
    http, https, smtp = (receivers.ports[name] for name in ("http", "https", "smtp"))
    addresses = {
        "weathervane-slack": f"http://127.0.0.1:{http}/slack/T1/B1/CANARY",
        "weathervane-teams": f"https://127.0.0.1:{https}/workflows/teams/triggers/manual/paths/invoke"
        "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=CANARY",
        "weathervane-discord": f"http://127.0.0.1:{http}/discord/1/CANARY",
        "weathervane-webhook": f"http://127.0.0.1:{http}/hook?token=CANARY%2B%2F1",
        "weathervane-email": f"mailto://team:CANARY@127.0.0.1:{smtp}?from=a@example.org&to=b@example.org",
        "gone": f"http://127.0.0.1:{http}/hook/CANARY",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"{env['PREFECT_API_URL']}/health", server, folder / "server.log")
        setup = [sys.executable, "-c", SETUP, json.dumps(addresses), f"http://127.0.0.1:{http}/gone/CANARY"]
        done = subprocess.run(setup, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        yield Team(folder, env["PREFECT_API_URL"], env, done.stdout + done.stderr)
    finally:
        end(server)


def wait_for(page: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)


def end(process: "subprocess.Popen[bytes]") -> None:
    """With whatever it started."""
    if process.poll() is not None:
        return
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=10)
    for survivor in alive:
        survivor.kill()
    process.wait()


@dataclass(frozen=True)
class Runs:
    """Runs of `retrain` that failed, promoted, found nothing to do and were killed, and some of a deployment."""

    late: str  # flow run that nobody takes up
    taken: str  # one that somebody does
    suspended: str  # one that was suspended, with a heartbeat


@pytest.fixture(scope="module")
def runs(team: Team) -> Runs:
    (team.folder / "runs.py").write_text(RUNS)
    with (team.folder / "runs.log").open("w") as log:
        command = [sys.executable, str(team.folder / "runs.py")]
        process = subprocess.Popen(command, env=team.env, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout and process.stdout.readline() == "now\n"
    process.kill()
    process.wait()
    (flow,) = ask(f"{team.api}/flows/filter", {"flows": {"name": {"any_": ["retrain"]}}})
    deployment = ask(f"{team.api}/deployments/", {"name": "nightly", "flow_id": flow["id"]})
    create = f"{team.api}/deployments/{deployment['id']}/create_flow_run"
    late, taken, suspended = (ask(create, {})["id"] for _ in range(3))
    eventually(lambda: len(team.state("Late")) == 3)
    for run in (taken, suspended):
        for state in ("PENDING", "RUNNING"):
            ask(f"{team.api}/flow_runs/{run}/set_state", {"state": {"type": state}})
    ask(f"{team.api}/flow_runs/{suspended}/set_state", {"state": {"type": "PAUSED", "name": "Suspended"}})
    heartbeat(team, suspended, flow["id"])  # arrives late, as it may
    return Runs(late, taken, suspended)


def ask(url: str, body: object) -> Any:
    """Prefect's REST API, which answers 503 while another of its parts writes to the database."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.2)


def heartbeat(team: Team, run: str, flow: str) -> None:
    """As Prefect's engine sends them."""
    related = {"prefect.resource.id": f"prefect.flow.{flow}", "prefect.resource.role": "flow"}
    event = {
        "occurred": datetime.datetime.now(datetime.UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [related | {"prefect.resource.name": "retrain"}],
        "id": str(uuid.uuid4()),
    }
    ask(f"{team.api}/events", [event])


def eventually(found: Callable[[], Any], within: float = 120) -> Any:
    deadline = time.monotonic() + within
    while not (out := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.3)
    return out


@pytest.mark.slow
def test_an_address_is_stored_once_its_test_message_got_there(team: Team, receivers: Receivers) -> None:
    """`weathervane notify` sends through the very block that it stores, and says what to do next."""
    assert team.setup.count("a test message was taken") == 6
    assert "add to the targets" not in team.setup  # they stand there already
    tests = [receivers.sent(name, "a test") for name in ("slack", "teams", "discord", "hook")]
    assert [len(found) for found in tests] == [1, 1, 1, 2]
    assert len(receivers.mails) >= 1


@pytest.mark.slow
def test_automations_are_made_once(team: Team) -> None:
    """A second deployment changes nothing, so that no clock of an alarm is set back by it."""
    made, again = team.setup.splitlines()[-2:]
    assert made.count("automation made") == 7
    assert again == "[]"


@pytest.mark.slow
def test_a_failure_is_told_in_each_form(team: Team, runs: Runs, receivers: Receivers) -> None:
    """What failed, why and a link arrive at Slack, Teams, Discord, a webhook and a mailbox, each in its own form."""
    (slack,) = eventually(lambda: receivers.sent("slack", "retrain failed"))
    (failed,) = (run for run in team.state("Failed") if "not ours" not in run["state"]["message"])
    link = f"{team.api.removesuffix('/api')}/runs/flow-run/{failed['id']}"
    lines = slack["text"].splitlines()
    assert set(slack) == {"text"}
    assert lines[0] == "Weathervane: retrain failed"
    assert lines[1].startswith(
        f"{failed['name']}: Flow run encountered an exception: ValueError: no &lt;image&gt; &amp; @"
    )
    assert lines[1].endswith("...") and "{{ url }}" in lines[1]
    assert lines[2] == link

    (teams,) = eventually(lambda: receivers.sent("teams", "retrain failed"))
    (attachment,) = teams["attachments"]
    assert teams["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["type"] == "AdaptiveCard"
    title, text = (part["text"] for part in attachment["content"]["body"])
    assert title == lines[0] and "no <image> & @everyone" in text and f"({link})" in text

    (discord,) = eventually(lambda: receivers.sent("discord", "retrain failed"))
    assert set(discord) == {"content"} and link in discord["content"]
    assert "@everyone" not in discord["content"] and len(discord["content"]) < 2000

    (hook,) = eventually(
        lambda: [post for post in receivers.sent("hook?token=CANARY%2B%2F1") if "failed" in post["subject"]]
    )
    assert set(hook) == {"subject", "text"} and link in hook["text"]

    (mail,) = eventually(lambda: [mail for mail in receivers.mails if "failed" in mail["Subject"]])
    assert (mail["Subject"], mail["To"]) == ("Weathervane: retrain failed", "b@example.org")
    assert "no <image> & @everyone" in mail.get_content() and link in mail.get_content()


@pytest.mark.slow
def test_other_flows_are_none_of_our_business(team: Team, runs: Runs, receivers: Receivers) -> None:
    """A server may be shared: runs of other flows are told to nobody."""
    eventually(lambda: receivers.sent("slack", "retrain failed"))
    assert len(team.state("Failed")) == 2
    assert receivers.sent("slack", "not ours") == []


@pytest.mark.slow
def test_a_promotion_is_told_to_those_who_asked(team: Team, runs: Runs, receivers: Receivers) -> None:
    """The new champion is told in the words of the run's last state, once, and not to the others."""
    (slack,) = eventually(lambda: receivers.sent("slack", "a new champion"))
    assert slack["text"].splitlines()[1].endswith(": weather 3 is champion, it was 2")
    assert receivers.sent("discord", "a new champion") == []


@pytest.mark.slow
def test_a_question_is_told(team: Team, runs: Runs, receivers: Receivers) -> None:
    """Whoever asked for it reads that a challenger waits, once, with the page that asks."""
    (slack,) = eventually(lambda: receivers.sent("slack", "a challenger waits"))
    assert slack["text"].splitlines()[2].endswith(f"/runs/flow-run/{runs.suspended}")
    assert receivers.sent("discord", "a challenger waits") == []


@pytest.mark.slow
def test_a_killed_run_is_ended_and_told(team: Team, runs: Runs, receivers: Receivers) -> None:
    """A run whose process was killed does not stay Running for ever; runs that ended or were suspended stay so."""
    (crashed,) = eventually(lambda: team.state("Crashed"))
    assert crashed["parameters"] == {"how": "hangs"}
    assert "no sign of life" in crashed["state"]["message"]
    (slack,) = eventually(lambda: receivers.sent("slack", "retrain crashed"))
    assert crashed["name"] in slack["text"] and "no sign of life" in slack["text"]
    assert [run["id"] for run in team.state("Suspended")] == [runs.suspended]
    assert len(team.state("Promoted")) == len(team.state("Unchanged")) == 1


@pytest.mark.slow
def test_a_run_that_nobody_takes_up_is_told(team: Team, runs: Runs, receivers: Receivers) -> None:
    """A scheduled run that stays late is told once, with its time; one that a worker took up is not."""
    (slack,) = eventually(lambda: receivers.sent("slack", "nobody takes up retrain"))
    (late,) = team.state("Late")
    assert late["id"] == runs.late
    assert f"{late['name']} should have started at {late['expected_start_time'][:10]}" in slack["text"]


@pytest.mark.slow
@pytest.mark.drill
def test_silence_is_told_once(team: Team, runs: Runs, receivers: Receivers) -> None:
    """When nothing has ended well for `overdue_days` since the last success, that is told, and told once."""
    (slack,) = eventually(lambda: receivers.sent("slack", "no retraining for"))
    (when,) = (when for _, post, when in receivers.posts if post == slack)
    (last,) = team.state("Unchanged")
    silence = when - datetime.datetime.fromisoformat(last["end_time"]).timestamp()
    assert OVERDUE - 1 < silence < OVERDUE + 15
    time.sleep(8)
    assert receivers.sent("slack", "no retraining for") == [slack]


@pytest.mark.slow
def test_a_webhook_that_is_gone_stops_no_other_and_shows_no_secret(
    team: Team, runs: Runs, receivers: Receivers
) -> None:
    """Of the addresses nothing is in clear in the server's database, its log or the output, also when sending fails."""
    eventually(lambda: receivers.sent("gone", "retrain failed"))
    eventually(lambda: "Notification failed" in (team.folder / "server.log").read_text())
    places = [path for path in team.folder.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" for path in places)
    assert [path for path in places if b"CANARY" in path.read_bytes()] == []
    assert "CANARY" not in team.setup


CHANGE = """
from pathlib import Path
from prefect.client.orchestration import get_client
from flows import automations
from flows.automations import ensure_automations
automations.PAGE = 2  # as where a server has hundreds

with get_client(sync_client=True) as prefect:
    (overdue,) = (one for one in prefect.read_automations() if one.name == "weathervane: overdue")
    prefect.pause_automation(overdue.id)
    for line in ensure_automations(Path.cwd())[0]:
        print(line)
    print("on:", prefect.read_automation(overdue.id).enabled)
file = Path("params/notify.yaml")
file.write_text(file.read_text().replace("weathervane-slack", "nowhere"))
for lines in ensure_automations(Path.cwd()):
    print(*sorted(lines))
"""


@pytest.mark.slow
def test_automations_follow_the_file(team: Team, runs: Runs) -> None:
    """What the file no longer asks for is removed, what it asks differently is changed, and what is off stays off."""
    target = "{kind: slack, block: weathervane-slack, on: [overdue]}"
    (team.folder / "params/notify.yaml").write_text(f"targets: [{target}]\noverdue_days: 3\n")
    said = subprocess.check_output(
        [sys.executable, "-c", CHANGE], cwd=team.folder, env=team.env, text=True, timeout=120
    )
    assert sorted(said.splitlines()) == [
        "automation changed: weathervane: a run is silent",  # the tests' 12 s
        "automation changed: weathervane: end a silent run",
        "automation changed: weathervane: late",
        "automation changed: weathervane: overdue",
        "automation removed: weathervane: a run failed",
        "automation removed: weathervane: approval",
        "automation removed: weathervane: late automation removed: weathervane: overdue",
        "automation removed: weathervane: promoted",
        "on: False",
        "params/notify.yaml: the server has no block 'nowhere' for slack, who is told nothing: "
        "'weathervane notify slack --block nowhere' stores the address in it",
    ]


def test_an_address_is_not_taken_from_a_pipe(tmp_path: Path) -> None:
    """Without a terminal to ask at, the variable that can hold the address is named, before anything heavy loads."""
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    shutil.copy(ROOT / "params/notify.yaml", tmp_path / "params")
    command = [str(Path(sys.executable).with_name("weathervane")), "notify", "slack"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, input="https://x", timeout=60)
    assert done.returncode == 2 and "WEATHERVANE_NOTIFY_URL is not set" in done.stderr


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("slack", "hooks.slack.com/services/CANARY"),
        ("slack", "mailto://CANARY@example.org"),
        ("webhook", "https://example.org:CANARY/"),
        ("teams", "https://example.org/CANARY"),
        ("discord", "ftp://example.org/CANARY"),
        ("email", "https://example.org/CANARY"),
        ("email", "mailtos://CANARY"),
    ],
)
def test_a_wrong_address_is_refused_unseen(kind: Any, address: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is no address of its kind is refused with the form that it should have, and is not shown."""
    with pytest.raises(InputError, match=f"no address for {kind}: the form is") as told:
        block(kind, address)
    assert "CANARY" not in str(told.value) + caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_is_too_long_or_calls_everybody(kind: Any) -> None:
    """Whatever a state's message holds, it arrives as text: no mention, no markup of Slack's, no template."""
    said = (
        Environment()
        .from_string(body(kind, "{{ a }}", "{{ b }}", "http://x"))
        .render(a="<!channel>", b="@everyone {{ a }}")
    )
    assert "{{ a }}" in said
    assert ("<!channel>" in said) is (kind == "discord")
    assert ("@everyone" in said) is (kind != "discord")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"targets": [{"kind": "pager", "block": "a", "on": ["failure"]}]}, "should be 'slack', 'teams'"),
        ({"targets": [{"kind": "slack", "url": "https://x", "block": "a", "on": ["failure"]}]}, "unknown key"),
        ({"targets": [{"kind": "slack", "block": "A b", "on": ["failure"]}]}, "targets.0.block"),
        ({"targets": [{"kind": "slack", "block": "a", "on": []}]}, "targets.0.on"),
        ({"targets": [{"kind": "slack", "block": "a", "on": ["failure"]}] * 2}, "the same block stands there twice"),
        ({"overdue_days": 0}, "overdue_days"),
    ],
)
def test_a_mistake_in_the_file_is_named(wrong: dict[str, Any], why: str) -> None:
    """params/notify.yaml is refused with the key that is wrong; an address in clear has no key to stand under."""
    with pytest.raises(InputError, match=why):
        check(Notify, {"targets": [], "overdue_days": 2} | wrong, "params/notify.yaml")


def test_nobody_is_told_by_default() -> None:
    """The file that comes with the project names no target and can be read."""
    assert read(ROOT).targets == []
