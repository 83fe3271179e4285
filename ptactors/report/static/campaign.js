"use strict";
// The page is whole without script; this opens the cell that the address names, and turns the lights off or on.

(function () {
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  });
  const open = () => {
    const card = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
    if (card && card.tagName === "DETAILS") { card.open = true; card.scrollIntoView({ block: "start" }); }
  };
  addEventListener("hashchange", open);
  open();
  root.dataset.ready = "yes";
})();
