'use strict';

// Everything that the page knows of the run; texts of it are only ever set as
// text, so that none is read as markup.
const run = JSON.parse(document.getElementById('content').textContent);
const $ = (id) => document.getElementById(id);
const [HEIGHT, WIDTH, CHANNELS] = run.shape;
const SIZE = run.latents.length;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// With a proper minus sign, and none before zero.
function show(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) ? text.replace('-', '−') : text.replace('-', '');
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Rows of an array [N, K] of float32.
function rows(encoded) {
  const values = new Float32Array(bytes(encoded.data).buffer);
  const width = encoded.shape[1];
  return Array.from({length: encoded.shape[0]}, (_, n) =>
    values.subarray(n * width, (n + 1) * width));
}

const codes = rows(run.codes);
const prior = run.prior ? rows(run.prior) : [];
const tsne = run.tsne ? rows(run.tsne) : null;
const walkCodes = run.walks ? rows(run.walks.codes) : [];

// -- The decoder --------------------------------------------------------------

let model, output;

async function load(graph) {
  // Its results are the same on every machine, which those of a GPU are not.
  await tf.setBackend('cpu');
  model = await tf.loadGraphModel(tf.io.fromMemory({
    modelTopology: graph.modelTopology,
    weightSpecs: graph.weightSpecs,
    weightData: bytes(graph.weightData).buffer,
  }));
  output = graph.output;
}

// The mean of p(x|z) at a code: H × W × C numbers.
function decode(code) {
  return tf.tidy(() => {
    const latents = tf.tensor2d(code, [1, code.length], 'float32');
    return model.execute({latents}, output).dataSync();
  });
}

// -- Images -------------------------------------------------------------------

function paint(canvas, pixels) {
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const image = new ImageData(WIDTH, HEIGHT);
  for (let n = 0; n < WIDTH * HEIGHT; n++) {
    for (let c = 0; c < 3; c++) {
      // The array rounds and clamps; what is no number becomes black.
      image.data[4 * n + c] = 255 * pixels[n * CHANNELS + (CHANNELS > 1 ? c : 0)];
    }
    image.data[4 * n + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

// Pixels stay square and equal: the scale is a whole number.
function fit(canvas, room, width = WIDTH, height = HEIGHT) {
  const whole = Math.floor(Math.min(room / width, room / height));
  const scale = whole || Math.min(room / width, room / height);
  canvas.style.width = `${width * scale}px`;
  canvas.style.height = `${height * scale}px`;
}

function opened(sheet) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = `data:image/png;base64,${sheet.png}`;
  });
}

let sheets;

function cut(canvas, kind, index, room) {
  const {width, height, columns} = kind === 'walk' ? run.walks.images : run.images;
  canvas.width = width;
  canvas.height = height;
  const x = (index % columns) * width;
  const y = Math.floor(index / columns) * height;
  canvas.getContext('2d').drawImage(
    sheets[kind], x, y, width, height, 0, 0, width, height);
  fit(canvas, room, width, height);
  return canvas;
}

// -- What is shown ------------------------------------------------------------

// `kept` is the code; `pointed` stands for it while the map is pointed at.
const state = {kept: null, pointed: null, start: null, walk: null};
const current = () => state.pointed || state.kept;

let asked = false;

// At most one decode a frame, however fast a slider moves.
function redraw() {
  if (!asked) {
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      paint($('decoded'), decode(current()));
      drawMap();
      for (const slider of sliders) slider.update();
    });
  }
}

function describe(index) {
  const known = run.fields.map(
    (field) => `${field.name} ${field.values[field.places[index]]}`);
  return [`${run.split} image ${index}`, ...known].join(', ');
}

function say(text, kind = null, index = 0) {
  $('source').textContent = text;
  $('decoded').setAttribute('aria-label', `Decoded mean of ${text}`);
  $('original').hidden = kind === null;
  if (kind) cut($('original'), kind, index, 72);
}

// Starts from a code, to which reset returns.
function start(code, text, kind = null, index = 0) {
  Object.assign(state, {
    kept: Float32Array.from(code), pointed: null,
    start: () => start(code, text, kind, index),
  });
  if (kind !== 'walk') state.walk = null;
  say(text, kind, index);
  redraw();
}

function startFromImage(index) {
  const has = index < run.images.count;
  start(codes[index], describe(index), has ? 'image' : null, index);
}

// -- Sliders ------------------------------------------------------------------

