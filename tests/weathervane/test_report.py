"""The page on real data made bad on purpose: hostile names, near-duplicates, files that cannot be used."""

import base64
import hashlib
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from weathervane import images, report, synthetic
from weathervane.errors import InputError
from weathervane.fingerprint import sources
from weathervane.ingest import Ingest, ingest
from weathervane.layout import shown
from weathervane.ledger import LARGE_GROUP, Ledger
from weathervane.params import read
from weathervane.prepare import Prepare, prepare
from weathervane.splits import EXCLUDED

ROOT = Path(__file__).parents[2]
HOSTILE = '<script>alert("a name")<img src=x onerror=alert(2)>&amp;\u202e.jpg'
BROKEN = "<script>alert('no picture').jpg"


def again(picture: bytes, quality: int) -> bytes:
    """The picture once more, as a messenger would have recompressed it."""
    out = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def take_in(root: Path, *sources: dict[str, object]) -> None:
    params = {"dataset": "skies", "sources": sources, "test_fraction": 0.2, "folds": 3, "seed": 0}
    ingest(Ingest.model_validate(params | {"max_bad": 0.5, "min_per_class": 3}), root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ingests of an inbox with a bit of everything, prepared and reported. Read only."""
    root = tmp_path_factory.mktemp("made")
    inbox = root / "inbox"
    for label in ("rain", "shine"):
        for index in range(1, 10):
            put(inbox, f"{label}/{label}{index}.jpg", synthetic.render(label, index))
    put(inbox, "rain/" + HOSTILE, synthetic.render("rain", 100))
    for quality in range(70, 70 + LARGE_GROUP):
        put(inbox, f"shine/burst{quality}.jpg", again(synthetic.render("shine", 1), quality))
    put(inbox, "shine/really rain.jpg", again(synthetic.render("rain", 3), 80))
    source = {"kind": "local", "path": "inbox"}
    take_in(root, source)
    put(inbox, "rain/" + BROKEN, b"no picture at all")
    put(inbox, "snow/short.jpg", synthetic.render("rain", 50)[:-4000])
    for index in range(1, 5):
        put(inbox, f"snow/snow{index}.jpg", synthetic.render("cloudy", index))
    take_in(root, source)
    ledger = Ledger.read(root / "data/raw")
    ledger.rows = [replace(r, split=EXCLUDED, fold=-1) if r.name == "rain/rain9.jpg" else r for r in ledger.rows]
    ledger.write()
    small = Image.fromarray(images.decode(synthetic.render("rain", 50), 64))
    for bad in ledger.quarantined:
        if bad.reason == "truncated":
            (root / "data/raw/quarantine").mkdir(exist_ok=True)
            small.save(root / f"data/raw/quarantine/{bad.sha256}.jpg")
    prepare(Prepare(image_size=32, shard=20), root)
    report.report(root)
    return root


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """The same project, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "mine"))


