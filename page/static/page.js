// Keeps the page's numbers true. Without it, or without permission to read, they are those of when it was loaded.
"use strict";

const words = { ok: "Everything works", degraded: "Working, with something amiss", down: "Not taking telemetry" };
const deliveries = { ok: "works", degraded: "away; what comes is kept on disk", down: "away, and the disk space for it is full" };
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

async function refresh() {
  let again = true;
  try {
    const answer = await fetch("/api/v1/status", { headers: { accept: "application/json" } });
    if (answer.ok) show(await answer.json());
    else again = answer.status >= 500;
  } catch {
    document.getElementById("state").className = "state lost";
    put(document.getElementById("state-text"), "The hub does not answer");
  }
  if (again) setTimeout(refresh, document.hidden ? 30000 : 5000);
}

refresh();
