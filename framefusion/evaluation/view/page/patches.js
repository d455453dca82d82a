// What every page about a scene shares: its data, and what is told of a patch and of a reduction point.
const data = JSON.parse(document.getElementById("data").textContent);
// Text from outside keeps its letters, but controls and marks that turn the reading direction are spelled out.
const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;
const plain = (text) => text.replace(OBEYED, (each) => `\\u${each.codePointAt(0).toString(16).padStart(4, "0")}`);
const byId = (name) => document.getElementById(name);
const CROPS = 24;

const history = new TokenHistory(data);
const places = new Map();
data.pictures.forEach((picture, number) => {
  picture.cells.forEach((token, place) => {
    const row = Math.floor(place / picture.columns), column = place % picture.columns;
    if (token !== NOBODY) places.set(token, { picture: number, row, column });
  });
});
const scene = {
  data, history, places,
  images: data.pictures.map(() => null),
  shown: { after: data.steps.length, mode: "tokens", token: null, pinned: false },
};
const shown = scene.shown;

const number = (value) => value.toLocaleString("en");
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const label = (step) => (step === undefined ? "before any reduction" : step.label);

function where(token) {
  const place = places.get(token);
  // Tokens that close a row or a clip are no patches.
  return place ? [data.pictures[place.picture].name, `row ${place.row + 1}, column ${place.column + 1}`] : ["no patch"];
}

function legend(after) {
  const found = history.counts(after), total = data.tokens;
  const entries = [
    ["kept", "kept", found.kept, "the picture is clear"],
    ["carries", "of these, carry others", found.carrying, "framed"],
    ["merged", "merged", found.merged, "into the patch that stands for them"],
    ["pruned", "pruned", found.pruned, "hatched"],
    ["repeated", "not encoded", found.repeated, "a corner is cut off: it shows what the vision tower saw at its place before"],
  ].filter(([kind, , count]) => count || kind === "kept");
  byId("legend").replaceChildren(...entries.map(([kind, name, count, title]) =>
    make("li", { title, "data-kind": kind },
      make("span", { class: `swatch ${kind}` }), `${name} `,
      make("b", {}, number(count)), make("small", {}, ` ${percent(count / total)}`))));
  if (after > 0) byId("legend").append(make("li", { class: "hint" }, "stronger colour: at this very point"));
}

function crop(token, size = 44) {
  const canvas = make("canvas", { width: 2 * size, height: 2 * size, class: "crop", title: where(token).join(", ") });
  const place = places.get(token), image = place && scene.images[place.picture];
  if (image) {
    const picture = data.pictures[place.picture];
    const width = image.naturalWidth / picture.columns, height = image.naturalHeight / picture.rows;
    const context = canvas.getContext("2d");
    context.drawImage(image, place.column * width, place.row * height, width, height, 0, 0, 2 * size, 2 * size);
  }
  return canvas;
}

function event({ step, to, from }, token) {
  const who = from === token ? "" : "from there on ";
  const [future, at] = [step >= shown.after, data.steps[step].label];
  const node = make("li", { class: future ? "later" : "" });
  if (to === NOBODY) node.append(make("span", {}, make("b", {}, `${who}pruned`), ` ${at}`));
  else {
    const others = (history.shares[from] || []).length - 1;
    const also = others > 0 ? `, and ${others} more ${others === 1 ? "takes" : "take"} a share` : "";
    node.append(make("span", {}, make("b", {}, `${who}merged`), ` ${at} into ${where(to).join(", ")}${also}`), crop(to));
  }
  return node;
}

function details(element) {
  const token = shown.token;
  element.parentElement.classList.toggle("empty", token === null);
  if (token === null) {
    const text = data.steps.length ? "Point at a patch to see what became of it." : "Nothing was taken out of this prompt.";
    element.replaceChildren(make("p", { class: "hint" }, `${text} ${CLICK}`));
    return;
  }
  const state = history.state(token, shown.after), events = history.events(token);
  const members = state === "pruned" ? [] : history.group(token, shown.after);
  const title = make("div", { class: "title" }, crop(token),
    make("div", {}, make("h3", {}, where(token)[0]), where(token)[1] || ""), make("span", { class: `chip ${state}` }, state));
  const parts = [title], shows = history.repeated(token);
  if (shows !== null) {
    parts.push(make("p", { class: "encoded" }, `The vision tower did not encode it again; it shows ${where(shows)[0]} `, crop(shows, 28)));
  }
  if (events.length) parts.push(make("ol", { class: "events" }, ...events.map((each) => event(each, token))));
  if (!events.length || events.at(-1).to !== NOBODY) {
    parts.push(make("p", { class: "hint" }, events.length ? "Its survivor stays to the end." : "It stays to the end."));
  }
  if (members.length > 1) {
    const name = state === "kept" ? "It stands" : "Its survivor stands";
    const rest = members.length - CROPS;
    parts.push(make("p", { class: "stands" }, `${name} for ${number(members.length)} patches`));
    parts.push(make("div", { class: "crops" }, ...members.slice(0, CROPS).map((member) => crop(member, 28)),
      ...(rest > 0 ? [make("small", {}, `and ${number(rest)} more`)] : [])));
  }
  element.replaceChildren(...parts);
}

// Say on sliders and lines of text what is left after the first `after` steps.
function told(after, sliders, lines) {
  const step = data.steps[after - 1];
  const left = step === undefined ? data.tokens : step.after;
  const whose = step && step.method && data.steps.some((other) => other.method !== step.method) ? `${step.method}, ` : "";
  const name = `${whose}${label(step)}`, rest = `${number(left)} of ${number(data.tokens)} visual tokens left`;
  for (const slider of sliders.map(byId)) {
    slider.value = after;
    slider.setAttribute("aria-valuetext", `${name}: ${rest}`);
  }
  for (const line of lines.map(byId)) line.replaceChildren(make("b", {}, name), ` · ${rest}`);
}

function modes(redraw) {
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.addEventListener("change", () => { shown.mode = radio.value; redraw(); });
  }
}

function load(picture, place) {
  if (!picture.image) return Promise.resolve();
  const image = new Image();
  image.src = picture.image;
  return image.decode().then(() => { scene.images[place] = image; });
}

for (const [name, value] of Object.entries(data.palette)) document.documentElement.style.setProperty(`--${name}`, value);