class Page(HTMLParser):
    """A page as a browser reads it: elements with their attributes, tables by `data-table`, text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._table: list[list[str]] | None = None
        self._in_cell = self._in_style = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        self._in_style = tag == "style"
        if tag == "table":
            self._table = self.tables.setdefault(dict(attrs)["data-table"] or "", [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
        if tag in ("td", "th"):
            self._in_cell = False
        elif tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += data
        if self._in_cell and self._table:
            self._table[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    return Page(made / "data/prepared/report.html")


def test_equal_data_give_equal_bytes(made: Path, mine: Path) -> None:
    """DVC and MLflow keep one page a data version: neither the time, the machine nor the folder is in it."""
    before = (made / "data/prepared/report.html").read_bytes()
    assert report.report(mine) == mine / "data/prepared/report.html"
    assert (mine / "data/prepared/report.html").read_bytes() == before
    assert str(made).encode() not in before


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    """It can be mailed: no script, no style sheet, font or picture from elsewhere, nothing that calls home."""
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base"}
    links = [a for tag, a in page.elements if tag != "a"]
    addresses = [a[key] for a in links for key in ("src", "href", "srcset", "data", "xlink:href") if key in a]
    assert len(addresses) > 40 and all(address.startswith("data:") for address in addresses)
    assert all(a["href"].startswith("#") for a in page.all("a"))
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    style = (ROOT / "weathervane/report.html.j2").read_text(encoding="utf-8")
    assert "url(" not in style and "@import" not in style and "http" not in style.replace("http-equiv", "")
    assert {"default-src 'none'; img-src data:; style-src 'unsafe-inline'"} <= {
        a.get("content") for a in page.all("meta")
    }


def test_every_link_has_its_target(page: Page) -> None:
    """The overview leads to each section."""
    targets = {attributes.get("id") for _, attributes in page.elements}
    assert {a["href"].removeprefix("#") for a in page.all("a")} <= targets


def test_names_are_text_and_never_markup(page: Page) -> None:
    """Whoever names a file in an inbox cannot run anything in the browser of whoever looks at the report."""
    name = shown(HOSTILE)
    assert name in {image["alt"].removeprefix("rain: ").removeprefix("rain/") for image in page.all("img")}
    assert any(name in figure.get("title", "") for figure in page.all("figure"))
    assert "rain/" + BROKEN in [line[1] for line in page.tables["quarantine"]]


def test_the_counts_are_the_ledgers(made: Path, page: Page) -> None:
    """Classes, splits, folds, sources: what stands in the table can be counted in ledger.csv."""
    rows = Ledger.read(made / "data/raw").rows
    head, *lines = page.tables["counts"]
    assert head == [
        *("class", "", "images", "train", "test", "test share", "kept out"),
        *("fold 0", "fold 1", "fold 2"),
    ]
    for label in ("rain", "shine", "snow", "all"):
        mine = [row for row in rows if label in (row.label, "all")]
        numbers = [len(mine), *(sum(row.split == split for row in mine) for split in ("train", "test", EXCLUDED))]
        folds = [sum(row.fold == fold for row in mine) for fold in range(3)]
        line = next(line for line in lines if line[0] == label)
        assert [line[2], line[3], line[4], line[6], *line[7:]] == [str(n) for n in (*numbers, *folds)]
    assert len(lines) == 4 and sum(map(int, lines[-1][7:])) == int(lines[-1][3])
    assert page.tables["sources"][1][:2] == ["inbox", str(len(rows))]
    headline = re.sub(r"\s", "", page.text.split("Worth a look")[0])
    assert headline.endswith(f"images{len(rows)}classes3source1ingests2near-duplicategroups2quarantined2")
    tested = {
        label: sum(row.label == label and row.split == "test" for row in rows) for label in ("rain", "shine", "snow")
    }
    few = [label for label, count in tested.items() if 0 < count < 5]
    assert few and f"Fewer than 5 test images of {', '.join(few)}: what a model is worth" in page.text


def test_every_image_is_in_one_bar_of_each_histogram(made: Path, page: Page) -> None:
    """The bars of widths, of heights and of the classes' brightness add up to the images."""
    rows = Ledger.read(made / "data/raw").rows
    titles = re.findall(
        r"<title>[\d,]+ to [\d,]+( px)?: ([\d,]+)</title>", (made / "data/prepared/report.html").read_text()
    )
    assert sum(int(n) for unit, n in titles if unit) == 2 * len(rows)
    assert sum(int(n) for unit, n in titles if not unit) == len(rows)


def test_what_the_last_ingest_brought(page: Page) -> None:
    """A class that is new, and the ones that did not grow, against what was there before."""
    lines = {line[0]: line[2:] for line in page.tables["growth"][1:]}
    assert lines["snow"] == ["0", "4", "4", "new class"]
    assert lines["rain"] == ["10", "0", "10", "0.0 %"]
    assert lines["all"] == ["30", "4", "34", "13.3 %"]
    assert "Ingest 2 brought 4 images and 2 files for the quarantine" in page.text


def test_near_duplicates_stand_together_as_pictures(made: Path, page: Page) -> None:
    """The largest group first and flagged, a picture under two classes flagged, all members shown."""
    text = (made / "data/prepared/report.html").read_text(encoding="utf-8")
    groups = [part.split("</section>")[0] for part in text.split("<section ")[1:]]
    assert [part.count("<img ") for part in groups] == [LARGE_GROUP + 1, 2]
    assert "more than 10" in groups[0] and "burst75.jpg" in groups[0]
    assert "2 classes" in groups[1] and "really rain.jpg" in groups[1] and "rain3.jpg" in groups[1]
    assert "1 near-duplicate group stands under several classes" in page.text


