(() => {
  const wire = (root) => {
    const [map, layer, said, audio] = [".map", "select", ".said", "audio"]
      .map((name) => root.querySelector(name));
    const points = [...root.querySelectorAll(".point")];
    const methods = [...root.querySelectorAll(".bar button")];
    const groups = [...root.querySelectorAll(".legend button")];
    const data = JSON.parse(root.querySelector(".data").textContent);
    let method = methods[0].textContent;
    let current = 0;
    let sounding = -1;

    const spot = (i) => data.maps[method][layer.value][i];
    const seen = (i) => !points[i].classList.contains("faded");
    const tell = (i) => {
      let sound = data.sounds[i] ? "" : " No sound here.";
      if (i === sounding && !audio.paused) sound = " Playing.";
      const text = points[i].getAttribute("aria-label") + sound;
      if (said.textContent !== text) said.textContent = text;
    };
    const place = () => {
      points.forEach((point, i) => {
        const [x, y] = spot(i);
        point.style.transform = `translate(${x}px,${y}px)`;
      });
      methods.forEach((b) => b.setAttribute("aria-pressed", b.textContent === method));
      map.setAttribute("aria-label", `Map of clips: ${layer.value}, ${method}`);
    };
    const mark = (i) => {
      points[current].classList.remove("current");
      points[current].setAttribute("tabindex", "-1");
      current = i;
      points[i].classList.add("current");
      points[i].setAttribute("tabindex", "0");
      tell(i);
    };
    const play = (i) => {
      audio.pause();
      if (data.sounds[i]) {
        sounding = i;
        audio.src = data.sounds[i];
        audio.play().catch((error) => {
          if (error.name === "NotSupportedError") said.textContent = "Ogg Vorbis cannot be played.";
        });
      }
      mark(i);
      points[i].focus({ preventScroll: true });
    };
    // The point of least distance among those below a limit; -1 if there is none.
    const least = (distance, limit) => {
      let best = -1;
      points.forEach((_, i) => {
        const far = distance(...spot(i));
        if (far < limit && seen(i)) [best, limit] = [i, far];
      });
      return best;
    };
    const nearest = (event) => {
      const box = map.getBoundingClientRect();
      const unit = map.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * unit;
      const y = (event.clientY - box.top) * unit;
      return least((px, py) => Math.hypot(px - x, py - y), Math.max(14, 16 * unit));
    };
    const next = (dx, dy) => {
      const [x, y] = spot(current);
      const best = least((px, py) => {
        const along = (px - x) * dx + (py - y) * dy;
        const across = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
        return along > 0 ? along + 2 * across : Infinity;
      }, Infinity);
      points[best < 0 ? current : best].focus({ preventScroll: true });
    };

    map.addEventListener("pointermove", (event) => {
      const i = nearest(event);
      if (i >= 0) tell(i);
    });
    map.addEventListener("click", (event) => {
      const i = nearest(event);
      if (i >= 0) play(i);
    });
    map.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (step[event.key]) next(...step[event.key]);
      else if (event.key === "Enter" || event.key === " ") play(current);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    map.addEventListener("pointerleave", () => {
      if (points[current].classList.contains("current")) tell(current);
    });
    points.forEach((point, i) => point.addEventListener("focus", () => mark(i)));
    groups.forEach((button, group) => button.addEventListener("click", () => {
      const alone = button.getAttribute("aria-pressed") !== "true";
      groups.forEach((b) => b.setAttribute("aria-pressed", alone && b === button));
      points.forEach((point) => {
        point.classList.toggle("faded", alone && Number(point.dataset.group) !== group);
      });
    }));
    methods.forEach((button) => button.addEventListener("click", () => {
      method = button.textContent;
      place();
    }));
    layer.addEventListener("change", place);
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    });
    audio.addEventListener("pause", () => tell(current));

    points[0].setAttribute("tabindex", "0");
    layer.value = layer.querySelector("[selected]").value; // a reload keeps another choice
    place();
  };

  for (const root of document.querySelectorAll(".clip-maps:not([data-ready])")) {
    root.dataset.ready = "";
    wire(root);
  }
})();
