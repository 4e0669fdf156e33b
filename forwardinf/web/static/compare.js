// Two pictures in one place: side by side, with a cut, over each other, in turns, or what differs; enlarged together.
const BLINK = 600; // milliseconds
const ZOOMS = [1, 2, 4, 8];
const NEAR = 28; // pixels from the cut at which a drag moves it even where the pictures are enlarged

export function comparison(element) {
  const [stage, range, output] = ['.fi-stage', '.fi-cut input', 'output'].map((part) => element.querySelector(part));
  let zoom = 1, x = 0, y = 0, cut = 50, blinking = null, drag = null; // x and y: shares of a layer's width

  const layer = () => element.querySelector('.fi-layer').getBoundingClientRect();
  function draw() {
    const most = (zoom - 1) / 2;
    [x, y] = [x, y].map((share) => Math.max(-most, Math.min(most, share)));
    cut = Math.max(0, Math.min(100, cut));
    const values = { '--cut': `${cut}%`, '--opacity': cut / 100, '--zoom': zoom, '--x': `${100 * x}%`, '--y': `${100 * y}%` };
    for (const [name, value] of Object.entries(values)) element.style.setProperty(name, value);
    element.classList.toggle('fi-enlarged', zoom > 1);
    range.value = cut;
    output.textContent = `${zoom}×`;
  }

  function mode(name) {
    const chosen = element.dataset.mode === name ? 'side' : name;
    element.dataset.mode = chosen;
    for (const button of element.querySelectorAll('[data-compare]')) {
      button.setAttribute('aria-pressed', String(button.dataset.compare === chosen));
    }
    clearInterval(blinking);
    element.classList.remove('fi-blinked');
    if (chosen === 'blink') blinking = setInterval(() => element.classList.toggle('fi-blinked'), BLINK);
  }

  function enlarge(by) {
    const place = ZOOMS.indexOf(zoom) + by;
    zoom = by ? ZOOMS[Math.max(0, Math.min(ZOOMS.length - 1, place))] : ZOOMS[(ZOOMS.indexOf(zoom) + 1) % ZOOMS.length];
    draw();
  }

  const moves = (event) => {
    const { left, width } = layer();
    const near = Math.abs(event.clientX - left - (width * cut) / 100) < NEAR;
    return element.dataset.mode === 'slide' && (zoom === 1 || near) ? 'cut' : 'pan';
  };
  function dragged(event) {
    const { left, width, height } = layer();
    if (drag.kind === 'cut') cut = (100 * (event.clientX - left)) / width;
    else [x, y] = [drag.x + (event.clientX - drag.left) / width, drag.y + (event.clientY - drag.top) / height];
    draw();
  }
  stage.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    drag = { kind: moves(event), x, y, left: event.clientX, top: event.clientY };
    stage.setPointerCapture(event.pointerId);
    if (drag.kind === 'cut') dragged(event);
  });
  stage.addEventListener('pointermove', (event) => drag && dragged(event));
  for (const end of ['pointerup', 'pointercancel']) stage.addEventListener(end, () => { drag = null; });
  stage.addEventListener('dblclick', () => enlarge(0));
  stage.addEventListener('wheel', (event) => {
    if (!event.ctrlKey) return; // a plain wheel scrolls the page
    event.preventDefault();
    enlarge(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  stage.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (element.dataset.mode === 'slide' && zoom === 1) cut += 2 * step[0];
    else [x, y] = [x - step[0] / 10, y - step[1] / 10];
    draw();
  });
  range.addEventListener('input', () => { cut = Number(range.value); draw(); });
  element.addEventListener('click', (event) => {
    const pressed = event.target.closest('[data-compare], [data-zoom]');
    if (pressed?.dataset.compare && pressed.dataset.compare !== element.dataset.mode) mode(pressed.dataset.compare);
    if (pressed?.dataset.zoom) enlarge(Number(pressed.dataset.zoom));
  });
  draw();

  return {
    mode,
    enlarge,
    /** Show another second picture; none where `source` is empty. */
    show(source, alt) {
      const second = element.querySelector('.fi-second');
      second.hidden = !source;
      if (source) second.src = source;
      second.alt = alt;
    },
    /** The mode, the cut and the zoom of another comparison. */
    settings: () => ({ mode: element.dataset.mode, cut, zoom, x, y }),
    restore(settings) {
      ({ cut, zoom, x, y } = settings);
      if (settings.mode !== element.dataset.mode) mode(settings.mode);
      draw();
    },
    end: () => clearInterval(blinking),
  };
}