def test_a_group_under_several_classes_is_shown_however_small(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all groups have room, those that may be wrong labels come before the large ones."""
    monkeypatch.setattr(report, "GROUPS", 1)
    members: dict[str, list] = {}
    for row in Ledger.read(made / "data/raw").rows:
        members.setdefault(row.group, []).append(row)
    several = {name: group for name, group in members.items() if len(group) > 1}
    shown = report._groups(several, lambda row: report.Card("", row.name, row.label, "", ""))
    assert [group.classes for group in shown] == [["rain", "shine"]]


def test_what_is_kept_out_is_shown(page: Page) -> None:
    """A picture that ties several groups is there to be looked at."""
    assert "1 image looks like images of several groups" in page.text
    assert any(figure.get("title", "").startswith("rain/rain9.jpg (inbox)") for figure in page.all("figure"))


def test_the_quarantine_with_reasons_and_thumbnails(made: Path, page: Page) -> None:
    """Each refused file with its reason; a picture of it where ingest could make one."""
    assert sorted(page.tables["reasons"][1:]) == [["not an image", "1"], ["truncated", "1"]]
    lines = {line[1]: line for line in page.tables["quarantine"][1:]}
    assert lines.keys() == {"rain/" + BROKEN, "snow/short.jpg"}
    assert lines["snow/short.jpg"][2:5] == ["inbox", "2", "truncated"] and lines["snow/short.jpg"][5]
    assert (lines["snow/short.jpg"][0], lines["rain/" + BROKEN][0]) == ("", "no picture")
    thumbnail = next(image["src"] for image in page.all("img") if image["alt"] == "snow/short.jpg")
    assert Image.open(io.BytesIO(base64.b64decode(thumbnail.split(",")[1]))).size == (64, 64)


def doubts(root: Path, names: list[str]) -> pd.DataFrame:
    """A table as `weathervane.suspects` makes it: these images look like shine, each a little less than the last."""
    of = {row.name: row for row in Ledger.read(root / "data/raw").rows}
    rows = [of[name] for name in names]
    table = pd.DataFrame({"sha256": [row.sha256 for row in rows], "label": [row.label for row in rows]})
    sure = [0.97 - 0.02 * number for number in range(len(rows))]
    return table.assign(suggested="shine", p_label=0.01, p_suggested=sure)


def test_suspected_label_errors_are_pictures(made: Path, tmp_path: Path) -> None:
    """Once a model exists: how many labels are suspected, of what, and each image with what speaks for both classes,
    the most suspicious first. Names are text there, too."""
    names = [shown("rain/" + HOSTILE), "rain/rain2.jpg", "snow/snow1.jpg"]
    (tmp_path / "report.html").write_text(report.page(made, doubts(made, names)), encoding="utf-8")
    page = Page(tmp_path / "report.html")
    assert "rain → shine 2 snow → shine 1" in page.text
    assert "3 labels are suspected of being wrong" in page.text.split("Counts by class")[0]
    assert "3 images, 8.8 % of all, look like another class" in page.text
    told = [" ".join(image["alt"].split()) for image in page.all("img") if ", shine " in image["alt"]]
    assert told == [
        f"rain 1 %, shine 97 %: {names[0]}",
        f"rain 1 %, shine 95 %: {names[1]}",
        f"snow 1 %, shine 93 %: {names[2]}",
    ]
    assert "script" not in {tag for tag, _ in page.elements}


def test_only_the_most_suspicious_are_shown(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, the page stays small, counts them all and names the list."""
    monkeypatch.setattr(report, "OTHERS", 2)
    names = [f"rain/rain{number}.jpg" for number in (2, 4, 5, 6)]
    (tmp_path / "report.html").write_text(report.page(made, doubts(made, names)), encoding="utf-8")
    page = Page(tmp_path / "report.html")
    assert sum(", shine " in image["alt"] for image in page.all("img")) == 2
    assert "4 images" in page.text and "The 2 most suspicious come first; all are in data/suspects.csv" in page.text


def test_where_suspected_labels_are_found_is_said(made: Path, page: Page, tmp_path: Path) -> None:
    """The page of the DVC stage knows no model and says where the section is; a model without doubts says so."""
    assert "the copy of this page that a retraining logs to its run in MLflow, data/report.html, shows" in page.text
    (tmp_path / "report.html").write_text(report.page(made, doubts(made, [])), encoding="utf-8")
    told = Page(tmp_path / "report.html")
    assert "No image looks more like another class" in told.text and "Nothing stands out" not in told.text


def test_a_damaged_thumbnail_is_none(mine: Path) -> None:
    """The quarantine holds what strangers sent: the page is made whatever stands there."""
    thumbnail = next((mine / "data/raw/quarantine").iterdir())
    thumbnail.write_bytes(thumbnail.read_bytes()[:200])
    page = Page(report.report(mine))
    assert [line[0] for line in page.tables["quarantine"][1:]] == ["no picture"] * 2


def test_a_first_ingest_of_rendered_skies(tmp_path: Path) -> None:
    """Nothing to complain of is said in words, and that no photograph is among them stands at the top."""
    take_in(tmp_path, {"kind": "synthetic", "per_class": 25, "seed": 0})
    prepare(Prepare(image_size=32, shard=100), tmp_path)
    page = Page(report.report(tmp_path))
    assert "rendered, not photographs" in page.text.split("Counts by class")[0]
    assert "The quarantine is empty" in page.text and "reasons" not in page.tables
    assert "This is the first ingest: all 100 images came with it." in " ".join(page.text.split())
    assert "Nothing stands out" in page.text


def test_photographs_are_not_called_rendered(page: Page) -> None:
    """Only what the ledger has from the source `synthetic` is."""
    assert "rendered" not in page.text


def test_the_page_is_small_however_many_images(made: Path, monkeypatch: pytest.MonkeyPatch, mine: Path) -> None:
    """Contact sheets share a number of pictures; what is left out is counted."""
    monkeypatch.setattr(report, "SHEETS", 9)
    page = Page(report.report(mine))
    assert [a["data-class"] for a in page.all("div") if "data-class" in a] == ["rain", "shine", "snow"]
    assert "3 of 10" in page.text and "3 of 20" in page.text and "3 of 4" in page.text


def test_data_that_is_not_prepared_yet_is_said(mine: Path) -> None:
    """Bad input is one line that names the way out, not a page that mixes two versions."""
    ledger = Ledger.read(mine / "data/raw")
    ledger.rows = ledger.rows[1:]
    ledger.write()
    with pytest.raises(InputError, match="dvc repro prepare"):
        report.report(mine)
    (mine / "data/prepared/manifest.parquet").unlink()
    with pytest.raises(InputError, match="dvc repro prepare"):
        report.report(mine)


def test_the_stage_depends_on_exactly_what_the_page_is_made_of() -> None:
    """`dvc repro` makes a new page when the data, a module or the template changes, and at no other time."""
    stage = read(ROOT / "dvc.yaml")["stages"]["report"]
    modules = [str(path.relative_to(ROOT)) for path in sources("weathervane.report")]
    data = ["data/raw", "data/prepared/manifest.parquet", "data/prepared/pixels"]
    assert sorted(stage["deps"]) == sorted([*modules, *data, "weathervane/report.html.j2"])
    assert stage["outs"] == ["data/prepared/report.html"]
    assert stage["cmd"] == "python -m weathervane.report"


@pytest.mark.slow
def test_the_page_of_the_photographs_is_small(photographs: Path, tmp_path: Path) -> None:
    """905 photographs make a page that can be mailed: under 3 MB."""
    shutil.copy2(photographs, tmp_path / "photographs.zip")
    take_in(tmp_path, {"kind": "local", "path": "photographs.zip"})
    prepare(Prepare(image_size=96, shard=4096), tmp_path)
    page = report.report(tmp_path).read_bytes()
    assert len(page) < 3_000_000
    assert hashlib.sha256(report.report(tmp_path).read_bytes()).digest() == hashlib.sha256(page).digest()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_a_browser_shows_it(made: Path, width: int) -> None:
    """No error, no request to anywhere, no name that runs, every picture decodes, nothing hangs over the edge."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is absent: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        tab.on("requestfailed", lambda request: said.append(f"failed: {request.url[:80]}"))
        tab.on("request", lambda request: asked.append(request.url))
        address = (made / "data/prepared/report.html").as_uri()
        tab.goto(address)
        assert tab.locator("h1").is_visible() and "skies" in tab.locator("h1").inner_text()
        assert tab.locator("dl").get_by_text("34", exact=True).is_visible()
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert tab.evaluate("document.images.length") > 40
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {address}
