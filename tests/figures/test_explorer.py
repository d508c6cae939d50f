"""The explorer of clip maps: what is in the element, and what it does in a browser."""

import base64
import io
import json
import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
import soundfile
from browser import Page, show

from esc_lib.figures.html import explorer

SR = 8000
N = 12
LAYERS = ("block 1", "fc1")
AWKWARD = "<b>\"W\" & 'H'</b></script>"
CLIPS = pd.DataFrame(
    {
        "filename": [f"{i}.wav" for i in range(N)],
        "category": np.repeat(["dog", "sea_waves", "rain"], 4),
        "group": np.repeat(["dog", "sea_waves", "rain"], 4),
        "fold": np.tile([1, 2], 6),
        "part": np.tile(["test", "validation"], 6),
        "predicted": ["rain", *np.repeat(["dog", "sea_waves", "rain"], 4)[1:]],
    }
)
# a grid of 4 x 3: in the first map clip 0 is at the top left, clip 3 at the top right
GRID = np.stack([np.tile(np.arange(4.0), 3), -np.repeat(np.arange(3.0), 4)], axis=1)
MAPS = {
    "t-SNE": {"block 1": GRID * [-1, 1], "fc1": GRID},
    "UMAP": {"block 1": GRID * [-1, -1], "fc1": GRID * [1, -1]},
}
SOUNDS = {i: np.sin(np.arange(6 * SR) * (0.2 + 0.05 * i)) / 2 for i in (0, 5)}


def element(clips=CLIPS, maps=MAPS, sounds=SOUNDS, caption="A caption"):
    return explorer.explorer(clips, maps, sounds, SR, caption).data


@cache
def plain():
    """Return the element that most tests read."""
    return element()


def data_of(text):
    return json.loads(Page(text).scripts[0])


# ------------------------------------------------------------------------------- the element


def test_points_stand_where_the_first_map_puts_them_even_without_javascript():
    page = Page(plain())
    points = page.all("g", "point")
    places = [[float(n) for n in re.findall(r"[\d.]+", point["transform"])] for point in points]
    assert places == data_of(plain())["maps"]["t-SNE"]["fc1"]
    x, y = np.array(places).T
    # the grid's order, its y axis upwards, one unit as long in both directions, in the middle
    steps = np.diff(x.reshape(3, 4)), np.diff(y.reshape(3, 4), axis=0)
    assert (steps[0] > 0).all() and (steps[1] > 0).all()
    np.testing.assert_allclose(steps[0], steps[0].mean(), atol=1)
    np.testing.assert_allclose(steps[1], steps[0].mean(), atol=1)
    assert ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2) == (
        explorer.WIDTH / 2, explorer.HEIGHT / 2,
    )  # fmt: skip


def test_every_point_says_clip_class_fold_and_prediction_and_errors_have_a_ring():
    text = plain()
    first, second = Page(text).all("g", "point")[:2]
    assert first["aria-label"] == "0.wav: dog, fold 1 (test), heard as rain."
    assert second["aria-label"] == "1.wav: dog, fold 2 (validation), recognised."
    assert text.count('<circle class="ring"') == 1
    assert '<circle class="ring"' in text.split('aria-label="1.wav')[0]


def test_groups_differ_in_colour_and_shape_and_points_carry_those_of_the_legend():
    page = Page(plain())
    paths = [(path["d"], path["fill"]) for path in page.all("path")]
    legend, points = paths[:3], paths[3:]
    assert len({d for d, _ in legend}) == len({fill for _, fill in legend}) == 3
    names = ["dog", "rain", "sea_waves"]
    assert points == [legend[names.index(group)] for group in CLIPS.group]
    assert "sea waves" in page.seen and "sea_waves" not in page.seen
    assert len(set(explorer.COLOURS)) == 10
    marks = {(colour, explorer.MARKERS[i % 5]) for i, colour in enumerate(explorer.COLOURS)}
    assert len(explorer.MARKERS) == len(explorer.PATHS) == 5 and len(marks) == 10


def test_sounds_are_those_given():
    found = data_of(plain())["sounds"]
    assert set(found) == {"0", "5"}
    for key, coded in found.items():
        kind, _, packed = coded.partition(",")
        assert kind == "data:audio/ogg;base64"
        sound, sr = soundfile.read(io.BytesIO(base64.b64decode(packed, validate=True)))
        given = SOUNDS[int(key)]
        assert (sr, len(sound)) == (SR, len(given))
        assert np.corrcoef(sound, given)[0, 1] > 0.95
    silent = ["silent" in point["class"] for point in Page(plain()).all("g", "point")]
    assert silent == [i not in SOUNDS for i in range(N)]


def test_text_is_escaped():
    clips = CLIPS.assign(category=AWKWARD, group=AWKWARD, predicted=AWKWARD)
    maps = {method: {AWKWARD: GRID} for method in MAPS}
    page = Page(text := element(clips, maps, caption=AWKWARD))
    assert not page.all("b")
    assert text.count("</script>") == 2
    assert page.seen.count(AWKWARD) == 3  # group, layer and caption
    assert list(data_of(text)["maps"]["UMAP"]) == [AWKWARD]


def test_nothing_is_loaded_from_elsewhere_and_nothing_has_an_id():
    text = plain()
    assert "http" not in text
    for _, attributes in Page(text).elements:
        assert not {"href", "src", "id"} & set(attributes)


