"""A person's answer counts for the champion that the evidence is about; a question that is moot is closed."""

# ruff: noqa: F811

import time
from pathlib import Path
from types import SimpleNamespace

from tasks import approval, promotion, tracking
from tasks.approval import Approval, Waiting, _carry_out, _moot
from tasks.tags import COMPARED_WITH
from tests.tasks.test_promotion import moved, name, root  # noqa: F401

YES, NO = (Approval(decision=word, by="ann", why="so") for word in ("approve", "reject"))


def asked(name: str, champion: str = "1") -> Waiting:
    return Waiting(name, "parent", "cnn", "2", champion)


def test_an_approval_is_of_the_evidence(root: Path, name: str) -> None:
    """An approved version becomes champion, however often the answer is carried out; it does not where the champion is
    no longer the one that the evidence is about."""
    moved(root, name, "1")
    client = tracking.client(root)
    for _ in range(2):
        assert _carry_out(root, asked(name), YES, "approved by ann: so") == (True, "approved by ann: so")
    assert client.get_model_version(name, "2").tags["decision"] == "promoted"
    moved(root, name, "3")
    promoted, why = _carry_out(root, asked(name), YES, "approved by ann: so")
    assert not promoted and "the evidence is about champion 1, which is 3 by now" in why
    assert promotion.standing(client, name).champion == "3"
    assert client.get_model_version(name, "2").tags["decision"] == "not promoted"


def test_a_rejection_promotes_nothing(root: Path, name: str) -> None:
    """A rejected version is not promoted; where somebody has made it champion meanwhile, that is said."""
    moved(root, name, "1")
    assert _carry_out(root, asked(name), NO, "rejected by ann: so") == (False, "rejected by ann: so")
    moved(root, name, "2")
    promoted, why = _carry_out(root, asked(name), NO, "rejected by ann: so")
    assert promoted and "version 2 is champion by now: 'weathervane rollback" in why


def test_a_long_answer_fits(root: Path, name: str) -> None:
    """MLflow keeps 5,000 characters of a version's description: the answer is among them, the end of the evidence may
    not be; the whole reason is a tag."""
    moved(root, name, "1")
    client, why = tracking.client(root), "approved by ann: " + 300 * "because "
    client.update_model_version(name, "2", f"**waiting for approval:** {'evidence ' * 500}"[: tracking.DESCRIPTION])
    assert _carry_out(root, asked(name), YES, why) == (True, why)
    version = client.get_model_version(name, "2")
    assert len(version.description) == tracking.DESCRIPTION and version.tags["why"] == why
    assert version.description.startswith(f"**promoted:** {why}. What was asked:")


def test_a_question_is_moot_once_it_is_answered_otherwise(root: Path, name: str) -> None:
    """A question is open while the champion is the one of the evidence and thirty days are not over; after that it is
    decided by what happened."""
    client, run = tracking.client(root), SimpleNamespace(tags={"model_version": "2"}, started=1000 * time.time())
    moved(root, name, "1")
    client.set_model_version_tag(name, "2", COMPARED_WITH, "1")

    def moot(run: SimpleNamespace = run) -> tuple[str, str] | None:
        return _moot(client, name, run, client.get_model_version(name, "2"))

    assert moot() is None
    old = SimpleNamespace(tags=run.tags, started=run.started - 1000 * (approval.TIMEOUT + 10))
    assert moot(old) == ("not promoted", "nobody decided within 30 days")
    assert _moot(client, name, run, None)[0] == "not promoted"
    moved(root, name, "3")
    assert moot() == ("not promoted", "version 3 became champion before anybody decided")
    promotion.promote(client, name, "2", "now", "bob")
    assert moot() == ("promoted", "promote by bob: now")
    promotion.rollback(client, name, "no", "bob")
    assert moot() == ("not promoted", "promote by bob: now; and version 3 is champion since")
    for key, value in (("decision", "promoted"), ("why", "answered")):
        client.set_model_version_tag(name, "2", key, value)
    assert moot() == ("promoted", "answered")
