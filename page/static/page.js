// Keeps the page's numbers true. Without it, or without permission to read, they are those of when it was loaded.
"use strict";

const words = { ok: "Everything works", degraded: "Working, with something amiss", down: "Not taking telemetry" };
const deliveries = { ok: "works", degraded: "away; what comes is kept on disk", down: "away, and the disk space for it is full" };
const worst = (states) => ["down", "degraded"].find((state) => states.includes(state)) || "ok";
const put = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };

function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return "0 s";
  const parts = [];
  let rest = Math.floor(seconds);
  for (const [name, length] of units.slice(first, first + 2)) {
    parts.push(`${Math.floor(rest / length)} ${name}`);
    rest %= length;
  }
  return parts.join(" ");
}

function show(status) {
  const state = document.getElementById("state");
  state.className = `state ${status.status}`;
  put(document.getElementById("state-text"), words[status.status]);
  put(document.getElementById("uptime"), duration(status.uptime_seconds));
  put(document.getElementById("store"), status.store.detail);
  document.getElementById("store-box").className = `box ${status.store.state}`;
  for (const box of document.querySelectorAll("[data-endpoint]")) {
    box.className = `box ${box.dataset.endpoint in status.endpoints ? "ok" : "down"}`;
  }
  for (const box of document.querySelectorAll("[data-pipeline]")) {
    const names = status.pipelines[box.dataset.pipeline]?.exporters || [];
    box.className = `box ${worst(names.map((name) => status.exporters[name]?.state))}`;
  }
  for (const box of document.querySelectorAll("[data-exporter]")) {
    const exporter = status.exporters[box.dataset.exporter];
    if (!exporter) continue;
    box.className = `box ${exporter.state}`;
    put(box.querySelector("[data-field=state]"), deliveries[exporter.state]);
    put(box.querySelector("[data-field=spool]"), exporter.spool_bytes.toLocaleString("en"));
    put(box.querySelector("[data-field=letters]"), exporter.dead_letters.toLocaleString("en"));
  }
  document.documentElement.dataset.live = String(Number(document.documentElement.dataset.live || 0) + 1);
}

// What the badge does not know, no part of the page may claim.
function lose(words) {
  document.getElementById("state").className = "state lost";
  put(document.getElementById("state-text"), words);
  for (const box of document.querySelectorAll("#parts .box")) box.className = "box lost";
  for (const field of document.querySelectorAll("#parts [data-field=state], #store")) put(field, "not known");
  for (const field of document.querySelectorAll("#parts [data-field=spool], #parts [data-field=letters], #uptime")) put(field, "–");
}

async function refresh() {
  let again = true;
  try {
    const answer = await fetch("/api/v1/status", { headers: { accept: "application/json" } });
    if (answer.ok) show(await answer.json());
    else if (answer.status >= 500) lose("The hub does not say how it is");
    else {
      again = false;
      lose("The hub tells its state only to who has a token; load this page again");
    }
  } catch {
    lose("The hub does not answer");
  }
  if (again) setTimeout(refresh, document.hidden ? 30000 : 5000);
}

refresh();
