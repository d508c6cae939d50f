"""The slider of a trace: what is in the element, without a browser."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from esc_lib.config import PROFILES
from esc_lib.figures.html.slider import trace_slider

FRONT_END = replace(PROFILES["demo"].front_end, n_mels=16)
EPOCHS = [20, 40, 60]
AWKWARD = "<b>\"W\" & 'H'</b></script>"


class Page(HTMLParser):
    """All elements as (tag, attributes), the script, and the text a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.script, self.seen = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements[-1][0] == "script":
            self.script += data
        else:
            self.seen += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def growing(n_epochs, n_mels=16, n_atoms=20):
    """Return snapshots that grow from epoch to epoch, shape (epochs, mel, atoms)."""
    w = np.random.default_rng(0).random((n_mels, n_atoms))
    return np.linspace(0.2, 1, n_epochs)[:, None, None] * w


def element(snapshots=None, epochs=EPOCHS, name="Linear", settings=FRONT_END, caption="A caption"):
    snapshots = growing(len(epochs), settings.n_mels) if snapshots is None else snapshots
    return trace_slider(snapshots, epochs, name, settings, caption).data


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
    images = [pixels(png) for png in pngs(element())]
    assert {image.shape for image in images} == {(330, 1000, 4)}
    assert len(images) == len(EPOCHS)
    for image in images:
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
        assert (image[..., 3] == 255).all()
        assert image[..., :3].min() < 50  # something is drawn


def test_images_differ_where_snapshots_do_and_only_there():
    changing = pngs(element())
    assert len(set(changing)) == len(EPOCHS)
    constant = pngs(element(growing(3)[[-1, -1, -1]]))
    assert len(set(constant)) == 1
    assert constant[0] == changing[-1]  # both show the atoms at their final size


def test_scale_is_that_of_the_final_atoms_together():
    assert pngs(element()) == pngs(element(growing(3) * 8))  # divides out without rounding
    assert pngs(element()) != pngs(element(growing(3) * 2.0 ** np.arange(20)))


def test_last_epoch_is_shown_at_first():
    page = Page(element())
    shown = [image["data-epoch"] for image in page.all("img") if "display:block" in image["style"]]
    hidden = [image["data-epoch"] for image in page.all("img") if "display:none" in image["style"]]
    assert (shown, hidden) == (["60"], ["20", "40"])
    (control,) = page.all("input")
    assert (control["type"], control["min"], control["max"]) == ("range", "0", "2")
    assert control["value"] == "2"
    assert "display:none" in control["style"]  # it would do nothing without the script
    assert "Linear, epoch 60 of 60" in page.seen


def test_label_and_alternative_texts_name_model_and_epoch():
    page = Page(element())
    (label,), (control,) = page.all("label"), page.all("input")
    assert label["for"] == control["id"]
    for image, epoch in zip(page.all("img"), EPOCHS, strict=True):
        assert f"Linear after epoch {epoch}:" in image["alt"]
        assert "max-width:100%" in image["style"]


@pytest.mark.parametrize("names", [("Linear", "Basis"), ("a b", "a-b"), (AWKWARD, "W & H")])
def test_sliders_of_two_models_share_no_id(names):
    pages = [Page(element(epochs=[20], name=name)) for name in names]
    ids = [identifier for page in pages for identifier in page.ids()]
    assert len(ids) == len(set(ids)) == 6
    for page in pages:
        for identifier in page.ids():
            assert " " not in identifier
            assert f'getElementById("{identifier}")' in page.script


def test_text_is_escaped():
    text = element(name=AWKWARD, caption=AWKWARD)
    page = Page(text)
    assert not page.all("b")
    assert text.count("</script>") == 1
    assert page.seen.count(AWKWARD) == 2  # label and caption
    assert all(image["alt"].startswith(f"{AWKWARD} after epoch") for image in page.all("img"))


def test_nothing_is_loaded_from_elsewhere():
    page = Page(element())
    assert "http" not in page.script + page.seen
    for _, attributes in page.elements:
        assert "href" not in attributes
        assert "http" not in attributes.get("src", "")[:30]


def test_same_input_gives_the_same_text_whatever_the_style_and_changes_nothing():
    snapshots = growing(3)
    kept = snapshots.copy()
    first = element(snapshots)
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