const sliders = run.latents.map(({latent, rate, low, high}) => {
  const middle = (low + high) / 2;
  const half = Math.max((high - low) / 2, 0.05);
  const input = make('input', {
    type: 'range', step: 'any', id: `latent-${latent}`,
    min: middle - half, max: middle + half,
  });
  const value = make('output', {for: input.id});
  const label = make('label', {for: input.id}, `latent ${latent}`);
  if (rate !== null) {
    label.append(' ', make('span', {class: 'rate'}, `${show(rate)} nats`));
  }
  input.addEventListener('input', () => {
    state.kept[latent] = input.valueAsNumber;
    state.pointed = null;
    redraw();
  });
  input.addEventListener('keydown', (event) => {
    // Steps of any size have no size for a key.
    const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1,
      PageDown: -5, PageUp: 5}[event.key];
    if (!step) return;
    event.preventDefault();
    input.valueAsNumber = state.kept[latent] + step * half / 20;
    input.dispatchEvent(new Event('input'));
  });
  return {
    element: make('div', {class: 'slider'}, label, value, input),
    update() {
      const place = current()[latent];
      // A code beyond the range makes it wider.
      if (place < +input.min) input.min = place;
      if (place > +input.max) input.max = place;
      input.value = place;
      value.textContent = show(place);
    },
  };
});

function layOutSliders() {
  const dead = [];
  run.latents.forEach(({active}, n) => {
    if (active) $('active').append(sliders[n].element);
    else dead.push(sliders[n].element);
  });
  $('inactive').hidden = !dead.length;
  $('inactive').firstChild.textContent = `${dead.length} inactive`;
  $('inactive').lastChild.append(...dead);
}

// -- Map ----------------------------------------------------------------------

// Okabe and Ito's, as in the figures; black and white change places with the
// page.
const PALETTE = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00',
  '#56b4e9', null, '#b8a800', '#993300', '#ff3366'];
const dark = matchMedia('(prefers-color-scheme: dark)');
const map = {points: null, low: null, high: null, background: null};

function colourOf(place, count) {
  if (count <= PALETTE.length) {
    return PALETTE[place] || (dark.matches ? '#f2f2f2' : '#000000');
  }
  return `hsl(${260 - 200 * place / (count - 1)} 75% ${dark.matches ? 62 : 42}%)`;
}

const isTsne = () => $('across').value === 'tsne';
const axes = () => [+$('across').value, +$('up').value];
const project = (code) => axes().map((k) => code[k]);

function matches(index) {
  return run.fields.every((field, n) => {
    const chosen = $(`filter-${n}`).value;
    return chosen === '' || field.places[index] === +chosen;
  });
}

// Draws the points once for all that is drawn over them.
function prepareMap() {
  $('up').disabled = isTsne();
  map.points = isTsne() ? tsne : codes.map(project);
  const bounds = [0, 1].map((k) => {
    const values = map.points.map((point) => point[k]);
    const low = Math.min(...values), high = Math.max(...values);
    const margin = 0.05 * (high - low) + 1e-3;
    return [low - margin, high + margin];
  });
  map.low = bounds.map(([low]) => low);
  map.high = bounds.map(([, high]) => high);
  const canvas = $('map');
  const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.width = canvas.height = side;
  map.background = new OffscreenCanvas(side, side);
  const context = map.background.getContext('2d');
  const field = run.fields[+$('colour').value];
  const accent = getComputedStyle(canvas).getPropertyValue('--accent');
  const radius = (codes.length > 700 ? 2 : 3) * devicePixelRatio;
  // Those that are filtered out lie below the others.
  for (const wanted of [false, true]) {
    map.points.forEach((point, n) => {
      if (matches(n) !== wanted) return;
      const [x, y] = toCanvas(point);
      context.globalAlpha = wanted ? 0.85 : 0.08;
      context.fillStyle = field ?
        colourOf(field.places[n], field.values.length) : accent;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    });
  }
}

function toCanvas(point) {
  const side = $('map').width;
  const [x, y] = [0, 1].map(
    (k) => (point[k] - map.low[k]) / (map.high[k] - map.low[k]));
  return [x * side, (1 - y) * side];
}

function nearest(point) {
  let best = 0, least = Infinity;
  map.points.forEach((other, n) => {
    const distance = (other[0] - point[0]) ** 2 + (other[1] - point[1]) ** 2;
    if (distance < least) [best, least] = [n, distance];
  });
  return best;
}

