// textual.js measures its font when the page has loaded: let the font be there first.
"use strict";

const start = window.onload;

window.onload = async (event) => {
  try {
    await Promise.all([document.fonts.load("16px 'Roboto Mono'"), document.fonts.load("bold 16px 'Roboto Mono'")]);
  } finally {
    start(event);
  }
  document.getElementById("again").addEventListener("click", () => window.location.reload());
  const field = document.querySelector(".xterm-helper-textarea");
  if (field) field.focus();
};
