"""Page of new masks: cases for review first, lesions with their sides, bounded, escaped, and whole on paper."""

import re

import numpy as np
import pytest

from autoseg.core.records import CaseLesions, Doubt, Grid, Image, LabelLesions, PredictedLesion
from autoseg.reporting import MasksContent, find_midline, render_masks_page, view_planes
from autoseg.reporting.html import masks

HOSTILE = "<img src=x onerror=alert(1)>"


def make_lesions(count):
    lesions = [
        PredictedLesion(voxels=9, volume_ml=0.5 / number, centre=(-20.4, 3, 7), mean_probability=0.876, side="right")
        for number in range(1, count + 1)
    ]
    volume = sum(lesion.volume_ml for lesion in lesions)
    return LabelLesions(volume_ml=volume, mean_probability=0.876 if count else None, lesions=tuple(lesions))


def make_case(name, expected=0.9, *, lesions=1, labels=("lesion",)):
    mask = np.zeros((6, 8, 10), np.int16)
    mask[2:4, 3:6, 5:9] = 1
    doubt = Doubt(
        case=name,
        disagreement=None,
        uncertain_ml=1,
        uncertain_lesions=0,
        target=None,
        reason="",
        expected_dice=expected,
    )
    return CaseLesions(
        case=name,
        model="m",
        labels={label: make_lesions(lesions) for label in labels},
        doubt=doubt,
        planes=view_planes(np.random.default_rng(0).normal(9, 1, (2, 6, 8, 10)), mask, (3, 1, 1), (1,)),
    )


def make_content(cases, **more):
    fields = {"made_at": "2026-01-01", "model": "Made/3d", "channels": ("FLAIR", "T1"), "labels": ("lesion",)}
    return MasksContent(**(fields | {"cases": cases} | more))


def cards(page):
    return re.findall(r'<h3 id="title-\d+">([^<]*)</h3>', page)


def test_uncertain_cases_come_first_with_their_reasons_and_every_channel():
    cases = [make_case(f"case{number}", expected=0.5 + number / 100) for number in range(9, -1, -1)]
    page = render_masks_page(make_content(cases))

    assert "3 of 10 cases for review." in page
    assert "lesion: 10 lesions, 5 ml, in 10 of 10 cases." in page
    assert cards(page) == [f"case{number}" for number in range(10)]
    assert page.count("For review (") == 3
    assert "Expected Dice 0.52 from its probabilities" in page
    assert page.count("data:image/jpeg") == 3 * (3 * 2 + 7)


def test_what_the_networks_say_replaces_what_the_probabilities_say():
    cases = [make_case(f"case{number}") for number in range(5)]
    doubt = cases[4].doubt.model_copy(update={"disagreement": 0.7})
    page = render_masks_page(make_content(cases, doubts={"case4": doubt}))

    assert cards(page)[0] == "case4"
    assert "the networks disagree (1 - Dice 0.70)" in page


def test_lesions_have_a_row_each_and_the_smallest_are_summed_up():
    page = render_masks_page(make_content([make_case("a", lesions=13)]))
    row = '<th scope="row">1</th><td class="n">0.5</td><td class="n">0.88</td><td class="n">right</td>'

    assert f'{row}<td class="n">-20, 3, 7</td>' in page
    assert "And 3 smaller of lesion, 0.126 ml in all; see lesions.csv." in page


def test_an_empty_mask_and_a_failed_case_say_so():
    page = render_masks_page(make_content([make_case("a", lesions=0)], failures={"b": "case b: it is empty"}))

    assert "1 of 1 case for review; 1 case could not be predicted." in page
    assert "The mask is empty." in page
    assert "case b: it is empty" in page


def test_a_record_of_an_earlier_version_has_a_card_without_slices():
    old = CaseLesions.model_validate(
        {
            "schema": 1,
            "case": "a",
            "model": "m",
            "labels": {
                "lesion": {
                    "volume_ml": 1,
                    "mean_probability": 0.7,
                    "lesions": [{"voxels": 1, "volume_ml": 1, "centre": [1, 2, 3], "mean_probability": 0.7}],
                }
            },
        }
    )
    page = render_masks_page(make_content([old]))

    assert "An earlier version predicted this mask" in page
    assert '<td class="n">unknown</td>' in page


def test_many_cases_stay_within_the_bound(monkeypatch):
    """The cards of cases for review come first; the table still has every case."""
    monkeypatch.setattr(masks, "MAX_BYTES", 60_000)
    cases = [make_case(f"case{number:02}", expected=0.5 + number / 100) for number in range(40)]
    page = render_masks_page(make_content(cases))
    shown = cards(page)

    assert 1 < len(shown) < 15
    assert shown == [f"case{number:02}" for number in range(len(shown))]
    assert f"{len(shown)} of 40 cases are shown" in page
    assert len(re.findall('<tr><th scope="row"><span class="case">', page)) == 40
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


@pytest.mark.parametrize("flipped", [False, True])
def test_the_side_is_that_of_the_head_whatever_the_order_of_the_axes(flipped):
    """A head from voxel 4 to 23 of 40 along x, of 2 mm: its middle lies at 13.5, world -27 where x runs to the left."""
    voxels = np.zeros((1, 20, 20, 40), np.float32)
    voxels[:, 4:16, 4:16, 4:24] = 100
    direction = ((0.0, 0.0, -1.0 if flipped else 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    grid = Grid(shape=(20, 20, 40), spacing=(1, 1, 2), origin=(0, 0, 0), direction=direction)
    midline = find_midline(Image(voxels=voxels, grid=grid))
    middle = -27 if flipped else 27

    assert midline.point[0] == pytest.approx(middle, abs=2)
    sides = [midline.side_of(np.array([middle + offset, 5.0, 5.0])) for offset in (-8, -1, 1, 8)]
    assert sides == ["right", "midline", "midline", "left"]


def test_the_page_fits_a_phone_and_paper_and_hostile_names_do_nothing(browser, tmp_path):
    cases = [make_case(name, lesions=12, labels=("core", "rim")) for name in (HOSTILE, "b")]
    path = tmp_path / "report.html"
    path.write_text(render_masks_page(make_content(cases, labels=("core", "rim"), model=HOSTILE)))
    outside = (
        "Array.from(document.querySelectorAll('.card *')).filter(part => !part.closest('.scroll, svg') && "
        "part.getBoundingClientRect().right > part.closest('.card').getBoundingClientRect().right + 1).length"
    )
    for width in (390, 1280):
        browser.open(path, width=width)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run(outside) == 0
    assert browser.complaints == []
    assert browser.run("document.images.length") == 0
    assert [address.rpartition("/")[2] for address in browser.requests] == ["report.html"]
    browser.open(path, width=720)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    tables = "Array.from(document.querySelectorAll('.card table')).map(table => table.getBoundingClientRect().right - "
    over = browser.run(f"{tables}table.closest('.card').getBoundingClientRect().right)")
    browser.ask("Emulation.setEmulatedMedia", media="")
    assert max(over) <= 1
