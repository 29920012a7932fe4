// The theme that the viewer chose, before anything is painted.
try {
  const theme = localStorage.getItem("perennial-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser may forbid storage; the theme of the system is used then.
}
document.documentElement.classList.add("js");
