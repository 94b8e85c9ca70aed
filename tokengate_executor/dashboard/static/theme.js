// Which of light and dark is shown: the system's, unless this visitor has chosen another.
// A classic script in the head, so that the page never flashes in the wrong one.
"use strict";

(() => {
  const KEY = "tokengate-theme";
  const CHOICES = ["system", "light", "dark"];

  function remembered() {
    try {
      const found = localStorage.getItem(KEY);
      return CHOICES.includes(found) ? found : "system";
    } catch {
      return "system"; // a browser that keeps nothing for this site
    }
  }

  function apply(choice) {
    // No attribute: the style sheet's `color-scheme: light dark` follows the system.
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
  }

  function remember(choice) {
    try {
      if (choice === "system") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, choice);
    } catch {
      // It holds for this page, then.
    }
  }

  apply(remembered());

  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = remembered();
    select.addEventListener("change", () => {
      apply(select.value);
      remember(select.value);
    });
  });
})();
