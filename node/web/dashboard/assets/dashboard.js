// Asks for the page again after a block, puts in the cards that have changed, and shows what a
// drawing tells of the place that is pointed at.
"use strict";

const EVERY_MS = 1000;
const RETRY_MS = 5000;
const state = document.getElementById("state");
let stream = null;
let waiting = null;
let asking = false;
let again = false;
let last = 0;

function put(old, fresh) {
  const before = Array.from(old.children);
  const after = Array.from(fresh.children);
  const fits = before.length === after.length && before.length > 0 &&
    before.every((child, place) => child.tagName === after[place].tagName);
  if (!fits) {
    old.replaceChildren(...after);
    return;
  }
  before.forEach((child, place) => {
    if (child.isEqualNode(after[place])) return;
    if (child.matches(".columns, dl.stats")) put(child, after[place]);
    else child.replaceWith(after[place]);
  });
}

function keeping(work) {
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  const scrolled = Array.from(document.querySelectorAll(".scroll, .slots"),
    (one) => [one.scrollLeft, one.scrollTop]);
  work();
  Array.from(document.querySelectorAll(".scroll, .slots")).forEach((one, place) => {
    if (scrolled[place]) [one.scrollLeft, one.scrollTop] = scrolled[place];
    if (one.matches(".scroll")) one.tabIndex = one.scrollHeight > one.clientHeight ? 0 : -1;
  });
  if (focused && document.activeElement === document.body) {
    const found = document.querySelector(`main a[href="${CSS.escape(focused)}"]`);
    if (found) found.focus({ preventScroll: true });
  }
}

async function refresh() {
  waiting = null;
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  last = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const chosen = String(getSelection());
      if (!chosen) {
        keeping(() => put(document.getElementById("content"), fresh.getElementById("content")));
      }
      state.replaceChildren(...fresh.getElementById("state").children);
      state.classList.remove("away");
    }
  } catch {
    away();
  } finally {
    asking = false;
    if (again) {
      again = false;
      soon();
    }
  }
}

function soon() {
  if (waiting === null) {
    waiting = setTimeout(refresh, Math.max(0, EVERY_MS - (performance.now() - last)));
  }
}

function away() {
  state.classList.add("away");
  const word = state.querySelector("b");
  if (word) word.textContent = document.body.dataset.stale;
}

function listen() {
  if (stream !== null || document.hidden) return;
  stream = new EventSource("/v1/events");
  stream.addEventListener("block", soon);
  // A testnet is watched while no blocks come, too.
  if (location.pathname === "/testnet") stream.addEventListener("testnet", soon);
  stream.addEventListener("error", () => {
    away();
    // Where too many listen the browser does not try again by itself.
    if (stream !== null && stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(listen, RETRY_MS);
    }
  });
  stream.addEventListener("open", () => {
    if (state.classList.contains("away")) soon();
  });
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    // A place in the stream is for who looks.
    if (stream !== null) stream.close();
    stream = null;
  } else {
    listen();
    soon();
  }
});
addEventListener("pagehide", () => stream && stream.close());

const tip = document.getElementById("tip");
function point(event) {
  const told = event.target.closest && event.target.closest("[data-tip]");
  if (!told) {
    tip.classList.remove("shown");
    return;
  }
  tip.textContent = told.dataset.tip;
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const above = event.clientY - box.height - 14;
  tip.style.transform = `translate(${Math.max(8, left)}px, ${above < 8 ? event.clientY + 18 : above}px)`;
  tip.classList.add("shown");
}
document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);
document.addEventListener("scroll", () => tip.classList.remove("shown"), { passive: true });

keeping(() => {});
const current = document.querySelector(".slots [aria-current]");
if (current) current.scrollIntoView({ block: "nearest", inline: "center" });
listen();