function drawMap() {
  const canvas = $('map');
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(map.background, 0, 0);
  const ink = dark.matches ? '#ffffff' : '#000000';
  context.lineWidth = 2 * devicePixelRatio;
  context.strokeStyle = ink;
  if (state.walk && !isTsne()) {
    context.beginPath();
    for (const n of state.walk) context.lineTo(...toCanvas(project(walkCodes[n])));
    context.stroke();
  }
  const place = isTsne() ? map.place : project(current());
  if (!place) return;
  const [x, y] = toCanvas(place);
  context.fillStyle = getComputedStyle(canvas).getPropertyValue('--accent');
  context.beginPath();
  context.arc(x, y, 6 * devicePixelRatio, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

// Decodes a place of the map; keeps it, or only while it is pointed at.
function pointAt(point, keep) {
  if (isTsne()) {
    const index = nearest(point);
    map.place = map.points[index];
    if (keep) startFromImage(index);
    else state.pointed = codes[index];
  } else {
    const code = Float32Array.from(state.kept);
    axes().forEach((latent, k) => { code[latent] = point[k]; });
    if (keep) Object.assign(state, {kept: code, pointed: null});
    else state.pointed = code;
  }
  redraw();
}

function placeOf(event) {
  const box = $('map').getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width;
  const y = 1 - (event.clientY - box.top) / box.height;
  return [x, y].map((share, k) => map.low[k] + share * (map.high[k] - map.low[k]));
}

function listenToMap() {
  const canvas = $('map');
  canvas.addEventListener('pointermove', (event) => {
    // A finger has no other way to move the code than by pressing.
    pointAt(placeOf(event), event.buttons > 0);
  });
  canvas.addEventListener('pointerdown', (event) => pointAt(placeOf(event), true));
  canvas.addEventListener('pointerleave', () => {
    state.pointed = null;
    redraw();
  });
  canvas.addEventListener('keydown', (event) => {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1],
      ArrowDown: [0, -1]}[event.key];
    if (!move) return;
    event.preventDefault();
    // From point to point of a t-SNE it takes larger steps to get away.
    const step = isTsne() ? 0.05 : 0.025;
    const from = isTsne() ? map.place || map.points[0] : project(state.kept);
    pointAt(from.length && [0, 1].map(
      (k) => from[k] + move[k] * step * (map.high[k] - map.low[k])), true);
  });
}

function layOutMap() {
  // The active ones first, of which the map shows two.
  const ordered = [true, false].flatMap(
    (active) => run.latents.filter((latent) => latent.active === active));
  for (const {latent, rate} of ordered) {
    const name = `latent ${latent}` + (rate === null ? '' : `, ${show(rate)} nats`);
    $('across').append(make('option', {value: latent}, name));
    $('up').append(make('option', {value: latent}, name));
  }
  if (tsne) $('across').append(make('option', {value: 'tsne'}, 't-SNE'));
  $('up').selectedIndex = Math.min(1, SIZE - 1);
  run.fields.forEach(({name}, n) => {
    $('colour').append(make('option', {value: n}, name));
  });
  $('colour-label').hidden = !run.fields.length;
  for (const id of ['across', 'up', 'colour']) {
    $(id).addEventListener('change', refreshMap);
  }
}

function refreshMap() {
  prepareMap();
  const field = run.fields[+$('colour').value];
  const keys = field && field.values.length <= PALETTE.length ?
    field.values.map((_, n) => n) :
    field ? [0, field.values.length - 1] : [];
  $('legend').replaceChildren(...keys.map((n) => {
    const key = make('span', {class: 'key'}, field.values[n]);
    key.style.setProperty('--key', colourOf(n, field.values.length));
    return key;
  }));
  redraw();
}

// -- Images to start from -----------------------------------------------------

let target = null;  // The end of the interpolation that a click chooses.
let shown = 0;

function layOutFilters() {
  run.fields.forEach((field, n) => {
    const select = make('select', {id: `filter-${n}`},
      make('option', {value: ''}, 'any'),
      ...field.values.map((value, k) => make('option', {value: k}, value)));
    select.addEventListener('change', () => {
      listImages();
      refreshMap();
    });
    $('filters').append(make('label', {}, `${field.name} `, select));
  });
  $('more').addEventListener('click', () => listImages(shown + 60));
}

function listImages(limit = 60) {
  shown = limit;
  const found = [];
  for (let n = 0; n < run.images.count; n++) if (matches(n)) found.push(n);
  $('thumbnails').replaceChildren(...found.slice(0, limit).map((n) => {
    const button = make('button', {type: 'button', 'aria-label': describe(n)},
      cut(make('canvas'), 'image', n, 64));
    button.addEventListener('click', () => chooseImage(n));
    return button;
  }));
  const all = codes.filter((_, n) => matches(n)).length;
  $('more').hidden = found.length <= limit;
  $('matching').textContent = `${Math.min(limit, found.length)} of ` +
    `${found.length} images; ${all} codes on the map`;
}

