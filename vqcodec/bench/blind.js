"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const session = read("session");
const pictures = read("pictures");
const { comparisons } = session;

const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const frames = one(".frames");

// --- answers: one for each of the first comparisons, kept over a reload --------------------------

const STORE = `vqcodec blind ${session.id}`;
let answers = [];
let ended = false;

try {
  const kept = JSON.parse(localStorage.getItem(STORE));
  answers = kept.answers.slice(0, comparisons.length);
  ended = kept.ended;
} catch {
  // Nothing is kept, or the browser keeps nothing.
}

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ answers, ended }));
  } catch {
    // The answers last as long as the page.
  }
}

// --- one comparison ------------------------------------------------------------------------------

let shown = null; // since when there is something to judge
let zoomed = false;
let across = 0.5; // which part of a picture is in view, where there is no room for all
let looked = {}; // what this comparison was looked at with

function layOut() {
  const { width, height } = comparisons[Math.min(answers.length, comparisons.length - 1)].crop;
  const scale = (zoomed ? 2 : 1) / window.devicePixelRatio;
  const room = frames.clientWidth;
  const gap = parseFloat(getComputedStyle(frames).columnGap);
  const fitting = [3, 2].find((count) => count * width * scale + (count - 1) * gap <= room);
  const columns = fitting ?? (room > 640 ? 2 : 1);
  frames.dataset.columns = columns;
  frames.style.setProperty("--columns", columns);
  frames.style.setProperty("--width", `${width * scale}px`);
  frames.style.setProperty("--height", `${height * scale}px`);
  one("#cut").hidden = one(".frame").clientWidth >= Math.floor(width * scale);
  place();
}

// In steps of the screen's pixels: between them pictures would be blurred.
function place() {
  const ratio = window.devicePixelRatio;
  const width = parseFloat(frames.style.getPropertyValue("--width"));
  const spare = one("#cut").hidden ? 0 : one(".frame").clientWidth - width;
  frames.style.setProperty("--shift", `${Math.round(spare * across * ratio) / ratio}px`);
}

function pan(to) {
  across = Math.max(0, Math.min(1, to));
  place();
}

async function show() {
  const done = answers.length;
  const over = ended || done === comparisons.length;
  shown = null;
  for (const id of ["start", "trial", "results"]) {
    one(`#${id}`).hidden = id !== (over ? "results" : "trial");
  }
  if (over) {
    showResults();
    one("#results").focus();
    return;
  }
  const { left, original, right } = comparisons[done];
  const numbers = { left: left.picture, original, right: right.picture };
  one("#position").textContent = `${done + 1} of ${comparisons.length}`;
  one("progress").value = done;
  one("#undo").disabled = done === 0;
  looked = { zoomed, held: 0 };
  hold(false);
  frames.classList.add("loading");
  const images = all("[data-picture]");
  for (const image of images) image.src = pictures[numbers[image.dataset.picture]];
  layOut();
  await Promise.all(images.map((image) => image.decode().catch(() => {})));
  if (done !== answers.length || one("#trial").hidden) return;
  frames.classList.remove("loading");
  shown = performance.now();
}

function answer(what) {
  if (shown === null) return;
  const seconds = Math.round(performance.now() - shown) / 1000;
  answers.push({ answer: what, seconds, ...looked, time: new Date().toISOString() });
  keep();
  show();
}

function undo() {
  if (ended) ended = false;
  else answers.pop();
  keep();
  show();
}

function hold(on) {
  const before = frames.classList.contains("holding");
  if (on === before) return;
  frames.classList.toggle("holding", on);
  one("#hold").setAttribute("aria-pressed", on);
  looked.held += on;
}

function zoom() {
  zoomed = !zoomed;
  looked.zoomed ||= zoomed;
  one("#zoom").setAttribute("aria-pressed", zoomed);
  layOut();
}

// --- keys, buttons, pointer ----------------------------------------------------------------------

const KEYS = {
  arrowleft: () => answer("left"), a: () => answer("left"),
  arrowright: () => answer("right"), b: () => answer("right"),
  arrowdown: () => answer("none"), " ": () => answer("none"),
  "shift arrowleft": () => pan(across - 0.25), "shift arrowright": () => pan(across + 0.25),
  o: () => hold(true), z: zoom, backspace: undo,
};
const pressing = (event) => event.key === " " || event.key === "Enter";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || one("#trial").hidden) return;
  // A focused button is pressed, whatever the keys mean elsewhere.
  if (event.target.closest("button") && pressing(event)) return;
  const arrow = event.shiftKey && event.key.startsWith("Arrow") ? "shift " : "";
  const action = KEYS[arrow + event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  if (!event.repeat) action();
});
document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "o") hold(false);
});
window.addEventListener("blur", () => hold(false));
window.addEventListener("resize", layOut);

function again() {
  if (!confirm("Forget all answers?")) return;
  answers = [];
  ended = false;
  keep();
  show();
}

const CLICKS = {
  begin: show,
  zoom,
  undo,
  back: undo,
  end: () => { ended = true; keep(); show(); },
  again,
  save,
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  // Or else the space bar would press it again.
  if (event.detail) button.blur();
  if (button.dataset.answer) answer(button.dataset.answer);
  else CLICKS[button.id]?.();
});

const holding = one("#hold");
holding.addEventListener("pointerdown", (event) => {
  holding.setPointerCapture(event.pointerId);
  hold(true);
});
for (const end of ["pointerup", "pointercancel", "blur", "keyup"]) {
  holding.addEventListener(end, () => hold(false));
}
holding.addEventListener("keydown", (event) => { if (pressing(event)) hold(true); });
holding.addEventListener("contextmenu", (event) => event.preventDefault());

