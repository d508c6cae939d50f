// Without this script the browser's own controls are seen instead.
(() => {
  const wire = (player) => {
    const [picture, head, button, clock, audio] = [".picture", ".head", "button", ".clock", "audio"]
      .map((name) => player.querySelector(name));
    const sound_s = Number(player.dataset.sound);
    const picture_s = Number(player.dataset.picture);
    const name = button.getAttribute("aria-label");
    let frame = 0;
    let unpacked;

    const draw = () => {
      head.style.left = Math.min(100, 100 * audio.currentTime / picture_s) + "%";
      clock.textContent = audio.currentTime.toFixed(1) + " of " + sound_s.toFixed(1) + " s";
    };
    const tell = () => {
      draw();
      picture.setAttribute("aria-valuenow", audio.currentTime.toFixed(2));
      picture.setAttribute("aria-valuetext", audio.currentTime.toFixed(2) + " s");
    };
    const run = () => {
      draw();
      frame = requestAnimationFrame(run);
    };
    const seek = (s) => {
      audio.currentTime = Math.max(0, Math.min(s, sound_s - 0.01));
      tell();
    };

    // Before it is played, a sound is unpacked to a WAV: in Ogg, Chromium seeks to the start of a
    // page, up to 0.4 s early, and reports the time that was asked for, so that the line would not
    // stand where the sound is.
    const unpack = async () => {
      const packed = Uint8Array.from(atob(audio.src.split(",")[1]), (c) => c.charCodeAt(0));
      const sr = Number(player.dataset.sr);
      const decoded = await new OfflineAudioContext(1, 1, sr).decodeAudioData(packed.buffer);
      const samples = Int16Array.from(
        decoded.getChannelData(0).subarray(0, Math.round(sound_s * sr)),
        (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x))),
      );
      const size = samples.byteLength;
      const header = new Uint32Array([
        0x46464952, 36 + size, 0x45564157, // RIFF, WAVE
        0x20746d66, 16, 0x10001, sr, 2 * sr, 0x100002, // fmt: one channel of 16 bits
        0x61746164, size, // data
      ]);
      const now = audio.currentTime;
      audio.src = URL.createObjectURL(new Blob([header, samples], { type: "audio/wav" }));
      audio.currentTime = now;
    };
    const play = async () => {
      try {
        await (unpacked ??= unpack());
        await audio.play();
      } catch (error) {
        if (error.name !== "AbortError") clock.textContent = "Ogg Vorbis is not played here";
      }
    };
    const toggle = () => {
      if (audio.paused) play();
      else audio.pause();
    };

    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      player.classList.add("playing");
      button.setAttribute("aria-label", name.replace("Play", "Pause"));
      cancelAnimationFrame(frame);
      run();
    });
    audio.addEventListener("pause", () => {
      player.classList.remove("playing");
      button.setAttribute("aria-label", name);
      cancelAnimationFrame(frame);
      tell();
    });
    button.addEventListener("click", toggle);
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      seek(picture_s * (event.clientX - box.left) / box.width);
      play();
    });
    player.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
      if (step) seek(audio.currentTime + step);
      else if ((event.key === "Enter" || event.key === " ") && event.target === picture) toggle();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    audio.controls = false;
    draw();
  };

  for (const block of document.querySelectorAll(".sound-rows:not([data-ready])")) {
    block.dataset.ready = "";
    block.querySelectorAll("[data-sound]").forEach(wire);
  }
})();
