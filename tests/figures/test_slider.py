"""The slider of a trace: what is in the element, and what it does in a browser."""

import base64
import io
from dataclasses import replace
from functools import cache

import matplotlib as mpl
import numpy as np
import pytest
from browser import Page, show
from PIL import Image

from esc_lib.config import PROFILES
from esc_lib.figures.html.slider import trace_slider

FRONT_END = replace(PROFILES["demo"].front_end, n_mels=16)
EPOCHS = [20, 40, 60]
AWKWARD = "<b>\"W\" & 'H'</b></script>"


def growing(n_epochs, n_mels=16, n_atoms=20):
    """Return snapshots that grow from epoch to epoch, shape (epochs, mel, atoms)."""
    w = np.random.default_rng(0).random((n_mels, n_atoms))
    return np.linspace(0.2, 1, n_epochs)[:, None, None] * w


def element(snapshots=None, epochs=EPOCHS, name="Linear", settings=FRONT_END, caption="A caption"):
    snapshots = growing(len(epochs), settings.n_mels) if snapshots is None else snapshots
    return trace_slider(snapshots, epochs, name, settings, caption).data


@cache
def plain():
    """Return the element that most tests read; drawing takes long."""
    return element()


def pngs(text):
    prefix = "data:image/png;base64,"
    sources = [image["src"] for image in Page(text).all("img")]
    assert all(source.startswith(prefix) for source in sources)
    return [base64.b64decode(source.removeprefix(prefix), validate=True) for source in sources]


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGBA"))


def test_one_opaque_white_image_per_epoch_all_of_one_size():
    images = [pixels(png) for png in pngs(plain())]
    assert {image.shape for image in images} == {(330, 1000, 4)}
    assert len(images) == len(EPOCHS)
    for image in images:
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
        assert (image[..., 3] == 255).all()
        assert image[..., :3].min() < 50  # something is drawn


def test_images_differ_where_snapshots_do_and_only_there():
    changing = pngs(plain())
    assert len(set(changing)) == len(EPOCHS)
    constant = pngs(element(growing(3)[[-1, -1, -1]]))
    assert len(set(constant)) == 1
    assert constant[0] == changing[-1]  # both show the atoms at their final size


def test_scale_is_that_of_the_final_atoms_together():
    assert pngs(plain()) == pngs(element(growing(3) * 8))  # divides out without rounding
    assert pngs(plain()) != pngs(element(growing(3) * 2.0 ** np.arange(20)))


def test_last_epoch_is_shown_at_first():
    page = Page(plain())
    shown = [image["data-epoch"] for image in page.all("img") if "hidden" not in image]
    hidden = [image["data-epoch"] for image in page.all("img") if "hidden" in image]
    assert (shown, hidden) == (["60"], ["20", "40"])
    (control,) = page.all("input")
    assert (control["type"], control["min"], control["max"]) == ("range", "0", "2")
    assert control["value"] == "2"
    assert "Linear, epoch 60 of 60" in page.seen


def test_label_and_alternative_texts_name_model_and_epoch():
    page = Page(plain())
    tags = [tag for tag, _ in page.elements]
    assert tags[tags.index("label") :][:3] == ["label", "span", "input"]  # the label holds it
    for image, epoch in zip(page.all("img"), EPOCHS, strict=True):
        assert f"Linear after epoch {epoch}:" in image["alt"]


def test_text_is_escaped():
    text = element(name=AWKWARD, caption=AWKWARD)
    page = Page(text)
    assert not page.all("b")
    assert text.count("</script>") == 1
    assert page.seen.count(AWKWARD) == 2  # label and caption
    assert all(image["alt"].startswith(f"{AWKWARD} after epoch") for image in page.all("img"))


def test_nothing_is_loaded_from_elsewhere_and_nothing_has_an_id():
    page = Page(plain())
    assert "http" not in "".join(page.scripts + page.styles) + page.seen
    for _, attributes in page.elements:
        assert not {"href", "id"} & set(attributes)
        assert "http" not in attributes.get("src", "")[:30]


def test_same_input_gives_the_same_text_whatever_the_style_and_changes_nothing():
    snapshots = growing(3)
    kept = snapshots.copy()
    first = plain()
    other = {"figure.dpi": 50, "font.size": 20, "axes.facecolor": "black"}
    with mpl.rc_context(other):
        assert element(snapshots) == first
        assert {name: mpl.rcParams[name] for name in other} == other
    np.testing.assert_array_equal(snapshots, kept)


def test_an_atom_that_ends_silent_and_a_single_atom_can_be_drawn():
    snapshots = growing(3)
    snapshots[-1, :, 4] = 0
    assert len(pngs(element(snapshots))) == 3
    assert len(pngs(element(growing(3, n_atoms=1)))) == 3


def test_a_page_can_carry_several_of_them():
    settings = replace(FRONT_END, n_mels=64)
    snapshots = np.random.default_rng(0).random((10, 64, 64))  # noise compresses worst
    found = pngs(element(snapshots, list(range(20, 201, 20)), settings=settings))
    assert max(len(png) for png in found) < 40_000


@pytest.mark.parametrize(
    ("snapshots", "epochs"),
    [(growing(2), EPOCHS), (growing(3, n_mels=8), EPOCHS), (growing(3)[0], EPOCHS),
     (growing(1)[:0], [])],
)  # fmt: skip
def test_snapshots_that_do_not_fit_are_refused(snapshots, epochs):
    with pytest.raises(ValueError, match="trace_slider: snapshots of Linear have shape"):
        element(snapshots, epochs)


# --------------------------------------------------------------------------------- a browser


def test_each_slider_shows_its_own_epoch(driver, tmp_path):
    from selenium.webdriver.common.keys import Keys

    show(driver, tmp_path, plain() + plain())
    roots = driver.find_elements("css selector", ".trace-slider")

    def seen(root):
        images = root.find_elements("css selector", "img")
        shown = [image.get_attribute("data-epoch") for image in images if image.is_displayed()]
        return shown, root.find_element("css selector", "label").text

    assert [seen(root) for root in roots] == 2 * [(["60"], "Linear, epoch 60 of 60")]
    slider = roots[0].find_element("css selector", "input")
    assert slider.is_displayed() and slider.rect["width"] == roots[0].rect["width"]
    assert slider.accessible_name == "Linear, epoch 60 of 60"
    slider.send_keys(Keys.ARROW_LEFT)
    assert slider.get_attribute("aria-valuetext") == "epoch 40"
    assert [seen(root)[0] for root in roots] == [["40"], ["60"]]
    assert seen(roots[0])[1] == "Linear, epoch 40 of 60"


def test_without_its_script_the_last_epoch_is_seen_and_no_slider(driver, tmp_path):
    driver.set_window_size(600, 600)
    show(driver, tmp_path, plain().partition("<script>")[0])
    images = driver.find_elements("css selector", "img")
    assert [image.is_displayed() for image in images] == [False, False, True]
    assert images[2].rect["width"] <= driver.execute_script("return innerWidth")
    assert not driver.find_element("css selector", "input").is_displayed()
