"""Page of a check: whole and escaped; slices with the outlines of their labels."""

import re

import numpy as np
import pytest

from autoseg.core.records import Check, CheckedCase, Suspicion
from autoseg.reporting import CheckContent, render_check_page, view_planes

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(tmp_path):
    """A page of two cases and two channels; the second case is suspicious."""
    rng = np.random.default_rng(0)
    mask = np.zeros((6, 8, 10), np.int16)
    mask[2:4, 3:6, 5:9] = 1
    mask[3, 4, 6] = 2
    suspicion = Suspicion(
        case=HOSTILE, kind="cut", certainty="likely", strength=2, title="cut", sentence=f"See {HOSTILE}.", cases=("a",)
    )
    content = CheckContent(
        made_at="2026-01-01",
        check=Check(
            dataset="Made",
            version="0",
            compared=True,
            suspicions=(suspicion,),
            cases=(CheckedCase(case="a"), CheckedCase(case=HOSTILE)),
        ),
        channels=("FLAIR", "T1"),
        labels=("core", "rim"),
        planes={name: view_planes(rng.normal(9, 1, (2, 6, 8, 10)), mask, (3, 1, 1), (1, 2)) for name in ("a", HOSTILE)},
        notes={},
    )
    path = tmp_path / "check.html"
    path.write_text(render_check_page(content))
    return path


def test_planes_run_through_the_largest_part_of_the_mask():
    mask = np.zeros((6, 8, 10), np.int16)
    mask[4, 3:6, 5:9] = 1
    planes = view_planes(np.random.default_rng(0).normal(9, 1, (1, 6, 8, 10)), mask, (3, 1, 2), (1,))
    assert [plane.caption for plane in planes] == ["axial 5 of 6", "coronal 4 of 8", "sagittal 6 of 10"]
    assert [plane.size for plane in planes] == [(20, 8), (20, 18), (8, 18)]
    assert planes[0].outlines == ((0, "M5 3H9V6H5Z"),)
    assert planes[1].outlines == ((0, "M5 1H9V2H5Z"),)  # the head is up
    assert [plane.sides for plane in planes] == [("R", "L"), ("R", "L"), ("A", "P")]


def test_planes_are_cropped_to_the_head_and_the_mask():
    scan, mask = np.zeros((1, 30, 40, 50)), np.zeros((30, 40, 50), np.int16)
    scan[0, 10:20, 10:20, 10:20] = 100
    mask[15, 30, 15] = 1
    axial = view_planes(scan, mask, (1, 1, 2), (1,))[0]
    assert axial.size == (28, 29)  # 10 voxels of 2 mm, 21 of 1 mm, and 4 mm on each side
    assert axial.outlines == ((0, "M7 24H8V25H7Z"),)


def test_a_single_slice_is_one_plane_and_an_empty_mask_shows_the_middle():
    assert [plane.caption for plane in view_planes(np.zeros((1, 1, 8, 10)), None, (1, 1, 1), ())] == ["axial 1 of 1"]
    assert view_planes(np.zeros((1, 6, 8, 10)), None, (1, 1, 1), ())[0].caption == "axial 4 of 6"


def test_the_page_is_escaped_and_suspicious_cases_come_first_with_every_channel(page):
    text = page.read_text()
    assert "<img" not in text
    assert re.findall(r'<article class="card" id="(case-\d)"', text) == ["case-0", "case-1"]
    assert text.index("&lt;img src=x") < text.index('id="case-1"')
    assert text.count("data:image/jpeg") == 3 * 2 + 3
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(re.findall(r'id="([^"]+)"', text))
    assert "http" not in text.replace("http-equiv", "")


def test_it_opens_without_complaint_and_finds_a_case(browser, page):
    browser.open(page)
    browser.run(
        "const f = document.querySelector('input[type=search]'); f.value = 'IMG';f.dispatchEvent(new Event('input'))"
    )
    assert browser.run("Array.from(document.querySelectorAll('.card')).map(card => card.hidden)") == [False, True]
    assert browser.run("document.getElementById('cards-found').textContent") == "1 case"
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints == []
