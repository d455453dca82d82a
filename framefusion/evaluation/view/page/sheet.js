// Frames on canvases, and over them the marks of the patch that is looked at, its group and where it went.
const SVG = "http://www.w3.org/2000/svg";
const HATCH = 7;

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function hatch(context, x, y, width, height) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.beginPath();
  // Lines run on from cell to cell, so that a pruned region reads as one.
  const first = Math.floor((x + y) / HATCH) * HATCH;
  for (let sum = first; sum <= x + width + y + height; sum += HATCH) {
    context.moveTo(sum - y, y);
    context.lineTo(sum - y - height, y + height);
  }
  context.stroke();
  context.restore();
}

// A corner of a patch that the vision tower did not encode.
function corner(context, x, y, side, colour) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - side, y);
  context.lineTo(x, y + side);
  context.closePath();
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = "rgba(255, 255, 255, 0.9)";
  context.stroke();
}

// Draw one picture as it is after the first `after` steps. mode: "tokens", "left" (every patch shows the patch that
// stands for it, pruned ones nothing) or "plain".
function draw(canvas, number, scene, after, mode) {
  const { data, images, history, places } = scene, picture = data.pictures[number];
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const left = (column) => Math.round((column * width) / picture.columns);
  const top = (row) => Math.round((row * height) / picture.rows);
  context.fillStyle = data.palette.empty;
  context.fillRect(0, 0, width, height);
  if (images[number]) context.drawImage(images[number], 0, 0, width, height);
  context.lineWidth = Math.max(1, HATCH / 5);
  const { holder, carried } = history.holders(after);
  picture.cells.forEach((token, place) => {
    const row = Math.floor(place / picture.columns), column = place % picture.columns;
    const x = left(column), y = top(row), w = left(column + 1) - x, h = top(row + 1) - y;
    if (token === NOBODY) {
      if (mode === "plain") return;
      context.fillStyle = data.palette.empty;
      context.fillRect(x, y, w, h);
      return;
    }
    const state = history.state(token, after);
    if (mode === "plain" || (mode === "left" && state === "kept")) return;
    if (mode === "left") {
      context.fillStyle = "#101316";
      context.fillRect(x, y, w, h);
      const from = state === "merged" ? places.get(holder[token]) : undefined;
      if (from && images[from.picture]) {
        const image = images[from.picture], of = data.pictures[from.picture];
        const sw = image.naturalWidth / of.columns, sh = image.naturalHeight / of.rows;
        context.drawImage(image, from.column * sw, from.row * sh, sw, sh, x, y, w, h);
      }
      return;
    }
    const mark = () => {
      if (history.repeated(token) !== null) corner(context, x + w, y, Math.min(w, h) / 3, data.palette.repeated);
    };
    if (state === "kept") {
      if (carried[token] < 2) return mark();
      const line = Math.max(1.25, Math.min(w, h) / 14);
      context.strokeStyle = data.palette.carries;
      context.lineWidth = line;
      context.strokeRect(x + line / 2, y + line / 2, w - line, h - line);
      context.lineWidth = Math.max(1, HATCH / 5);
      return mark();
    }
    context.globalAlpha = history.fresh(token, after) ? data.palette.fresh : data.palette.earlier;
    context.fillStyle = data.palette[state];
    context.fillRect(x, y, w, h);
    context.globalAlpha = 1;
    if (state === "pruned") {
      context.strokeStyle = "rgba(0, 0, 0, 0.3)";
      hatch(context, x, y, w, h);
    }
    mark();
  });
}

// A set of pictures in one element. look(token | null, pinned): called as the reader points at patches.
class Sheet {
  constructor(element, scene, { look, open }) {
    Object.assign(this, { element, scene, look, open });
    this.canvases = new Map();
    this.marks = document.createElementNS(SVG, "svg");
    this.marks.classList.add("marks");
    this.marks.setAttribute("aria-hidden", "true");
    this.resizing = new ResizeObserver(() => this.redraw());
    this.resizing.observe(element);
  }

  show(numbers) {
    this.canvases.clear();
    this.element.replaceChildren(...numbers.map((number) => this.figure(number)), this.marks);
  }

