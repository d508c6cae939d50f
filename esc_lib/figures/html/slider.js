(() => {
  const wire = (root) => {
    const [slider, epoch] = ["input", ".epoch"].map((name) => root.querySelector(name));
    const images = [...root.querySelectorAll("img")];
    const show = () => {
      images.forEach((image, i) => {
        image.hidden = i !== Number(slider.value);
      });
      epoch.textContent = images[slider.value].dataset.epoch;
      slider.setAttribute("aria-valuetext", `epoch ${epoch.textContent}`);
    };
    slider.addEventListener("input", show);
    show();
  };

  for (const root of document.querySelectorAll(".trace-slider:not([data-ready])")) {
    root.dataset.ready = "";
    wire(root);
  }
})();
