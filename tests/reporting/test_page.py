"""The page about runs: whole, of one file, and with nothing in it that a stranger wrote unescaped."""

import json
from html.parser import HTMLParser

import pytest

from fedcomp.cli import run
from fedcomp.errors import DataError
from fedcomp.reporting import write_page
from fedcomp.reporting.page import ReportedRun, differing_keys

LIE = "refused the update of client 7: <script>alert(1)</script>"


class Page(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def write_run(folder, *, codec="thin", accuracies=(0.5, 0.7), summary=True, student=True):
    (folder / "student").mkdir(parents=True)
    rows = [
        {"round": i, "uplink_bytes": 10, "downlink_bytes": 100, "rejected_stale": 2, "complaints": [LIE]}
        | ({} if accuracy is None else {"accuracy": accuracy})
        for i, accuracy in enumerate(accuracies, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.toml").write_text(f'codec = "{codec}"\nseed = 0\nframe-keys = "/secret/{codec}"\n')
    if summary:
        facts = {"codec": codec, "rounds": 2, "accuracy": 0.7, "uplink_bytes": 20, "versions": {"numpy": "2.4"}}
        (folder / "summary.json").write_text(json.dumps(facts))
    if student:
        forms = {"int8": {"num_bytes": 53_432, "accuracy": 0.861}}
        (folder / "student" / "card.json").write_text(json.dumps({"variants": forms}))
    return folder


def test_a_page_has_what_the_runs_are(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", codec="q8", summary=False, student=False)]
    write_page(runs, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    for said in (str(runs[0]), "70.0%", "2, not finished", "53.4 kB", "86.1%", "numpy 2.4", "stale", "How they differ"):
        assert said in page.text
    assert "svg" in page.tags
    assert "/secret/" not in page.text
    assert LIE in page.text
    assert "script" not in page.tags
    outside = [value for name, value in page.attributes if name in ("src", "href") and not value.startswith("#")]
    assert outside == [], "a page that needs nothing else"


def test_the_same_runs_give_the_same_page(tmp_path):
    folder = write_run(tmp_path / "a")
    pages = []
    for name in ("1", "2"):
        write_page([folder], tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_without_an_accuracy_nothing_is_drawn(tmp_path):
    write_page([write_run(tmp_path / "a", accuracies=(None, None))], tmp_path / "page.html")
    assert "svg" not in Page((tmp_path / "page.html").read_text()).tags


def test_keys_that_are_the_same_are_not_told():
    assert differing_keys([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": True}]) == [("b", ["2", "3"]), ("c", ["-", "True"])]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("student/card.json", "3"),
        ("config.toml", "a ="),
        ("metrics.jsonl", "{"),
    ],
)
def test_a_damaged_run_is_refused_by_name(tmp_path, file, content):
    (write_run(tmp_path / "a") / file).write_text(content)
    with pytest.raises(DataError, match=str(tmp_path / "a")):
        write_page([tmp_path / "a"], tmp_path / "page.html")


def test_what_a_students_card_does_not_say_is_a_dash(tmp_path):
    folder = write_run(tmp_path / "a")
    forms = {"float32": {"num_bytes": 1234}, "int8": {"accuracy": 0.5}, "teacher": {}}
    (folder / "student" / "card.json").write_text(json.dumps({"variants": forms}))
    expected = [("float32", "1.23 kB", "-"), ("int8", "-", "50.0%"), ("teacher", "-", "-")]
    assert ReportedRun.read(folder).student_forms == expected
    write_page([folder], tmp_path / "page.html")


@pytest.mark.parametrize(
    ("forms", "found"),
    [
        (3, "variants is 3, expected an object"),
        (["int8"], r"variants is \['int8'\], expected an object"),
        ({"int8": 3}, "variants.int8 is 3, expected an object"),
        ({"int8": {"num_bytes": "5"}}, "variants.int8.num_bytes is '5', expected a number"),
        ({"int8": {"num_bytes": -1}}, "variants.int8.num_bytes is -1, expected a number"),
        ({"int8": {"num_bytes": 10**400}}, "variants.int8.num_bytes is 10+, expected a number"),
        ({"int8": {"accuracy": float("nan")}}, "variants.int8.accuracy is nan, expected a number"),
        ({"int8": {"accuracy": None}}, "variants.int8.accuracy is None, expected a number"),
    ],
)
def test_what_it_says_wrongly_is_told_by_file_and_key(tmp_path, forms, found):
    folder = write_run(tmp_path / "a")
    (folder / "student" / "card.json").write_text(json.dumps({"variants": forms}))
    with pytest.raises(DataError, match=rf"a/student/card\.json: {found}"):
        write_page([folder], tmp_path / "page.html")


def test_the_command_writes_into_the_first_run(tmp_path, capsys):
    folder = write_run(tmp_path / "a")
    assert run(["report", str(folder)]) == 0
    assert (folder / "report.html").is_file()
    assert "report.html" in capsys.readouterr().out
    assert run(["report", str(folder), "--out", str(tmp_path / "no" / "page.html")]) == 2
    assert "can't write the page" in capsys.readouterr().err