function chooseImage(index) {
  if (target) setEnd(target, index);
  else startFromImage(index);
}

// -- Interpolation ------------------------------------------------------------

const ends = {from: 0, to: 0};

function between(share) {
  const [first, second] = [codes[ends.from], codes[ends.to]];
  // Its ends are the two codes to the last bit.
  return first.map((value, k) => (1 - share) * value + share * second[k]);
}

function setEnd(id, index) {
  ends[id] = index;
  aim(null);
  $(id).replaceChildren(cut(make('canvas'), 'image', index, 56));
  $(id).setAttribute('aria-label', `${id} ${describe(index)}; choose another`);
  const room = $('strip').clientWidth;
  const tiles = room < 450 ? 5 : 9;
  $('strip').replaceChildren(...Array.from({length: tiles}, (_, n) => {
    const tile = make('canvas');
    paint(tile, decode(between(n / (tiles - 1))));
    fit(tile, Math.min(96, room / tiles - 4));
    return tile;
  }));
}

function aim(id) {
  target = id;
  for (const end of ['from', 'to']) $(end).setAttribute('aria-pressed', end === id);
  $('hint').textContent = id ? 'Choose an image above.' :
    'Click on an end to choose another image for it.';
}

function layOutInterpolation() {
  const differs = (n) => run.fields.some(({places}) => places[n] !== places[0]);
  let second = Math.min(1, run.images.count - 1);
  for (let n = run.images.count - 1; n > 0; n--) if (differs(n)) second = n;
  for (const id of ['from', 'to']) {
    $(id).addEventListener('click', () => aim(target === id ? null : id));
  }
  setEnd('from', 0);
  setEnd('to', second);
  $('between').addEventListener('input', () => {
    const share = $('between').valueAsNumber;
    start(between(share), `${show(100 * share, 0)}% of the way from ` +
      `${describe(ends.from)} to ${describe(ends.to)}`);
  });
}

// -- Factors ------------------------------------------------------------------

function layOutWalks() {
  if (!run.walks) return;
  document.querySelector('.factors').hidden = false;
  for (const factor of new Set(run.walks.factors)) {
    const places = walkCodes.map((_, n) => n).filter(
      (n) => run.walks.factors[n] === factor);
    const id = `factor-${$('walks').childElementCount}`;
    const input = make('input', {
      type: 'range', id, min: 0, max: places.length - 1, step: 1,
      value: Math.floor(places.length / 2),
    });
    const value = make('output', {for: id});
    const update = () => {
      const n = places[input.valueAsNumber];
      const name = run.walks.values[n];
      value.textContent = isNaN(name) ? name : `${name} of 0 to ${run.walks.numbers[n] - 1}`;
    };
    input.addEventListener('input', () => {
      update();
      const n = places[input.valueAsNumber];
      state.walk = places;
      start(walkCodes[n], `the image of ${factor} ${run.walks.values[n]}`, 'walk', n);
    });
    update();
    $('walks').append(make('div', {class: 'slider'},
      make('label', {for: id}, factor), value, input));
  }
}

// -- The page -----------------------------------------------------------------

function fill(id, pairs) {
  $(id).append(...pairs.flatMap(
    ([name, text]) => [make('dt', {}, name), make('dd', {}, text)]));
}

function layOutText() {
  $('numbers').textContent = run.numbers.join(', ').replaceAll('-', '−');
  fill('facts', [...Object.entries(run.facts),
    ['weights after', `${run.step.toLocaleString('en')} steps`]]);
  const of = (differs) => run.settings.filter((row) => row.differs === differs)
    .map((row) => [row.name, row.value]);
  fill('differing', of(true));
  fill('others', of(false));
}

function resize() {
  const room = $('decoded').parentElement.clientWidth - 2;
  fit($('decoded'), Math.min(room, 400));
  refreshMap();
  for (const id of ['from', 'to']) setEnd(id, ends[id]);
}

async function main() {
  layOutText();
  await load(run.model);
  sheets = {image: await opened(run.images)};
  if (run.walks) sheets.walk = await opened(run.walks.images);
  layOutSliders();
  layOutMap();
  layOutFilters();
  layOutWalks();
  layOutInterpolation();
  listImages();
  let next = 0;
  $('draw').hidden = !prior.length;
  $('draw').addEventListener('click', () => {
    start(prior[next++ % prior.length], 'a draw from the prior');
  });
  $('reset').addEventListener('click', () => state.start());
  startFromImage(0);
  resize();
  listenToMap();
  window.addEventListener('resize', resize);
  dark.addEventListener('change', refreshMap);
  // For the console, and for the tests.
  window.explore = {load, decode, codes, ends, state};
}

main();
