// Keeps what stands in #live true while somebody looks: the hub pushes it, and what has changed is merged into the page.
"use strict";

(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("liveness");
  const words = { live: "Live", paused: "Paused", lost: "The hub does not answer", full: "Too many pages are open" };
  const again = 3000, longer = 30000;
  let source = null, timer = 0;

  function tell(state) {
    document.documentElement.dataset.liveness = state;
    if (!said || said.dataset.state === state) return;
    said.dataset.state = state;
    said.textContent = words[state];
    said.hidden = false;
  }

  // What people opened, wrote or chose stays as it is, and so does a chart, which draws what is new itself.
  const callbacks = {
    beforeNodeMorphed(old, fresh) {
      if (old.nodeType === 1 && old.classList.contains("plot") && fresh.nodeType === 1) {
        if (old.dataset.chart !== fresh.dataset.chart) {
          old.dataset.chart = fresh.dataset.chart;
          if (window.charts?.draw(old)) return false;
        } else if (old.dataset.drawn) return false;
      }
      return old !== document.activeElement || !/^(INPUT|SELECT|TEXTAREA)$/.test(old.tagName);
    },
    beforeAttributeUpdated(name, node) {
      return !(name === "open" && node.tagName === "DETAILS");
    },
  };

  function show(html) {
    Idiomorph.morph(live, html, { morphStyle: "innerHTML", ignoreActiveValue: true, callbacks });
    window.charts?.drawAll(live);
    document.documentElement.dataset.pushes = String(Number(document.documentElement.dataset.pushes || 0) + 1);
    tell("live");
  }

  async function fetchOnce() {
    const answer = await fetch(location.href, { headers: { accept: "text/html", "HX-Request": "true", "HX-Target": "live" } });
    if (answer.status === 401 || answer.status === 403) location.reload();  // which leads to the form to sign in
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.text());
  }

  function stop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function later(state, after) {
    stop();
    tell(state);
    timer = setTimeout(resume, after);
  }

  function listen() {
    stop();
    source = new EventSource(location.href);
    source.onopen = () => tell("live");
    source.onmessage = (event) => show(event.data);
    source.onerror = () => later(source?.readyState === EventSource.CLOSED ? "full" : "lost", source?.readyState === EventSource.CLOSED ? longer : again);
  }

  // After a pause, or after the hub was away, what is there now comes first.
  async function resume() {
    try {
      await fetchOnce();
      listen();
    } catch (error) {
      later(error instanceof TypeError ? "lost" : "full", again);
    }
  }

  window.charts?.drawAll(document);
  document.addEventListener("htmx:afterSettle", () => window.charts?.drawAll(document));
  if (live?.hasAttribute("data-live")) {
    listen();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        stop();
        tell("paused");
      } else resume();
    });
    document.addEventListener("htmx:pushedIntoHistory", listen);  // another search is another thing to look at
    window.addEventListener("pagehide", stop);
    window.addEventListener("pageshow", (event) => { if (event.persisted) resume(); });
  }
})();
