const CLICK = "Click a frame to enlarge it.";

function head() {
  byId("source").textContent = plain(data.source);
  byId("about").textContent = plain(`${data.model} · ${data.method}`);
  byId("question").textContent = plain(data.question);
  const cards = [["reduced", data.reduced], ["dense", data.dense]].filter(([, answer]) => answer);
  byId("answers").append(...cards.reverse().map(([name, answer]) =>
    make("div", { class: "answer", "data-answer": name }, make("h2", {}, name), make("p", {}, plain(answer.text) || "(nothing)"))));
  byId("figures").append(...data.figures.map(({ name, dense, reduced, share }) => {
    const value = make("dd", {}, ...(dense ? [make("s", {}, dense), " → "] : []), make("b", {}, reduced));
    if (share) value.append(make("small", {}, ` ${share}`));
    return make("div", {}, make("dt", {}, name), value);
  }));
  byId("notes").append(...data.notes.map((note) => make("li", {}, plain(note))));
}

// Steps that have acted when the attention of a layer reads.
function stepsBefore(layer) {
  return data.steps.filter((step) => step.layer < layer || (step.layer === layer && step.place === "before")).length;
}

function chart() {
  byId("scale").append(make("span", {}, number(data.tokens)), make("span", {}, "0"));
  const every = Math.ceil(data.layers.length / 16);
  byId("bars").append(...data.layers.map((tokens, layer) => {
    const text = `layer ${layer}: reads ${number(tokens)} of ${number(data.tokens)} visual tokens`;
    const bar = make("span", { class: "fill", style: `height: ${(100 * tokens) / data.tokens}%` });
    const name = make("span", { class: "number" }, layer % every ? "" : String(layer));
    return make("button", { type: "button", title: text, "aria-label": text, onclick: () => go(stepsBefore(layer)) },
      make("span", { class: "whole" }, bar), name);
  }));
}

const large = byId("large");
const sheet = new Sheet(byId("sheet"), scene, { look, open });
const one = new Sheet(byId("large-sheet"), scene, { look });

function look(token, pinned) {
  if (!pinned && shown.pinned) return;
  shown.pinned = pinned && token !== null;
  if (shown.token === token) return;
  shown.token = token;
  for (const each of [sheet, one]) each.mark(token);
  details(byId("details"));
  details(byId("large-details"));
}

function go(after) {
  shown.after = after;
  told(after, ["step", "large-step"], ["point", "large-point"]);
  [...byId("bars").children].forEach((bar, layer) => bar.classList.toggle("shown", stepsBefore(layer) === after));
  legend(after);
  for (const each of [sheet, one]) each.redraw();
  details(byId("details"));
  details(byId("large-details"));
}

function open(picture) {
  look(null, true);
  byId("frame").value = picture;
  byId("frame").setAttribute("aria-valuetext", data.pictures[picture].name);
  byId("large-name").textContent = data.pictures[picture].name;
  const { width, height } = data.pictures[picture];
  byId("large-sheet").style.setProperty("--ratio", width / height);
  one.show([picture]);
  if (!large.open) large.showModal();
  one.redraw();
}

function controls() {
  for (const slider of [byId("step"), byId("large-step")]) {
    slider.max = data.steps.length;
    slider.addEventListener("input", () => go(Number(slider.value)));
  }
  byId("steps").append(...[undefined, ...data.steps].map((_, after) => make("option", { value: after })));
  byId("frame").max = data.pictures.length - 1;
  byId("frame").addEventListener("input", () => open(Number(byId("frame").value)));
  byId("close").addEventListener("click", () => large.close());
  large.addEventListener("close", () => { look(null, true); one.show([]); });
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  modes(() => { for (const each of [sheet, one]) each.redraw(); });
}

head();
chart();
controls();
const widest = Math.max(...data.pictures.map(({ width, height }) => width / height));
byId("sheet").style.setProperty("--least", `${Math.round(Math.min(240, 150 * Math.max(1, widest ** 0.5)))}px`);
sheet.show(data.pictures.map((_, place) => place));
go(data.steps.length);
Promise.all(data.pictures.map(load)).then(() => {
  go(shown.after);
  document.documentElement.dataset.ready = "true";
});
