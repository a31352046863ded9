// Looks every few seconds whether the page can be shown again.
"use strict";

async function look() {
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.status < 500) {
      location.reload();
      return;
    }
  } catch {
    // The hub itself is away; it may come back.
  }
  setTimeout(look, document.hidden ? 30000 : 3000);
}

setTimeout(look, 3000);
