"""The report as text: whole, escaped, without an address, and with a sentence where there are no data."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from autoseg.core.records import ModelPostProcessing, PostProcessing
from autoseg.reporting import render_report

HOSTILE = "<script>alert('x')</script>&\"<img src=http://evil.example/x onerror=alert(1)>"
VOID = {"br", "input", "link", "meta"}


class Reader(HTMLParser):
    """Elements in order with their attributes, and text by the element around it; tags must close in order."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open:
            self.texts.append((self.open[-1], text))

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def section(page, key):
    return re.search(rf'<section id="{key}".*?</section>', page, flags=re.S)[0]


def test_every_part_is_there_and_in_the_navigation(content, experiment):
    reader = Reader(render_report(content(experiment=experiment)))
    sections = [attributes["id"] for attributes in reader.attributes("section")]
    links = [attributes["href"] for attributes in reader.attributes("a")]

    assert sections == [
        "pictures", "scores", "volumes", "cases", "review", "selection", "postprocessing", "calibration", "training",
        "data", "plan", "settings",
    ]  # fmt: skip
    assert {f"#{key}" for key in sections} <= set(links)


def test_sections_without_content_are_folded(content, experiment):
    folded = r'<section id="(\w+)"[^>]*><details><summary><h2'
    assert re.findall(folded, render_report(content())) == ["review", "selection", "postprocessing", "calibration"]
    assert not re.findall(folded, render_report(content(experiment=experiment)))


def test_the_score_is_the_first_line(content):
    page = render_report(content())
    first = re.search(r"<header>.*?<p>(.*?)</p>", page, flags=re.S)[1]
    assert re.match(r".*: mean dice [\d.]+", first), first


def test_every_link_leads_to_a_place_of_the_page(content, experiment):
    reader = Reader(render_report(content(experiment=experiment)))
    places = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]

    assert len(places) == len(set(places))
    assert {attributes["href"] for attributes in reader.attributes("a")} <= {f"#{place}" for place in places}


def test_a_hostile_name_stays_text(content, experiment):
    page = render_report(
        content(
            names=(HOSTILE, "b", "c"),
            dataset=HOSTILE,
            experiment=experiment.model_copy(update={"reason": HOSTILE, "winner": HOSTILE}),
        )
    )
    reader = Reader(page)

    assert len(reader.attributes("script")) == 1
    assert not reader.attributes("img")
    assert not [key for _, attributes in reader.elements for key in attributes if key.startswith("on")]
    assert ("span", HOSTILE) in reader.texts
    assert ("strong", f"{HOSTILE} was selected. ") in reader.texts


def test_nothing_is_loaded_and_the_policy_forbids_it(content):
    page = render_report(content())
    reader = Reader(page)
    addresses = [a[key] for _, a in reader.elements for key in ("src", "href", "action", "data", "srcset") if key in a]
    policy = reader.attributes("meta")[1]["content"]

    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", page, flags=re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_scores_are_shown_with_their_interval(content):
    """Dice 0.9, 0.25 and 0.5: mean 0.55, median 0.5, quartiles 0.375 and 0.7; HD95 of two cases, one undefined."""
    shown = content()
    low, high = shown.summaries["3d"].summary["lesion"]["dice"].interval
    page = section(render_report(shown), "scores")
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]

    assert [
        "lesion",
        "dice",
        "0.550",
        f"{low:.3f} to {high:.3f}",
        "0.500",
        "0.375 to 0.700",
        "0.250",
        "0.900",
        "3",
        "0",
    ] in cells
    assert [row[-2:] for row in cells if row[1] == "hd95 (mm)"] == [["2", "1"]]


def test_undefined_scores_are_dashes_that_sort_last(content):
    reader = Reader(section(render_report(content()), "cases"))
    cells = reader.attributes("td")

    assert [cell for cell in cells if cell.get("data-value") == ""]
    assert ("td", "–") in reader.texts
    assert {"0.25", "0.05"} <= {cell.get("data-value") for cell in cells}


def test_an_experiment_is_shown_with_its_numbers(content, experiment):
    page = render_report(content(experiment=experiment))

    assert "3d was selected. </strong>It has the highest mean." in page
    assert "&lt; 0.001" in section(page, "selection")
    assert "dice 0.550 without and 0.570 with post-processing (+0.020)" in section(page, "postprocessing")
    assert "-1.5, 2.2, 30.0" in section(page, "review")
    assert '<a href="#case-1">case2</a>' in section(page, "review")
    assert "0.0200 as predicted and 0.0100" in section(page, "calibration")
    assert "divided by the temperature 1.5." in section(page, "calibration")


def test_what_the_cases_of_single_folds_chose_is_shown(content):
    common = {"target_metric": "dice", "empty_score": "one", "folds": ("0",), "cases": 20, "patients": 20}
    chosen = ModelPostProcessing(
        settings={"lesion": PostProcessing(largest_lesions=1)}, reason="It helps.", target_before=0.74,
        target_after=0.815, **common,
    )  # fmt: skip
    nothing = ModelPostProcessing(reason="no setting improved <them>", **common)
    text = section(render_report(content(postprocessing={"3d": chosen, "2d": nothing})), "postprocessing")

    assert "lesion: only the largest lesion" in text
    assert "0.815" in text
    assert "no setting improved &lt;them&gt;" in text
    assert "has not been searched yet" not in text


def test_the_plan_of_what_was_selected_is_open_and_says_why(content, experiment):
    for more in ({}, {"experiment": experiment}):
        plan = section(render_report(content(**more)), "plan")

        assert "<details open><summary>Configuration 3d (trained)</summary>" in plan
        assert '<span class="why">It holds &lt;all&gt; of the head.</span>' in plan


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("data", "fingerprint.json is missing"),
        ("selection", "No model has been selected yet"),
        ("scores", "No fold has scores of held-out cases yet"),
        ("volumes", "There are no scores of held-out cases yet."),
        ("pictures", "There is no case to show."),
        ("cases", "There are no scores of held-out cases yet."),
        ("review", "No case has been marked for review yet"),
        ("postprocessing", "has not been searched yet"),
        ("calibration", "have not been calibrated yet"),
    ],
)
def test_a_part_without_data_says_so(content, training, key, sentence):
    bare = content(summaries={}, shown=None, pictures=(), trainings=(training("all"),))

    assert sentence in section(render_report(bare), key)


def test_notes_stand_in_their_part(content):
    page = render_report(content(notes={"scores": ("Fold 1 is left out.",), "pictures": ("One is missing.",)}))

    assert "Fold 1 is left out." in section(page, "scores")
    assert section(page, "pictures").count("One is missing.") == 1


def test_commands_repeat_what_was_asked_for(content, training):
    """The plan says 100 epochs of 10 steps and seed 12345."""
    page = render_report(
        content(
            dataset="My Data",
            trainings=(
                training("0"),
                training("1", time_budget_s=60.0),
                training("2", planned_epochs=100, seed=7),
            ),
        )
    )
    commands = re.search(r"<pre>(.*?)</pre>", section(page, "settings"), flags=re.S)[1].splitlines()

    assert commands == [
        "autoseg_plan -d &#39;My Data&#39; --keep",
        "autoseg_train -d &#39;My Data&#39; -c 3d -f 0 --epochs 3",
        "autoseg_train -d &#39;My Data&#39; -c 3d -f 1 --time-budget 60s",
        "autoseg_train -d &#39;My Data&#39; -c 3d -f 2 --seed 7",
        "autoseg_report -d &#39;My Data&#39;",
    ]


def test_same_content_gives_the_same_page(content):
    assert render_report(content()) == render_report(content())
