"""The report in a real browser, from a file: nothing is asked for, nothing complains; it sorts, finds and leafs."""

from pathlib import Path

import pytest

from autoseg.reporting import render_report

HOSTILE = "<img src=x onerror=alert(1)><script>document.title = 'taken'</script>"
SORTED = "Array.from(document.querySelectorAll('#cases-table tbody tr')).map(row => row.cells[0].textContent)"
SHOWN = "Array.from(document.querySelectorAll('.slice')).filter(s => s.offsetHeight > 0).map(s => s.textContent.trim())"


@pytest.fixture
def opened(browser, content, tmp_path):
    """The page, open in the browser."""

    def call(*, width=1100, script=True, **more):
        path = Path(tmp_path / "report.html")
        path.write_text(render_report(content(**more)))
        browser.open(path, width=width, script=script)
        return browser

    return call


def click(browser, column):
    browser.run(f"document.querySelectorAll('#cases-table thead button')[{column}].click()")
    return browser.run(SORTED)


def test_it_opens_without_complaint_or_request(opened, experiment):
    browser = opened(experiment=experiment)

    assert browser.complaints == []
    assert [address.rpartition("/")[2] for address in browser.requests] == ["report.html"]
    assert browser.run("document.title") == "Made: report"


def test_the_policy_stops_a_script_and_a_request_that_got_in(opened):
    browser = opened()
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.taken = 1'; document.body.append(s)"
    )
    browser.run("const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)")
    browser.run("document.images.length")

    assert browser.run("typeof window.taken") == "undefined"
    assert len([text for text in browser.complaints if "Content Security Policy" in text]) == 2


def test_hostile_names_do_nothing(opened):
    browser = opened(names=(HOSTILE, "b", "c"), dataset=HOSTILE)

    assert browser.run("document.title") == f"{HOSTILE}: report"
    assert browser.run("document.images.length") == 0
    assert HOSTILE in browser.run(SORTED)
    assert browser.complaints == []


def test_columns_sort_by_number_with_undefined_last(opened):
    """Volumes 12.5, 0.05 and 3; HD95 2, undefined and 10; names with numbers in the order of people."""
    browser = opened()

    assert click(browser, 2) == ["case2", "case10", "case1"]
    assert click(browser, 2) == ["case1", "case10", "case2"]
    assert click(browser, 2)[0] == "case2"
    assert click(browser, 5) == ["case1", "case10", "case2"]
    assert click(browser, 5) == ["case10", "case1", "case2"]
    assert click(browser, 0) == ["case1", "case2", "case10"]
    assert browser.run("document.querySelector('#cases-table [aria-sort]').cellIndex") == 0


def test_a_case_is_found_by_part_of_its_name(opened):
    browser = opened()
    browser.run(
        "const f = document.querySelector('input[type=search]'); f.value = 'SE1';f.dispatchEvent(new Event('input'))"
    )

    assert browser.run("Array.from(document.querySelectorAll('#cases-table tbody tr')).map(r => r.hidden)") == [
        False,
        True,
        False,
    ]
    assert browser.run("document.getElementById('cases-table-found').textContent") == "2 rows"


def test_the_slider_leafs_with_the_keyboard(opened):
    """Six slices without the empty first one; the fullest, number 4 of 6, is open."""
    browser = opened()
    first = browser.run(SHOWN)
    browser.run("document.querySelector('input[type=range]').focus()")
    browser.press("ArrowRight", 39)

    assert [text.split(":")[0] for text in first] == ["slice 4 of 6"]
    assert first[0].endswith("true positive 0.04 cm², false positive 0.04 cm², false negative 0.04 cm²")
    assert [text.split(":")[0] for text in browser.run(SHOWN)] == ["slice 5 of 6"]
    assert browser.run("document.querySelector('input[type=range]').getAttribute('aria-valuetext')").startswith(
        "slice 5"
    )


def test_channel_masks_and_magnifying_change_the_picture(opened):
    browser = opened()

    def change(selector, act):
        element = f'document.querySelector("{selector}")'
        browser.run(f"{element}.{act}; {element}.dispatchEvent(new Event('input'))")

    shown = "Array.from(document.querySelectorAll('.slice:not([hidden]) image')).map(i => getComputedStyle(i).display)"
    assert browser.run(shown) == ["inline", "none"]
    change(".viewer select", "value = '1'")
    assert browser.run(shown) == ["none", "inline"]

    masks = "getComputedStyle(document.querySelector('.slice:not([hidden]) .masks')).display"
    assert browser.run(masks) == "inline"
    change("[data-act=masks]", "checked = false")
    assert browser.run(masks) == "none"

    change("[data-act=magnify]", "checked = true")
    drawing = "document.querySelector('.slice:not([hidden]) svg')"
    assert browser.run(f"{drawing}.getAttribute('viewBox')") == browser.run(
        f"{drawing}.dataset.field || {drawing}.dataset.whole"
    )


def test_without_script_the_fullest_slice_is_shown(opened):
    browser = opened(script=False)
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)

    assert [text.split(":")[0] for text in browser.run(SHOWN)] == ["slice 4 of 6"]
    assert browser.run("document.querySelector('.controls').offsetHeight") == 0


@pytest.mark.parametrize("width", [360, 1100])
def test_the_page_is_never_wider_than_the_window(opened, experiment, width):
    browser = opened(width=width, experiment=experiment, names=("a" * 60, "b", "c"))

    assert browser.run("document.documentElement.scrollWidth") <= width


def test_on_paper_there_is_the_fullest_slice_and_no_control(opened):
    browser = opened()
    browser.run("document.querySelector('input[type=range]').value = 0")
    browser.run("document.querySelector('input[type=range]').dispatchEvent(new Event('input'))")
    browser.ask("Emulation.setEmulatedMedia", media="print")
    shown = browser.run(SHOWN)
    height = browser.run(
        "document.querySelector('.controls').offsetHeight + document.querySelector('nav').offsetHeight"
    )
    browser.ask("Emulation.setEmulatedMedia", media="")

    assert [text.split(":")[0] for text in shown] == ["slice 4 of 6"]
    assert height == 0


def test_a_picture_of_it_shows_scan_and_outcomes(opened, tmp_path):
    """Green, vermillion and light blue over grey, half see-through."""
    from matplotlib.image import imread

    browser = opened()
    browser.run("document.querySelector('.viewer').scrollIntoView()")
    browser.picture(tmp_path / "page.png", whole=False)
    seen = imread(tmp_path / "page.png")[..., :3]
    red, green, blue = seen[..., 0], seen[..., 1], seen[..., 2]

    assert seen.shape[1] > 1000
    assert ((green > red + 0.2) & (green > blue + 0.05)).sum() > 100
    assert ((red > green + 0.2) & (red > blue + 0.2)).sum() > 100
    assert ((blue > red + 0.2) & (green > red + 0.1) & (blue > green)).sum() > 100
