"use strict";

for (const piece of document.querySelectorAll(".piece")) {
  const stage = piece.querySelector(".stage");
  const scroller = piece.querySelector(".scroller");
  const canvas = piece.querySelector(".canvas");
  const images = [...piece.querySelectorAll(".canvas img")];
  const cards = [...piece.querySelectorAll("button.version")];
  const divider = piece.querySelector(".divider");
  const select = piece.querySelector("select");
  const pair = divider !== null;
  let split = 0.5; // of the stage's width
  let left = 0;
  let right = Math.min(1, images.length - 1);
  let zoom = 0; // pixels of the screen a pixel of the picture, 0 for what fits
  let held = false;

  const draw = () => {
    const shown = held ? 1 : split;
    stage.style.setProperty("--split", `${100 * shown}%`);
    // Where the divider is in the picture, however far that is scrolled.
    stage.style.setProperty("--cut", `${scroller.scrollLeft + shown * stage.clientWidth}px`);
    if (!pair) return;
    const percent = Math.round(100 * split);
    divider.setAttribute("aria-valuenow", percent);
    divider.setAttribute("aria-valuetext", `${percent} % ${cards[left].dataset.label}`);
  };

  const choose = (toLeft, toRight) => {
    left = toLeft;
    right = toRight;
    images.forEach((image, n) => {
      image.hidden = n !== left && n !== right;
      image.classList.toggle("left", n === left && left !== right);
      image.classList.toggle("right", n === right && left !== right);
    });
    cards.forEach((card, n) => {
      card.setAttribute("aria-pressed", n === right);
      card.classList.toggle("at-left", n === left && n !== right);
    });
    piece.querySelector(".tag.left span").textContent = cards[left].dataset.label;
    piece.querySelector(".tag.right span").textContent = cards[right].dataset.label;
    if (select) select.value = left;
    draw();
  };

  const move = (to) => {
    split = Math.min(1, Math.max(0, to));
    draw();
  };

  const magnify = (to) => {
    // The place in the middle stays there.
    const x = (scroller.scrollLeft + scroller.clientWidth / 2) / canvas.clientWidth;
    const y = (scroller.scrollTop + scroller.clientHeight / 2) / canvas.clientHeight;
    zoom = to;
    piece.style.setProperty("--scale", zoom / window.devicePixelRatio);
    piece.classList.toggle("zoomed", zoom > 0);
    piece.classList.toggle("pixelated", zoom > 1);
    scroller.tabIndex = zoom > 0 ? 0 : -1;
    scroller.scrollLeft = x * canvas.clientWidth - scroller.clientWidth / 2;
    scroller.scrollTop = y * canvas.clientHeight - scroller.clientHeight / 2;
    for (const button of piece.querySelectorAll("[data-zoom]")) {
      button.setAttribute("aria-pressed", Number(button.dataset.zoom) === zoom);
    }
    draw();
  };

  piece.classList.toggle("pair", pair);
  scroller.tabIndex = -1;
  scroller.addEventListener("scroll", draw, { passive: true });
  window.addEventListener("resize", () => { magnify(zoom); });
  piece.querySelector(".tools").addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (button) magnify(Number(button.dataset.zoom));
  });

  // A pointer on the divider moves it, and so it does anywhere while all of the picture is in view;
  // else a mouse drags the picture, and a finger scrolls it as it does elsewhere.
  let drag = null;
  const at = (event) => (event.clientX - stage.getBoundingClientRect().left) / stage.clientWidth;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target === scroller) return; // its scrollbars
    const dividing = pair && (zoom === 0 || event.target.closest(".divider"));
    if (!dividing && (zoom === 0 || event.pointerType !== "mouse")) return;
    drag = { dividing, x: event.clientX, y: event.clientY };
    if (dividing) {
      drag.offset = event.target.closest(".divider") ? split - at(event) : 0;
      move(at(event) + drag.offset);
      divider.focus({ preventScroll: true, focusVisible: false });
    }
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.dividing) {
      move(at(event) + drag.offset);
    } else {
      scroller.scrollBy(drag.x - event.clientX, drag.y - event.clientY);
      drag.x = event.clientX;
      drag.y = event.clientY;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });

  if (pair) {
    for (const card of cards) card.addEventListener("click", () => choose(left, Number(card.dataset.version)));
    if (select) select.addEventListener("change", () => choose(Number(select.value), right));
    divider.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.1 : 0.01;
      const to = {
        ArrowLeft: split - step, ArrowDown: split - step, ArrowRight: split + step, ArrowUp: split + step,
        PageDown: split - 0.1, PageUp: split + 0.1, Home: 0, End: 1,
      }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      move(to);
      event.preventDefault();
    });
  }
  const hold = (to) => {
    held = pair && to;
    piece.classList.toggle("holding", held);
    draw();
  };
  piece.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === select) return;
    const key = event.key.toLowerCase();
    if (key === "z") magnify({ 0: 1, 1: 2, 2: 4, 4: 0 }[zoom]);
    else if (key === "o") hold(true);
    else if (cards[Number(key) - 1]) choose(left, Number(key) - 1);
    else return;
    event.preventDefault();
  });
  piece.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "o") hold(false); });
  piece.addEventListener("focusout", () => hold(false));
  magnify(0);
}
