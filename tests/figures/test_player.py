"""Players: what is in the element, and what it does in a browser."""

import base64
import io
import time
from dataclasses import replace

import librosa
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from browser import Page, show
from PIL import Image

from esc_lib.config import PROFILES, FrontEnd
from esc_lib.data.clips import Data
from esc_lib.figures.html.player import Sound, captioned, of_clips, of_parts, pictured
from esc_lib.sound.log_mel import LogMel

FRONT_END = replace(PROFILES["demo"].front_end, n_mels=16, n_frames=188)
LIMITS = (-80.0, 0.0)
PICTURE_S = 188 * 256 / 16_000
AWKWARD = "<b>\"dog\" & 'hen'</b></script>"


def noise(n_samples, exponent=0.5, seed=0):
    """Return noise at a tenth of full scale whose power falls as 1 / f**(2 exponent)."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=n_samples))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** exponent
    waveform = np.fft.irfft(spectrum, n_samples)
    return 0.1 * waveform / waveform.std()


def sound(title="a dog", duration_s=3.0, seed=0, settings=FRONT_END):
    image = np.random.default_rng(seed).uniform(-90, 5, (settings.n_mels, settings.n_frames))
    return Sound(noise(round(duration_s * settings.sr), seed=seed), title, image)


def element(sounds=None, settings=FRONT_END, **options):
    sounds = [[sound()]] if sounds is None else sounds
    return pictured(sounds, settings, "CC BY", **{"limits": LIMITS} | options).data


def content(uri, kind):
    prefix = f"data:{kind};base64,"
    assert uri.startswith(prefix)
    return io.BytesIO(base64.b64decode(uri.removeprefix(prefix), validate=True))


def place(span, side):
    return float(span["style"].removeprefix(side).rstrip("%"))


def level_db(waveform):
    return 10 * np.log10(np.mean(np.square(waveform)))


# ------------------------------------------------------------------------------ what is in it


def test_one_player_per_sound_row_by_row_with_heading_and_title():
    grid = [[sound(f"{kind} {clip}") for kind in ("clip", "rest")] for clip in (1, 2, 3)]
    page = Page(element(grid, headings=["as it is", "without it"]))
    titles = [f"{kind} {clip}" for clip in (1, 2, 3) for kind in ("clip", "rest")]
    named = [f"{h}: {t}" for h, t in zip(["as it is", "without it"] * 3, titles, strict=True)]
    assert [audio["aria-label"] for audio in page.all("audio")] == named
    assert [button["aria-label"] for button in page.all("button")] == [f"Play {n}" for n in named]
    pictures = page.all("div", "picture")
    assert [p["aria-label"] for p in pictures] == [f"Position in {n}" for n in named]
    for picture in pictures:
        assert (picture["role"], picture["tabindex"]) == ("slider", "0")
        assert picture["aria-valuemax"] == "3.00"
    assert [image["alt"] for image in page.all("img")] == [f"Mel spectrogram of {n}" for n in named]
    assert page.all("div", "grid c2") and page.seen.count("as it is") == 3
    assert "Sound: CC BY." in page.seen


@pytest.mark.parametrize("transform", [np.float32, np.float64])
def test_picture_decodes_to_the_pixels_of_the_colour_map(transform):
    drawn = sound()
    image = drawn.image.astype(transform)
    kept = image.copy()
    page = Page(element([[replace(drawn, image=image)]]))
    picture = Image.open(content(page.all("img")[0]["src"], "image/png"))
    assert (picture.format, picture.mode) == ("PNG", "P")
    scaled = mpl.colors.Normalize(*LIMITS, clip=True)(image)
    expected = mpl.colormaps["magma"](scaled, bytes=True)[::-1, :, :3]  # the top row is the highest
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), expected)
    np.testing.assert_array_equal(image, kept)


def test_infinite_decibels_get_the_outer_colours():
    image = np.full((16, 188), -np.inf)
    image[0] = np.inf
    page = Page(element([[replace(sound(), image=image)]]))
    picture = Image.open(content(page.all("img")[0]["src"], "image/png"))
    pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[-1].sum(axis=1) > 600).all() and (pixels[:-1].sum(axis=2) < 10).all()


@pytest.mark.parametrize(("sr", "exponent"), [(44_100, 0), (44_100, 0.5), (16_000, 0.5)])
@pytest.mark.parametrize("gain", [1, 0.01])
def test_sound_decodes_to_its_own_level(sr, exponent, gain):
    settings = replace(FRONT_END, sr=sr, n_frames=200)
    waveform = gain * noise(2 * sr, exponent)
    image = np.zeros((16, int(2 * sr / 256)))
    page = Page(element([[Sound(waveform, "noise", image)]], settings))
    (audio,) = page.all("audio")
    decoded, decoded_sr = soundfile.read(content(audio["src"], "audio/ogg"))
    assert (decoded.shape, decoded_sr) == (waveform.shape, sr)
    assert level_db(decoded) == pytest.approx(level_db(waveform), abs=0.5)  # Vorbis is lossy


def test_axes_have_units_and_ticks_at_the_right_places():
    page = Page(element([[sound()], [sound()]], unit="deviations"))
    assert page.seen.count("time (s)") == page.seen.count("frequency (Hz)") == 2
    assert "Colour: −80  0 deviations." in page.seen
    (player, _) = [div for div in page.all("div") if "data-sound" in div]
    assert float(player["data-picture"]) == pytest.approx(PICTURE_S)
    assert float(player["data-sound"]) == pytest.approx(3.0)
    along = [place(span, "left:") for span in page.all("span", "s")]
    assert along[:4] == pytest.approx([100 * s / PICTURE_S for s in range(4)], abs=0.06)
    up = [place(span, "bottom:") for span in page.all("span", "hz")]
    mel = librosa.hz_to_mel([20, 200, 1000, 2000, 5000, 8000])  # edges of the bank, and the ticks
    expected = [17 * (m - mel[0]) / (mel[-1] - mel[0]) - 0.5 for m in mel[1:-1]]  # 16 bands
    assert up[:4] == pytest.approx([100 * place / 16 for place in expected], abs=1)


def test_text_is_escaped():
    text = element([[sound(AWKWARD)]], headings=[AWKWARD], unit=AWKWARD)
    page = Page(text)
    assert not page.all("b") and text.count("</script>") == 1
    assert page.seen.count(AWKWARD) == 3
    assert page.all("audio")[0]["aria-label"] == f"{AWKWARD}: {AWKWARD}"


def test_nothing_is_loaded_from_elsewhere_and_nothing_has_a_name_that_could_clash():
    text = element([[sound(), sound()]])
    page = Page(text)
    assert "http" not in text and not any("href" in a or "id" in a for _, a in page.elements)
    assert {a["src"].partition(";")[0] for _, a in page.elements if "src" in a} == {
        "data:image/png", "data:audio/ogg",
    }  # fmt: skip
    assert (len(page.all("style")), len(page.all("script"))) == (1, 1)


def test_blocks_of_other_widths_have_one_and_the_same_style():
    two, three = (Page(element([[sound()] * n])).styles for n in (2, 3))
    assert two == three


def test_twenty_players_of_white_noise_stay_below_four_megabytes():
    settings = FrontEnd()
    rng = np.random.default_rng(0)
    images = rng.uniform(-80, 0, (2, 128, 431))
    grid = [[Sound(noise(220_500, 0, seed), "noise", images[seed])] for seed in (0, 1)]
    one, two = (len(element(grid[:n], settings)) for n in (1, 2))
    assert one + 19 * (two - one) < 4e6
    assert one - (two - one) < 10_000  # script and style, once per block


AN_IMAGE, A_SOUND = np.zeros((16, 188)), np.zeros(100)


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ([], {}, r"rows hold \[\] sounds"),
        ([[sound()], [sound(), sound()]], {}, r"rows hold \[1, 2\] sounds"),
        ([[sound()] * 5], {}, r"rows hold \[5\] sounds; give every row the same number, 1 to 4"),
        ([[Sound(A_SOUND, "hen")]], {}, "'hen' has no image"),
        ([[sound()]], {"headings": ["a", "b"]}, "2 headings for 1 columns"),
        ([[sound()]], {"limits": (0, -80)}, r"limits=\(0, -80\), expected the lower one first"),
        ([[Sound(A_SOUND, "hen", AN_IMAGE[:9])]], {}, r"'hen' has shape \(9, 188\), expected"),
        ([[Sound(A_SOUND, "a", AN_IMAGE), Sound(A_SOUND, "hen", AN_IMAGE[:, :9])]], {},
         r"image of 'hen' has shape \(16, 9\), expected \(16, 188\)"),
        ([[Sound(A_SOUND, "hen", AN_IMAGE * np.nan)]], {}, "image of 'hen' holds NaN"),
        ([[Sound(A_SOUND[:0], "hen", AN_IMAGE)]], {}, r"waveform of 'hen' has shape \(0,\)"),
        ([[Sound(A_SOUND[None], "hen", AN_IMAGE)]], {}, r"waveform of 'hen' has shape \(1, 100\)"),
        ([[Sound(np.zeros(80_000), "hen", AN_IMAGE)]], {}, "expected 1 to 49152 samples"),
        ([[Sound(A_SOUND + np.inf, "hen", AN_IMAGE)]], {}, "waveform of 'hen' holds NaN or inf"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(grid, options, message):
    with pytest.raises(ValueError, match=rf"^pictured: .*{message}") as caught:
        element(grid, **options)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------- under their captions


def tone(sr, duration_s, amplitude):
    time_s = np.arange(int(sr * duration_s)) / sr
    return amplitude * np.sin(2 * np.pi * 440 * time_s)


def played(waveform, sr=16_000, caption="a tone"):
    """Return the page of one captioned sound, its audio element, and what that decodes to."""
    page = Page(captioned([Sound(waveform, caption)], sr, "CC & BY").data)
    (audio,) = page.all("audio")
    return page, audio, *soundfile.read(content(audio["src"], "audio/ogg"))


@pytest.mark.parametrize(
    ("sr", "duration_s", "amplitude"), [(44_100, 5.0, 0.5), (16_000, 3.0, 0.01), (16_000, 0.3, 0.9)]
)
def test_player_holds_the_sound_at_its_own_level(sr, duration_s, amplitude):
    waveform = tone(sr, duration_s, amplitude)
    kept = waveform.copy()
    _, audio, decoded, decoded_sr = played(waveform, sr)
    assert decoded_sr == sr
    assert len(decoded) / sr == pytest.approx(duration_s, abs=1e-3)
    assert level_db(decoded) == pytest.approx(level_db(waveform), abs=0.5)  # Vorbis is lossy
    assert "controls" in audio and audio["preload"] == "none"
    np.testing.assert_array_equal(waveform, kept)


def test_player_takes_float32_and_silence():
    _, _, decoded, _ = played(np.zeros(16_000, np.float32))
    assert len(decoded) == 16_000 and not decoded.any()


def test_player_keeps_two_ears_apart():
    white = 0.1 * np.random.default_rng(0).normal(size=16_000)
    ears = np.stack([white, 0.5 * np.roll(white, 8)], axis=1)  # the right ear later and quieter
    _, _, decoded, _ = played(ears)
    assert decoded.shape == ears.shape
    assert level_db(decoded[:, 0]) - level_db(decoded[:, 1]) == pytest.approx(6.02, abs=0.3)
    lags = [np.dot(decoded[:-20, 0], np.roll(decoded[:, 1], -lag)[:-20]) for lag in range(20)]
    assert np.argmax(lags) == 8


def test_caption_is_escaped():
    caption = 'dog & "hen" <script>alert(1)</script>\'s'
    page, audio, *_ = played(tone(16_000, 0.2, 0.1), caption=caption)
    assert not page.all("script")
    assert page.seen == audio["aria-label"] == f"{caption} (CC & BY)"


def test_players_are_one_block_in_order():
    sounds = [Sound(tone(16_000, 0.2, 0.1), name) for name in ("one", "two")]
    page = Page(captioned(sounds, 16_000, "MIT").data)
    assert [audio["aria-label"] for audio in page.all("audio")] == ["one (MIT)", "two (MIT)"]
    assert page.elements[1][0] == "div" and len(page.all("div")) == len(page.all("style")) == 1


# --------------------------------------------------------------------------- of clips and parts


def test_clips_come_without_their_padding_and_with_the_network_s_input():
    lengths = torch.tensor([20_000, 30_000, 9_000])
    waveforms = torch.randint(-9_000, 9_000, (3, 48_000), dtype=torch.int16)
    waveforms[torch.arange(48_000) >= lengths[:, None]] = 0
    clips = pd.DataFrame({"filename": ["a_1.wav", "b.wav", "c.wav"]})
    front_end = LogMel(FRONT_END)
    found = of_clips(Data(clips, waveforms, lengths), np.array([2, 0]), front_end, ["x_y", "z"])
    assert [one.title for one in found] == ["x y\nc.wav", "z\na 1.wav"]
    for one, row in zip(found, (2, 0), strict=True):
        np.testing.assert_array_equal(one.waveform * 32768, waveforms[row, : lengths[row]])
        of_row = waveforms[[row]].float() / 32768, lengths[[row]]
        torch.testing.assert_close(torch.tensor(one.image), front_end.features(*of_row)[0, 0])


def test_parts_have_the_level_of_their_clip_and_pictures_below_its_peak():
    clips = 0.1 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([48_000, 30_000])
    clips[1, 30_000:] = 0
    kept = clips.clone()
    rows = of_parts(LogMel(FRONT_END), [clips, 0.1 * clips], lengths, ["a", "b"])
    assert [[sound.title for sound in row] for row in rows] == [["a", "a"], ["b", "b"]]
    for (whole, part), clip, n in zip(rows, clips, lengths, strict=True):
        np.testing.assert_array_equal(whole.waveform, clip[:n])
        np.testing.assert_allclose(part.waveform, whole.waveform, rtol=1e-5)
        assert whole.image.max() == 0
        assert part.image.max() == pytest.approx(-20, abs=1e-3)
    assert torch.equal(clips, kept)


# ------------------------------------------------------------------------- what a browser does


TIME_S = np.arange(3 * 16_000) / 16_000  # the frequency of this sound tells the time
RISING = 0.3 * np.sin(2 * np.pi * (500 * TIME_S + 500 * TIME_S**2)) + noise(len(TIME_S)) / 10


@pytest.fixture
def page(driver, tmp_path):
    """Open a page that holds one block twice, and a dark rule that frames images."""
    grid = [[replace(sound("one"), waveform=RISING), sound("two", 1.0)]]
    block = element(grid, headings=["left", "right"])
    dark = "<style>body .cell img{filter:brightness(.5);padding:8px}</style>"
    names = "<script>var names = Object.keys(window)</script>"
    show(driver, tmp_path, names + dark + 2 * f'<div class="cell">{block}</div>')
    return driver


def at(page, number):
    """Return whether a player is paused, where its sound is in s, and its line as a share."""
    return page.execute_script(
        """
        const player = document.querySelectorAll("[data-sound]")[arguments[0]];
        const audio = player.querySelector("audio");
        const box = player.querySelector(".picture").getBoundingClientRect();
        const line = player.querySelector(".head").getBoundingClientRect();
        return [audio.paused, audio.currentTime, (line.x + line.width / 2 - box.x) / box.width];
        """,
        number,
    )


def until(condition, limit_s=10):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def all_of(page, selector):
    return page.find_elements("css selector", selector)


def test_line_moves_with_the_sound_and_the_button_pauses_it(page):
    button = all_of(page, "button")[0]
    assert button.get_attribute("aria-label") == "Play left: one"
    assert at(page, 0) == [True, 0, pytest.approx(0, abs=0.01)]
    button.click()
    until(lambda: at(page, 0)[1] > 0.2)
    paused, first_s, first = at(page, 0)
    until(lambda: at(page, 0)[1] > first_s + 0.3)
    _, later_s, later = at(page, 0)
    assert not paused and later > first
    assert button.get_attribute("aria-label") == "Pause left: one"
    button.click()
    until(lambda: button.get_attribute("aria-label") == "Play left: one")
    _, stopped_s, stopped = at(page, 0)
    assert stopped_s >= later_s
    assert stopped == pytest.approx(stopped_s / PICTURE_S, abs=0.01)
    time.sleep(0.3)
    assert at(page, 0) == [True, stopped_s, stopped]
    assert all_of(page, ".clock")[0].text == f"{stopped_s:.1f} of 3.0 s"
    shown = float(all_of(page, ".picture")[0].get_attribute("aria-valuenow"))
    assert shown == pytest.approx(stopped_s, abs=0.006)


def test_starting_one_stops_the_others_of_all_blocks(page):
    buttons = all_of(page, "button")
    for previous, number in ((None, 0), (0, 1), (1, 2)):  # 2 is in the second block
        buttons[number].click()
        until(lambda: at(page, number)[1] > 0.1)  # noqa: B023
        assert previous is None or at(page, previous)[0]
    assert [at(page, number)[0] for number in range(4)] == [True, True, False, True]
    assert at(page, 3)[1] == 0


def test_a_click_in_the_picture_plays_from_there(page):
    picture = all_of(page, ".picture")[2]
    picture.click()  # selenium clicks in the middle
    until(lambda: not at(page, 2)[0])
    _, now_s, line = at(page, 2)
    assert PICTURE_S / 2 - 0.02 <= now_s < PICTURE_S / 2 + 0.7
    assert line == pytest.approx(now_s / PICTURE_S, abs=0.05)
    until(lambda: at(page, 2)[1] > now_s + 0.2)
    picture.click()
    assert at(page, 2)[1] < now_s + 0.2  # back to the middle


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.85])
def test_what_is_heard_is_where_the_line_stands(page, share):
    from selenium.webdriver import ActionChains

    page.execute_script("""
        const context = new AudioContext(), analyser = context.createAnalyser();
        analyser.fftSize = 2048;
        analyser.smoothingTimeConstant = 0;
        context.createMediaElementSource(document.querySelector("audio")).connect(analyser);
        window.heard_hz = () => {
          const levels = new Float32Array(1024);
          analyser.getFloatFrequencyData(levels);
          return levels.indexOf(Math.max(...levels)) * context.sampleRate / 2048;
        };
    """)
    picture = all_of(page, ".picture")[0]
    aside = round(picture.rect["width"] * (share - 0.5))
    ActionChains(page).move_to_element_with_offset(picture, aside, 0).click().perform()
    until(lambda: at(page, 0)[1] > share * PICTURE_S + 0.2)
    read = """const now = document.querySelector("audio").currentTime;
              return [now, (window.heard_hz() - 500) / 1000];"""
    now_s, heard_s = page.execute_script(read)
    assert heard_s == pytest.approx(now_s, abs=0.1)  # Chromium seeks in Ogg: up to 0.4 s aside


def test_a_sound_that_ends_before_its_picture_stops_there(page):
    all_of(page, ".picture")[1].click()  # the middle is beyond its end
    until(lambda: at(page, 1)[0] and at(page, 1)[1] > 0)
    _, now_s, line = at(page, 1)
    assert now_s == pytest.approx(1, abs=0.02)
    assert line == pytest.approx(1 / PICTURE_S, abs=0.02)


def test_keys_seek_and_play(page):
    from selenium.webdriver.common.keys import Keys

    picture = all_of(page, ".picture")[0]
    for keys, expected_s in ((Keys.ARROW_RIGHT * 3, 0.75), (Keys.ARROW_LEFT, 0.5),
                             (Keys.ARROW_LEFT * 4, 0)):  # fmt: skip
        picture.send_keys(keys)
        assert at(page, 0) == [
            True, pytest.approx(expected_s), pytest.approx(expected_s / PICTURE_S, abs=0.01),
        ]  # fmt: skip
        assert float(picture.get_attribute("aria-valuenow")) == pytest.approx(expected_s)
    for key in (Keys.SPACE, Keys.ENTER):
        picture.send_keys(key)
        until(lambda: not at(page, 0)[0])
        picture.send_keys(key)
        until(lambda: at(page, 0)[0])


@pytest.fixture
def drawn(page):
    """Return where pictures stand at a width, which frequency axes are seen, and if all fits."""

    def of(width):
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        lefts = {picture.rect["x"] for picture in all_of(page, ".picture")}
        axes = [axis.is_displayed() for axis in all_of(page, ".axis")]
        fits = page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        return len(lefts), axes, fits

    yield of
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_columns_stand_below_each_other_where_it_is_narrow(drawn):
    assert drawn(1000) == (2, [True, False] * 2, True)
    assert drawn(400) == (1, [True] * 4, True)


def test_four_columns_become_two_by_two(drawn, page, tmp_path):
    show(page, tmp_path, element([[sound(c) for c in "abcd"]]))
    assert drawn(1000) == (4, [True] + [False] * 3, True)
    assert drawn(700) == (2, [True, False] * 2, True)
    assert drawn(400) == (1, [True] * 4, True)


def test_a_page_that_frames_and_darkens_images_leaves_the_pictures_alone(page):
    for picture, image in zip(all_of(page, ".picture"), all_of(page, ".picture img"), strict=True):
        assert image.value_of_css_property("filter") == "none"
        assert image.value_of_css_property("padding") == "0px"
        assert image.rect == picture.rect
    background = all_of(page, ".sound-rows")[0].value_of_css_property("background-color")
    assert background in ("rgb(255, 255, 255)", "rgba(255, 255, 255, 1)")


def test_nothing_is_left_in_the_window_and_nothing_went_wrong(page):
    added = "return Object.keys(window).filter((name) => !names.includes(name))"
    assert page.execute_script(added) == []
    assert not page.get_log("browser")
