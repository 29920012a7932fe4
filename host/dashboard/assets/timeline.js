// Draws the timeline of an instance. Only the lanes and turns that can be seen are drawn, so that ten thousand of them move smoothly.

import { span } from "./app.js";

const LANE = 22, AXIS = 26, LABEL_MAX = 230, NEAR = 4;

class Timeline {
  constructor(section) {
    this.section = section;
    this.canvas = section.querySelector("canvas");
    this.detail = section.querySelector(".detail");
    this.data = { spans: [], turns: [], until: 1, begun: 0 };
    this.from = 0;
    this.to = 1;
    this.top = 0;
    this.chosen = -1;
    this.pixel = 1;
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  async load() {
    const answer = await fetch(this.section.dataset.timeline, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(answer.statusText);
    const whole = this.from === 0 && this.to === this.data.until;
    const first = !this.data.spans.length;
    this.data = await answer.json();
    if (whole || first) this.all();
    this.scroll(this.top);
    this.draw();
  }

  all() {
    this.from = 0;
    this.to = this.data.until;
  }

  // --- Geometry -----------------------------------------------------------------------------------------------------------------------

  get left() {
    return Math.min(LABEL_MAX, this.canvas.clientWidth * 0.35);
  }

  get width() {
    return Math.max(1, this.canvas.clientWidth - this.left - 12);
  }

  x(at) {
    return this.left + ((at - this.from) / (this.to - this.from)) * this.width;
  }

  at(x) {
    return this.from + ((x - this.left) / this.width) * (this.to - this.from);
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    const size = Math.min(this.data.until, Math.max(5, (this.to - this.from) * factor));
    const share = (around - this.from) / (this.to - this.from);
    this.move(around - share * size, size);
  }

  move(from, size = this.to - this.from) {
    this.from = Math.min(Math.max(0, from), Math.max(0, this.data.until - size));
    this.to = this.from + size;
    this.draw();
  }

  scroll(top) {
    const all = this.data.spans.length * LANE;
    this.top = Math.max(0, Math.min(top, all - (this.canvas.clientHeight - AXIS)));
    this.draw();
  }

  laneAt(y) {
    const lane = Math.floor((y - AXIS + this.top) / LANE);
    return y > AXIS && lane >= 0 && lane < this.data.spans.length ? lane : -1;
  }

  // --- Drawing ------------------------------------------------------------------------------------------------------------------------

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = undefined;
      this.paint();
    });
  }

  paint() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    this.paintTime(context, width, height);
    const first = Math.max(0, Math.floor(this.top / LANE));
    const last = Math.min(this.data.spans.length, Math.ceil((this.top + height - AXIS) / LANE));
    context.save();
    context.beginPath();
    context.rect(0, AXIS, width, height - AXIS);
    context.clip();
    for (let lane = first; lane < last; lane++) this.paintLane(context, lane, width);
    context.restore();
  }

  paintTime(context, width, height) {
    context.strokeStyle = this.colour("line");
    context.fillStyle = this.colour("soft");
    context.textAlign = "center";
    const step = niceStep(this.to - this.from, Math.max(3, this.width / 110));
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) {
      const x = this.x(at);
      line(context, x, AXIS - 5, x, AXIS);
      context.fillText(at === 0 ? "0" : span(at), Math.min(x, width - 30), AXIS / 2);
    }
    line(context, 0, AXIS, width, AXIS);
    // Turns that fall on the same pixel are one line.
    let drawn = -NEAR;
    for (let i = firstAfter(this.data.turns, this.from); i < this.data.turns.length && this.data.turns[i][1] <= this.to; i++) {
      const x = this.x(this.data.turns[i][1]);
      if (x - drawn < 2) continue;
      drawn = x;
      line(context, x, AXIS, x, height);
    }
  }

  paintLane(context, lane, width) {
    const one = this.data.spans[lane];
    const y = AXIS + lane * LANE - this.top;
    if (lane === this.chosen) {
      context.fillStyle = this.colour("hover");
      context.fillRect(0, y, width, LANE);
    }
    context.fillStyle = this.colour("ink");
    context.textAlign = "left";
    context.save();
    context.beginPath();
    context.rect(0, y, this.left - 8, LANE);
    context.clip();
    context.fillText(`${KINDS[one.kind] ?? one.kind} ${one.name}`, 6, y + LANE / 2);
    context.restore();
    context.save();
    context.beginPath();
    context.rect(this.left - 2, y, this.width + 14, LANE);
    context.clip();
    const colour = this.colour(COLOURS[one.outcome] ?? "running");
    const end = one.end ?? this.data.until;
    context.globalAlpha = 0.28;
    this.bar(context, one.start, end, y, colour);
    context.globalAlpha = 1;
    if (one.attempts) {
      for (const attempt of one.attempts) {
        this.bar(context, attempt.start, attempt.end ?? this.data.until, y, attempt.failure ? this.colour("failed") : colour);
      }
    } else if (one.outcome !== "awaited") this.bar(context, one.start, end, y, colour);
    // What failed or was canceled has a mark as well as a colour.
    const mark = MARKS[one.outcome];
    if (mark) {
      context.fillStyle = this.colour("ink");
      context.fillText(mark, this.x(end) + 3, y + LANE / 2);
    }
    context.restore();
  }

  bar(context, from, to, y, colour) {
    const left = Math.max(this.left - 2, this.x(from)), right = Math.min(this.left + this.width + 12, this.x(to));
    if (right < left) return;
    context.fillStyle = colour;
    context.fillRect(left, y + 4, Math.max(3, right - left), LANE - 8);
  }

  // --- Pointing and keys --------------------------------------------------------------------------------------------------------------

  choose(lane, at) {
    if (lane === this.chosen && at === undefined) return;
    this.chosen = lane;
    this.draw();
    if (lane < 0) return;
    this.detail.textContent = describe(this.data.spans[lane], at, this.data.until);
  }

  show(lane) {
    const y = lane * LANE;
    if (y < this.top) this.top = y;
    const room = this.canvas.clientHeight - AXIS - LANE;
    if (y > this.top + room) this.top = y - room;
    this.choose(lane);
  }

  open() {
    const one = this.data.spans[this.chosen];
    if (!one) return;
    if (one.instance) location.href = this.section.dataset.instances + encodeURIComponent(one.instance);
    else if (one.number !== undefined) location.href = this.section.dataset.history + one.number;
  }

  listen() {
    const { canvas } = this;
    for (const button of this.section.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => this.press(button.dataset.zoom));
    }
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.drag = { x: event.offsetX, y: event.offsetY, from: this.from, top: this.top, moved: false };
      canvas.classList.add("drags");
    });
    canvas.addEventListener("pointermove", (event) => this.pointed(event));
    canvas.addEventListener("pointerup", (event) => {
      canvas.classList.remove("drags");
      if (this.drag && !this.drag.moved) this.choose(this.laneAt(event.offsetY), this.at(event.offsetX));
      this.drag = undefined;
    });
    canvas.addEventListener("pointercancel", () => (this.drag = undefined));
    canvas.addEventListener("dblclick", () => this.open());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  press(what) {
    if (what === "in") this.zoom(0.5);
    else if (what === "out") this.zoom(2);
    else {
      this.all();
      this.draw();
    }
  }

  wheel(event) {
    // The page goes on scrolling where there is nothing to zoom.
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.move(this.from + (((event.deltaX || event.deltaY) / this.width) * (this.to - this.from)));
    } else if (event.offsetX < this.left) this.scroll(this.top + event.deltaY);
    else this.zoom(Math.exp(event.deltaY / 400), this.at(event.offsetX));
    event.preventDefault();
  }

  pointed(event) {
    const { drag } = this;
    if (!drag) return this.choose(this.laneAt(event.offsetY), this.at(event.offsetX));
    const [x, y] = [event.offsetX - drag.x, event.offsetY - drag.y];
    if (Math.abs(x) + Math.abs(y) < NEAR && !drag.moved) return;
    drag.moved = true;
    this.move(drag.from - (x / this.width) * (this.to - this.from));
    this.scroll(drag.top - y);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (this.to - this.from) / 8, last = this.data.spans.length - 1;
    switch (event.key) {
      case "+": case "=": this.zoom(0.5); break;
      case "-": this.zoom(2); break;
      case "0": this.press("all"); break;
      case "ArrowLeft": this.move(this.from - step); break;
      case "ArrowRight": this.move(this.from + step); break;
      case "ArrowDown": this.show(Math.min(last, this.chosen + 1)); break;
      case "ArrowUp": this.show(Math.max(0, this.chosen - 1)); break;
      case "PageDown": this.show(Math.min(last, this.chosen + 10)); break;
      case "PageUp": this.show(Math.max(0, this.chosen - 10)); break;
      case "Home": this.show(0); break;
      case "End": this.show(last); break;
      case "Enter": this.open(); break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}

const KINDS = { activity: "▸", child: "⤷", timer: "◷", event: "✉", request: "→", answer: "←" };
const WORDS = { answer: "request received", request: "request sent" };
const COLOURS = { completed: "completed", fired: "completed", failed: "failed", canceled: "canceled", received: "running", awaited: "suspended" };
const MARKS = { failed: "✕", canceled: "–", open: "…", awaited: "?" };

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
  context.stroke();
}