frames.addEventListener("pointermove", (event) => {
  const frame = event.target.closest(".frame");
  if (!frame) return;
  const box = frame.getBoundingClientRect();
  pan((event.clientX - box.left) / box.width);
});

// --- results -------------------------------------------------------------------------------------

const names = new Map(comparisons.flatMap(({ left, right }) => [left, right]).map((side) => [side.codec, side.name]));
const isOurs = (codec) => codec.startsWith("vqcodec-");
const codecs = [...names.keys()].sort((a, b) => isOurs(b) - isOurs(a) || (a < b ? -1 : 1));
const rates = [...new Set(comparisons.map((each) => each.rate))].sort((a, b) => a - b);

// Every answer with what it is about.
function answered() {
  const withoutPicture = ({ picture, ...rest }) => rest;
  return answers.map((given, n) => {
    const { image, crop, rate } = comparisons[n];
    const left = withoutPicture(comparisons[n].left);
    const right = withoutPicture(comparisons[n].right);
    const nearer = { left, right }[given.answer]?.codec ?? null;
    return { image, crop, bpp: rate, left, right, nearer, ...given };
  });
}

// Wilson's interval of a share at 95 %. Source: Wilson 1927.
function wilson(share, count) {
  const z = 1.959964;
  const middle = share + (z * z) / (2 * count);
  const half = z * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
  return [middle - half, middle + half].map((end) => end / (1 + (z * z) / count));
}

// What was found of a pair of codecs at a rate, or at all of them if it is null; nothing if nothing was.
function tally(first, second, bpp) {
  const about = answered().filter((each) => {
    const both = [each.left.codec, each.right.codec];
    return both.includes(first) && both.includes(second) && (bpp === null || each.bpp === bpp);
  });
  if (!about.length) return [];
  const count = (nearer) => about.filter((each) => each.nearer === nearer).length;
  const counts = { first_nearer: count(first), no_difference: count(null), second_nearer: count(second) };
  const share = (counts.first_nearer + counts.no_difference / 2) / about.length;
  return [{ first, second, bpp, ...counts, share, interval: wilson(share, about.length) }];
}

// A list of each pair that was judged: what was found at every rate, and at all.
function tallies() {
  const pairs = codecs.flatMap((first, n) => codecs.slice(n + 1).map((second) => [first, second]));
  const scopes = rates.length > 1 ? [...rates, null] : [null];
  return pairs
    .map((pair) => scopes.flatMap((bpp) => tally(...pair, bpp)))
    .filter((found) => found.length);
}

function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const percent = (share) => `${Math.round(100 * share)} %`;

function row(found) {
  const [low, high] = found.interval;
  const range = element("span", ` ${Math.round(100 * low)}–${percent(high)}`, { class: "range" });
  const bar = element("span", [], { style: `left:${100 * low}%;width:${100 * (high - low)}%` });
  const dot = element("b", [], { style: `left:${100 * found.share}%` });
  return element("tr", [
    element("th", found.bpp === null ? "all" : String(found.bpp), { scope: "row" }),
    ...[found.first_nearer, found.no_difference, found.second_nearer].map((count) => element("td", String(count))),
    element("td", [percent(found.share), range, element("span", [bar, dot], { class: "interval", "aria-hidden": "true" })]),
  ], found.bpp === null ? { class: "total" } : {});
}

function table(heads, rows) {
  const cells = heads.map((head) => element("th", head, { scope: "col" }));
  return [element("thead", element("tr", cells)), element("tbody", rows)];
}

function showResults() {
  const minutes = answers.reduce((sum, each) => sum + each.seconds, 0) / 60;
  one("#summary").textContent = `${answers.length} of ${comparisons.length} comparisons, in ${minutes.toFixed(1)} minutes.`;
  one("#save").disabled = answers.length === 0;
  one("#pairs").replaceChildren(...tallies().flatMap((found) => {
    const [first, second] = [found[0].first, found[0].second].map((codec) => names.get(codec));
    const heads = ["bpp", first, "neither", second, `share of ${first}`];
    return [element("h2", `${first} and ${second}`), element("table", table(heads, found.map(row)))];
  }));
  const described = (side) => [side.name, element("small", `${side.setting}, ${side.bytes} bytes`)];
  const rows = answered().map((each, n) => element("tr", [
    element("th", String(n + 1), { scope: "row" }),
    ...[each.image, String(each.bpp), described(each.left), described(each.right),
      { left: "A", right: "B", none: "neither" }[each.answer], `${each.seconds.toFixed(1)} s`].map((cell) => element("td", cell)),
  ]));
  one("#every").replaceChildren(...table(["", "Image", "bpp", "A", "B", "Nearer", "Took"], rows));
}

function save() {
  const results = {
    format: session.format,
    session: session.id,
    made: session.made,
    saved: new Date().toISOString(),
    pixel_ratio: window.devicePixelRatio,
    comparisons: comparisons.length,
    tallies: tallies().flat(),
    answers: answered(),
  };
  const blob = new Blob([`${JSON.stringify(results, null, 1)}\n`], { type: "application/json" });
  const link = element("a", [], { href: URL.createObjectURL(blob), download: `blind-${session.id}.json` });
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const count of all(".count")) count.textContent = `${comparisons.length} comparisons`;
if (answers.length || ended) show();
else one("#begin").focus();
