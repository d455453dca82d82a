// One picture at a time, and two sliders: through the pictures and through the reduction points.
const CLICK = "A click holds it.";
const sheet = new Sheet(byId("sheet"), scene, { look });

function look(token, pinned) {
  if (!pinned && shown.pinned) return;
  shown.pinned = pinned && token !== null;
  if (shown.token === token) return;
  shown.token = token;
  sheet.mark(token);
  details(byId("details"));
}

function go(after) {
  shown.after = after;
  told(after, ["step"], ["point"]);
  legend(after);
  sheet.redraw();
  details(byId("details"));
}

function turnTo(picture) {
  look(null, true);
  const { name, width, height } = data.pictures[picture];
  byId("frame").value = picture;
  byId("frame").setAttribute("aria-valuetext", name);
  byId("frame-name").textContent = name;
  byId("sheet").style.setProperty("--ratio", width / height);
  sheet.show([picture]);
  sheet.redraw();
}

byId("frame").max = data.pictures.length - 1;
byId("frame").addEventListener("input", () => turnTo(Number(byId("frame").value)));
byId("step").max = data.steps.length;
byId("step").addEventListener("input", () => go(Number(byId("step").value)));
modes(() => sheet.redraw());
turnTo(0);
go(data.steps.length);
Promise.all(data.pictures.map(load)).then(() => {
  go(shown.after);
  document.documentElement.dataset.ready = "true";
});