  figure(number) {
    const picture = this.scene.data.pictures[number];
    const canvas = make("canvas", {
      tabindex: "0",
      role: "img",
      "data-picture": number,
      "aria-label": `${picture.name}, ${picture.rows} by ${picture.columns} patches; arrow keys move, Enter enlarges`,
      style: `aspect-ratio: ${picture.width} / ${picture.height}`,
      onpointermove: (event) => { if (event.pointerType !== "touch") this.look(this.under(event, number), false); },
      onpointerleave: () => this.look(null, false),
      onclick: (event) => (this.open ? this.open(number) : this.pin(this.under(event, number))),
      onkeydown: (event) => this.key(event, number),
    });
    this.canvases.set(number, canvas);
    return make("figure", {}, canvas, make("figcaption", {}, picture.name));
  }

  // A click holds a patch until the next click on it.
  pin(token) {
    const { shown } = this.scene;
    this.look(shown.pinned && shown.token === token ? null : token, true);
  }

  under(event, number) {
    const picture = this.scene.data.pictures[number], box = event.currentTarget.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * picture.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * picture.rows);
    if (column < 0 || row < 0 || column >= picture.columns || row >= picture.rows) return null;
    const token = picture.cells[row * picture.columns + column];
    return token === NOBODY ? null : token;
  }

  key(event, number) {
    const picture = this.scene.data.pictures[number];
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Enter" && this.open) this.open(number);
    else if (event.key === "Escape") this.look(null, true);
    else if (by) {
      const at = this.cursor?.number === number ? this.cursor : { row: 0, column: 0 - by[1], number, first: true };
      const row = Math.min(picture.rows - 1, Math.max(0, at.row + (at.first ? 0 : by[0])));
      const column = Math.min(picture.columns - 1, Math.max(0, at.first ? 0 : at.column + by[1]));
      this.cursor = { number, row, column };
      const token = picture.cells[row * picture.columns + column];
      this.look(null, true);
      this.look(token === NOBODY ? null : token, false);
      event.preventDefault();
    }
  }

  redraw() {
    const { after, mode } = this.scene.shown;
    for (const [number, canvas] of this.canvases) {
      const ratio = window.devicePixelRatio || 1;
      const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
      if (!width || !height) continue;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      draw(canvas, number, this.scene, after, mode);
    }
    this.mark(this.scene.shown.token);
  }

  // The cell of a token in pixels of this element, null where its picture is not shown here.
  box(token) {
    const place = this.scene.places.get(token), canvas = place && this.canvases.get(place.picture);
    if (!canvas) return null;
    const picture = this.scene.data.pictures[place.picture];
    const width = canvas.clientWidth / picture.columns, height = canvas.clientHeight / picture.rows;
    const x = canvas.offsetLeft + place.column * width, y = canvas.offsetTop + place.row * height;
    return { x, y, width, height, middle: [x + width / 2, y + height / 2] };
  }

  // Frames around the group of a token, and a line along the way it went.
  mark(token) {
    this.marks.replaceChildren();
    if (token === null) return;
    const { history, shown } = this.scene, [head, ...members] = history.group(token, shown.after);
    for (const member of members) this.frame(member, "member");
    if (head !== token) this.frame(head, "head");
    for (const { step, from, to } of history.events(token)) {
      if (step < shown.after && to !== NOBODY) this.line(from, to);
    }
    this.frame(token, "here");
  }

  frame(token, kind) {
    const box = this.box(token);
    if (!box) return;
    for (const part of ["halo", "edge"]) {
      const rect = document.createElementNS(SVG, "rect");
      for (const name of ["x", "y", "width", "height"]) rect.setAttribute(name, box[name]);
      rect.setAttribute("class", `${kind} ${part}`);
      rect.dataset.token = token;
      this.marks.append(rect);
    }
  }

  line(from, to) {
    const start = this.box(from), end = this.box(to);
    if (!start || !end) return;
    for (const part of ["halo", "edge"]) {
      const line = document.createElementNS(SVG, "path");
      const [x, y] = start.middle, [u, v] = end.middle;
      const bend = Math.min(60, Math.hypot(u - x, v - y) / 4);
      line.setAttribute("d", `M${x} ${y} Q${(x + u) / 2} ${(y + v) / 2 + bend} ${u} ${v}`);
      line.setAttribute("class", `way ${part}`);
      this.marks.append(line);
    }
  }
}
