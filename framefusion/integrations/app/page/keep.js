(model, method, budget, frames, question) => {
  const query = new URLSearchParams({ model, method, budget, frames, question });
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  history.replaceState(null, "", `?${query}`);
}