def test_the_input_is_left_alone():
    kept = CLIPS.copy(), GRID.copy(), SOUNDS[0].copy()
    element()
    pd.testing.assert_frame_equal(CLIPS, kept[0])
    np.testing.assert_array_equal(GRID, kept[1])
    np.testing.assert_array_equal(SOUNDS[0], kept[2])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="explorer: the map of fc1 by UMAP has shape"):
        element(maps=MAPS | {"UMAP": {"fc1": GRID[:5]}})
    with pytest.raises(ValueError, match="explorer: the map of fc1 by UMAP has shape"):
        element(maps=MAPS | {"UMAP": {"fc1": np.full((N, 2), np.nan)}})
    with pytest.raises(ValueError, match="groups_of: 12 groups, but 10 marks"):
        element(CLIPS.assign(group=CLIPS.filename))
    noise = np.random.default_rng(0).uniform(-1, 1, 60 * SR)
    with pytest.raises(ValueError, match="at most 2 are light enough"):
        element(sounds=dict.fromkeys(range(N), noise))


# --------------------------------------------------------------------------------- a browser


@pytest.fixture
def roots(driver, tmp_path):
    """Return the two explorers of a page that carries the same element twice."""
    show(driver, tmp_path, plain() + plain())
    return driver.find_elements("css selector", ".clip-maps")


def find(root, what):
    return root.find_element("css selector", what)


def points(root):
    return root.find_elements("css selector", ".point")


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 10).until(lambda _: condition())


def places(root):
    """Return where the points stand on the screen, in pixels from the map's corner."""
    box = find(root, ".map").rect
    rects = [point.rect for point in points(root)]
    return np.array(
        [[r["x"] + r["width"] / 2 - box["x"], r["y"] + r["height"] / 2 - box["y"]] for r in rects]
    )


def expected(method, layer):
    return np.array(data_of(plain())["maps"][method][layer])


def there(root, method, layer):
    scale = find(root, ".map").rect["width"] / explorer.WIDTH
    return np.allclose(places(root), scale * expected(method, layer), atol=4)


def test_layer_and_method_move_the_points_of_one_explorer_only(driver, roots):
    from selenium.webdriver.support.ui import Select

    one, other = roots
    assert there(one, "t-SNE", "fc1")
    Select(find(one, "select")).select_by_value("block 1")
    wait(driver, lambda: there(one, "t-SNE", "block 1"))
    umap = one.find_elements("css selector", ".bar button")[1]
    umap.click()
    wait(driver, lambda: there(one, "UMAP", "block 1"))
    assert umap.get_attribute("aria-pressed") == "true"
    assert find(one, ".map").get_attribute("aria-label") == "Map of clips: block 1, UMAP"
    assert there(other, "t-SNE", "fc1")


def is_playing(root):
    audio = find(root, "audio")
    return not audio.get_property("paused") and audio.get_property("currentTime") > 0


def test_a_click_plays_the_clip_and_says_so_and_another_explorer_falls_silent(driver, roots):
    one, other = roots
    points(one)[0].click()
    wait(driver, lambda: is_playing(one))
    said = find(one, ".said")
    assert said.text == "0.wav: dog, fold 1 (test), heard as rain. Playing."
    assert find(one, "audio").get_property("duration") == pytest.approx(6, abs=0.05)
    points(other)[5].click()
    wait(driver, lambda: is_playing(other))
    wait(driver, lambda: not is_playing(one))
    assert "Playing" not in said.text
    points(other)[1].click()
    assert find(other, ".said").text == (
        "1.wav: dog, fold 2 (validation), recognised. No sound here."
    )
    assert not is_playing(other)


def test_pointing_says_what_is_there(driver, roots):
    from selenium.webdriver import ActionChains

    one, _ = roots
    ActionChains(driver).move_to_element(points(one)[6]).perform()
    assert find(one, ".said").text.startswith("6.wav: sea waves, fold 1 (test), recognised.")
    assert find(one, ".said").get_attribute("aria-live") == "polite"


def test_keyboard_reaches_a_neighbour_and_plays_it(driver, roots):
    from selenium.webdriver import ActionChains, Keys

    one, _ = roots
    find(one, "select").click()
    find(one, "select").send_keys(Keys.ESCAPE)
    reached = {p.get_attribute("tabindex") for p in points(one)}
    assert reached == {"0", "-1"}  # one stop for the tabulator, not one per clip
    points(one)[2].click()  # top row, third of four
    keys = ActionChains(driver).send_keys(Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    keys.perform()
    assert find(one, ".said").text.startswith("5.wav: sea waves")
    assert driver.switch_to.active_element == points(one)[5]
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    wait(driver, lambda: is_playing(one))
    ActionChains(driver).send_keys(Keys.ARROW_UP, Keys.ARROW_UP).perform()
    assert find(one, ".said").text.startswith("1.wav")  # the top row has none above it


def test_a_class_can_be_singled_out_and_back(driver, roots):
    one, _ = roots
    rain = one.find_elements("css selector", ".legend button")[1]
    rain.click()
    faded = ["faded" in point.get_attribute("class") for point in points(one)]
    assert faded == (CLIPS.group != "rain").tolist()
    rain.click()
    assert not one.find_elements("css selector", ".faded")
