async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    return "Link copied";
  } catch {
    // Without a secure connection pages may not write there; the address bar has the same link.
    window.prompt("Link with these settings", location.href);
    return "Copy link with these settings";
  }
}