/** The place of the first turn at or after a time. */
function firstAfter(turns, at) {
  let [low, high] = [0, turns.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (turns[middle][1] < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];

/** A step of the time axis that is easy to read: with as many marks as there is room for, and at least two beside the beginning. */
function niceStep(range, marks) {
  const least = range / marks;
  const step = STEPS.find((step) => step >= least) ?? Math.ceil(least / 864e5) * 864e5;
  return step * 2 <= range ? step : (STEPS.findLast((step) => step * 2 <= range) ?? step);
}

/** A span in words, with the attempt at a time if there is one. */
function describe(one, at, until) {
  const parts = [`${WORDS[one.kind] ?? one.kind} ${one.name}`];
  if (one.instance) parts.push(`instance ${one.instance}`);
  const from = `after ${span(one.start)}`;
  parts.push(one.end === undefined ? `${one.outcome}, ${from}, for ${span(until - one.start)} so far` : `${one.outcome}, ${from}, took ${span(one.end - one.start)}`);
  if (one.due !== undefined && one.end === undefined) parts.push(`due after ${span(one.due)}`);
  const attempts = one.attempts ?? [];
  const hit = attempts.find((attempt) => at !== undefined && attempt.start <= at && at <= (attempt.end ?? until)) ?? attempts.at(-1);
  if (hit) {
    const took = span((hit.end ?? until) - hit.start);
    parts.push(`attempt ${hit.number}${attempts.length > 1 ? ` of ${attempts.length}` : ""}: ${took}${hit.failure ? `, failed with ${hit.failure}` : ""}`);
  }
  if (one.failure && !hit?.failure) parts.push(`failed with ${one.failure}`);
  return parts.join(" · ");
}

const section = document.querySelector("[data-timeline]");
if (section) {
  const timeline = new Timeline(section);
  const load = () => timeline.load().catch(() => (timeline.detail.textContent = "The timeline cannot be read now; the table below has it."));
  load();
  document.addEventListener("perennial:theme", () => timeline.draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => timeline.draw());
  document.addEventListener("perennial:content", (event) => {
    if (event.detail instanceof Element && event.detail.dataset.part === "timeline") load();
  });
}
