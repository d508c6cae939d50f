"""A page about a sound file, from the command line."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from browser import Page
from two_bands import FRONT_END, settled

from esc_lib.__main__ import main
from esc_lib.config import PROFILES, Network
from esc_lib.explain import hear
from esc_lib.explain.masks import cut_out
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint

NETWORK = Network((4, 4, 6, 8, 8), se_reduction=2, hidden=8)
PROFILE = replace(PROFILES["demo"], front_end=FRONT_END, network=NETWORK)
NAMES = ["a_dog", "rain", "<b>"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the folder of a recorded network, and one of a sound at another rate."""
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    model = settled(SECNN(3, PROFILE.network))
    checkpoint.save(folder / "model.safetensors", model.half(), PROFILE, NAMES)
    rng, time_s = np.random.default_rng(0), np.arange(20_000) / 16_000
    sound = 0.3 * np.sin(2 * np.pi * 700 * time_s) + rng.normal(scale=0.01, size=20_000)
    soundfile.write(folder / "clip.wav", np.stack([sound, sound], axis=1), 16_000)
    return folder


@pytest.mark.usefixtures("exact")
def test_the_explainer_of_a_recorded_network_hears_what_the_study_hears(study):
    explainer = hear.explainer_of(study)
    front_end = LogMel(FRONT_END)
    n_samples = (FRONT_END.n_frames - 1) * FRONT_END.hop_length
    waves = 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    model = checkpoint.load(study / "model.safetensors", PROFILE, NAMES)
    features = front_end.features(waves, torch.full((2,), n_samples))
    with torch.no_grad():
        expected = model(features).float().softmax(dim=1)
    torch.testing.assert_close(explainer.listen(waves), expected, atol=1e-4, rtol=1e-4)
    mask = torch.rand(2, *explainer.asked.grid.shape(n_samples))
    kept = explainer.asked.grid.apply(waves, mask)
    reach = n_samples - FRONT_END.n_fft
    torch.testing.assert_close(kept[:, :reach], cut_out(front_end, waves, mask)[:, :reach],
                               atol=1e-6, rtol=0)  # fmt: skip
    assert explainer.names == ["a dog", "rain", "<b>"]


def test_a_page_needs_nothing_else(study, tmp_path, capsys):
    page = tmp_path / "page.html"
    command = ["hear", str(study / "clip.wav"), "--model", str(study), "--page", str(page)]
    assert main([*command, "--target", "a_dog", "--method", "gradient equaliser"]) == 0
    said = capsys.readouterr().out
    assert "clip.wav: " in said and "Explained: a dog, by gradient equaliser." in said
    text = page.read_text()
    assert text.count("<audio") == 3 and "control: random places" in text
    assert "http" not in text.replace("http://www.w3.org", "") and "<b>" not in text
    assert "&lt;b&gt; " in text  # the names of classes are no markup


def test_the_name_of_a_file_is_no_markup(study, tmp_path):
    found = {}
    for name in ("clip.wav", "\"><img src=x onerror=alert(1)>{0}<script>.wav"):
        clip, page = shutil.copy2(study / "clip.wav", tmp_path / name), tmp_path / "page.html"
        hear.hear(clip, study, page, "rain", method="gradient equaliser")
        found[name] = Page(page.read_text())
    one, other = found.values()
    assert [(tag, list(given)) for tag, given in one.elements] == [
        (tag, list(given)) for tag, given in other.elements
    ]
    assert one.scripts == other.scripts and "onerror=alert(1)>{0}<script>.wav: " in other.seen


def test_what_cannot_be_heard_is_refused_in_one_sentence(study, tmp_path, capsys):
    (tmp_path / "text.wav").write_text("no sound")
    clip, page = str(study / "clip.wav"), ["--page", str(tmp_path / "page.html")]
    for arguments, message in (
        ([str(tmp_path / "text.wav"), "--model", str(study)], "text.wav cannot be read"),
        ([clip, "--model", str(tmp_path)], "model.safetensors is missing; give a folder as"),
        ([clip, "--model", str(study), "--target", "cat"], "no class 'cat'; choose one of a dog"),
        ([clip, "--model", str(study), "--method", "LIME"], "method='LIME'; choose one of"),
    ):
        assert main(["hear", *arguments, *page]) == 1
        said = capsys.readouterr().err.strip()
        assert message in said and "\n" not in said
    assert not (tmp_path / "page.html").exists()
