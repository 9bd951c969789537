// Sets the chosen theme before the first paint, so that no page flashes; a module would be too late.
(() => {
  try {
    const chosen = localStorage.getItem("mmsearch-theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is switched off: the theme of the system it is.
  }
})();
