"use strict";

// --- plots: tabs, checkboxes, tooltip ------------------------------------------------------------

for (const list of document.querySelectorAll("[role=tablist]")) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const select = (chosen) => {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", selected);
      tab.tabIndex = selected ? 0 : -1;
      const panel = document.getElementById(tab.getAttribute("aria-controls"));
      panel.hidden = !selected;
      if (!selected) continue;
      for (const box of boxes) {
        box.parentElement.classList.toggle("absent", !panel.querySelector(`[data-curve="${box.value}"]`));
      }
    }
    hideTooltip();
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(tab);
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    select(next);
    event.preventDefault();
  });
  // The tooltip is set up below.
  queueMicrotask(() => select(tabs[0]));
}

const boxes = [...document.querySelectorAll(".legend input")];
const shown = (curve) => boxes.some((box) => box.value === curve && box.checked);

function showChosenCurves() {
  for (const box of boxes) {
    for (const part of document.querySelectorAll(`[data-curve="${box.value}"]`)) {
      part.style.display = box.checked ? "" : "none";
    }
  }
  hideTooltip();
}

for (const form of document.querySelectorAll(".legend")) {
  form.addEventListener("change", showChosenCurves);
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-all]");
    if (!button) return;
    for (const box of boxes) if (!box.dataset.measured) box.checked = Boolean(button.dataset.all);
    showChosenCurves();
  });
}
// A browser may remember boxes over a reload.
if (boxes.length) queueMicrotask(showChosenCurves);

const marks = JSON.parse(document.getElementById("marks").textContent);
const tooltip = document.getElementById("tooltip");
const dot = Object.assign(document.createElement("div"), { className: "dot" });

function hideTooltip() {
  if (!tooltip) return;
  tooltip.hidden = true;
  dot.remove();
  for (const plot of document.querySelectorAll(".plot")) plot.classList.remove("hovering");
}

function showTooltip(plot, svg, mark) {
  for (const part of plot.querySelectorAll("[data-curve]")) {
    part.classList.toggle("near", part.dataset.curve === mark.curve);
  }
  plot.classList.add("hovering");
  const name = document.createElement("b");
  name.textContent = mark.name;
  tooltip.replaceChildren(name, mark.text);
  tooltip.hidden = false;
  plot.append(dot, tooltip);
  const x = mark.x * svg.clientWidth;
  const y = mark.y * svg.clientHeight;
  dot.style.left = `${x}px`;
  dot.style.top = `${y}px`;
  const room = plot.clientWidth - tooltip.offsetWidth;
  const beside = x + 14 > room ? x - 14 - tooltip.offsetWidth : x + 14;
  tooltip.style.left = `${Math.max(0, Math.min(room, beside))}px`;
  tooltip.style.top = `${Math.max(0, y - tooltip.offsetHeight - 12)}px`;
}

for (const plot of document.querySelectorAll(".plot")) {
  // Which of the two drawings is displayed depends on the window's width.
  const displayed = () => {
    const form = plot.querySelector(".wide").clientWidth ? "wide" : "narrow";
    const points = marks[plot.dataset.metric][form].filter((mark) => shown(mark.curve));
    return [plot.querySelector(`.${form} svg`), points];
  };
  let current = null;
  const point = (event) => {
    const [svg, points] = displayed();
    const box = svg.getBoundingClientRect();
    const distance = (mark) =>
      Math.hypot(event.clientX - box.left - mark.x * box.width, event.clientY - box.top - mark.y * box.height);
    current = points.reduce((best, mark) => (!best || distance(mark) < distance(best) ? mark : best), null);
    if (current && distance(current) < 28) showTooltip(plot, svg, current);
    else hideTooltip();
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", hideTooltip);
  plot.addEventListener("blur", hideTooltip);
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTooltip();
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!along && !across) return;
    event.preventDefault();
    const [svg, points] = displayed();
    if (!points.length) return;
    const curves = [...new Set(points.map((mark) => mark.curve))];
    const at = points.findIndex((mark) => current && mark.curve === current.curve && mark.text === current.text);
    if (at < 0) {
      current = points[0];
    } else if (along) {
      const same = points.filter((mark) => mark.curve === current.curve);
      const next = same.indexOf(points[at]) + along;
      current = same[Math.max(0, Math.min(same.length - 1, next))];
    } else {
      const next = (curves.indexOf(current.curve) + across + curves.length) % curves.length;
      const there = points.filter((mark) => mark.curve === curves[next]);
      const off = (mark) => Math.abs(mark.x - points[at].x);
      current = there.reduce((best, mark) => (off(mark) < off(best) ? mark : best));
    }
    showTooltip(plot, svg, current);
  });
}
window.addEventListener("resize", hideTooltip);

// --- viewer: one zoom and place for all versions of an image -------------------------------------

const MOST = 32;
let scrolled = -Infinity;
window.addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });

for (const view of document.querySelectorAll(".view")) {
  const panels = view.querySelector(".panels");
  const frames = [...view.querySelectorAll(".frame")];
  const images = frames.map((frame) => frame.querySelector("img"));
  const output = view.querySelector("output");
  // Scale, and the image's offset as a share of the frame's size: the same for frames of any size.
  let scale = 1;
  let left = 0;
  let top = 0;

  const width = () => Math.max(...frames.map((frame) => frame.getBoundingClientRect().width));
  const samples = () => (scale * width()) / view.dataset.width;

  const draw = () => {
    left = Math.min(0, Math.max(1 - scale, left));
    top = Math.min(0, Math.max(1 - scale, top));
    const transform = `translate(${100 * left}%, ${100 * top}%) scale(${scale})`;
    for (const image of images) image.style.transform = transform;
    view.classList.toggle("zoomed", scale > 1);
    view.classList.toggle("pixelated", samples() >= 1.5);
    output.value = `${Math.round(100 * samples())} %`;
  };

  // (x, y) is the place in the frame, as a share of its size, that stays where it is.
  const zoom = (factor, x = 0.5, y = 0.5) => {
    const next = Math.min(MOST, Math.max(1, scale * factor));
    left = x - ((x - left) * next) / scale;
    top = y - ((y - top) * next) / scale;
    scale = next;
    draw();
  };
  const move = (x, y) => {
    left += x;
    top += y;
    draw();
  };
  const place = (frame, event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };

  const show = (chosen) => {
    panels.classList.toggle("one", chosen !== null);
    [...panels.children].forEach((panel, n) => { panel.hidden = chosen !== null && n !== chosen; });
    for (const button of view.querySelectorAll("[data-show]")) {
      button.setAttribute("aria-pressed", chosen === Number(button.dataset.show));
    }
    view.querySelector("[data-do=side]").setAttribute("aria-pressed", chosen === null);
    draw();
  };

  const actions = {
    in: () => zoom(1.5),
    out: () => zoom(1 / 1.5),
    pixels: () => zoom(view.dataset.width / window.devicePixelRatio / width() / scale),
    fit: () => zoom(0),
    side: () => show(null),
  };
  view.querySelector(".tools").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.do) actions[button.dataset.do]();
    else show(Number(button.dataset.show));
  });
  view.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.fit, s: actions.side,
      ArrowLeft: () => move(0.1, 0), ArrowRight: () => move(-0.1, 0),
      ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1),
    };
    const number = Number(event.key);
    if (keys[event.key]) {
      // While all of the image is in view there is nowhere to move, and the page scrolls.
      if (event.key.startsWith("Arrow") && scale === 1) return;
      keys[event.key]();
    } else if (number >= 1 && number <= frames.length) {
      show(number - 1);
    } else {
      return;
    }
    event.preventDefault();
  });

  for (const frame of frames) {
    const pointers = new Map();
    frame.addEventListener("wheel", (event) => {
      // A page that scrolls under the pointer goes on scrolling, and so it does from "fit" down.
      if (performance.now() - scrolled < 250 || (scale === 1 && event.deltaY > 0)) return;
      event.preventDefault();
      zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 300), ...place(frame, event));
    }, { passive: false });
    frame.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, place(frame, event));
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = place(frame, event);
      const other = [...pointers].find(([id]) => id !== event.pointerId);
      if (other) {
        const apart = ([x, y]) => Math.hypot((x - other[1][0]) * frame.clientWidth, (y - other[1][1]) * frame.clientHeight);
        zoom(apart(now) / Math.max(1, apart(before)), (now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2);
        move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      } else {
        move(now[0] - before[0], now[1] - before[1]);
      }
      pointers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      frame.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    frame.addEventListener("dblclick", (event) => zoom(2, ...place(frame, event)));
  }
  window.addEventListener("resize", draw);
  draw();
}
