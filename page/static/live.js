// Keeps what stands in #live true while somebody looks: the hub pushes it, and what has changed is merged into the page.
"use strict";

(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("liveness");
  const words = { live: "Live", paused: "Paused", lost: "The hub does not answer" };
  const again = 3000, longer = 30000;
  let source = null, timer = 0, pace = 0;

  // On a phone the navigation is wider than the window.
  const views = document.querySelector("nav.views"), current = views?.querySelector("[aria-current]");
  if (current) views.scrollLeft = current.offsetLeft + current.offsetWidth / 2 - views.offsetLeft - views.clientWidth / 2;

  // How it is, in words: those of the state, or the hub's own.
  function tell(state, text = words[state]) {
    document.documentElement.dataset.liveness = state;
    if (!said || said.textContent === text) return;
    said.dataset.state = state;
    said.textContent = text;
    said.hidden = false;
  }

  function tellLive() {
    if (live.classList.contains("old")) tell("refused", "Not up to date");
    else tell("live", pace ? `Live, every ${pace < 60 ? `${pace} s` : `${pace / 60} min`}: it takes long to read` : words.live);
  }

  // What people opened, wrote or chose stays as it is, and so does a chart, which draws what is new itself.
  const callbacks = {
    beforeNodeMorphed(old, fresh) {
      if (old.nodeType === 1 && old.classList.contains("plot") && fresh.nodeType === 1) {
        if (old.dataset.chart !== fresh.dataset.chart) {
          old.dataset.chart = fresh.dataset.chart;
          if (window.charts?.update(old)) return false;
        } else if (old.dataset.drawn) return false;
      }
      return old !== document.activeElement || !/^(INPUT|SELECT|TEXTAREA)$/.test(old.tagName);
    },
    beforeAttributeUpdated(name, node) {
      return !(name === "open" && node.tagName === "DETAILS");
    },
  };

  // What could be read before stays, and is said to be old.
  function showUnread(html) {
    const note = document.createElement("div");
    note.innerHTML = html;  // the server's own, as all that is pushed
    const old = document.getElementById("unread");
    const since = old?.dataset.since ?? new Date().toLocaleTimeString();
    note.id = "unread";
    note.dataset.since = since;
    note.firstElementChild.append(` What is below was there before ${since}.`);
    old?.remove();
    live.before(note);
    live.classList.add("old");
  }

  function show(html) {
    const unread = /^\s*<p data-unread/.test(html);
    if (unread && !live.querySelector(":scope > [data-unread]")) showUnread(html);
    else {
      document.getElementById("unread")?.remove();
      live.classList.remove("old");
      Idiomorph.morph(live, html, { morphStyle: "innerHTML", ignoreActiveValue: true, callbacks });
      window.charts?.drawAll(live);
    }
    document.documentElement.dataset.pushes = String(Number(document.documentElement.dataset.pushes || 0) + 1);
    tellLive();
  }

  // Why the hub refuses: what its answer says, which for programs is a problem as RFC 9457 has it.
  async function reasonOf(answer) {
    if (answer.status === 401 || answer.status === 403) location.reload();  // which leads to the form to sign in
    const problem = /json/.test(answer.headers.get("content-type") || "") ? await answer.json() : {};
    const text = problem.detail || problem.title || `The hub answers with ${answer.status}`;
    return text[0].toUpperCase() + text.slice(1);
  }

  class Refused extends Error {}

  async function fetchOnce() {
    const answer = await fetch(location.href, { headers: { accept: "text/html", "HX-Request": "true", "HX-Target": "live" } });
    if (!answer.ok) throw new Refused(await reasonOf(answer));
    show(await answer.text());
  }

  // An event source does not tell why it was refused: asked once more, the answer does.
  async function whyRefused() {
    const asking = new AbortController();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/event-stream" }, signal: asking.signal });
      if (answer.status === 204) return null;  // there is nothing more to come
      return answer.ok ? "" : await reasonOf(answer);
    } catch {
      return "";
    } finally {
      asking.abort();
    }
  }

  function stop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function later(state, after, text) {
    stop();
    tell(state, text);
    timer = setTimeout(resume, after);
  }

  async function onRefused() {
    stop();
    const reason = await whyRefused();
    if (reason === null) tell("paused", "Nothing changes here");
    else if (reason === "") later("lost", again);
    else later("refused", longer, reason);
  }

  function listen() {
    stop();
    pace = 0;
    source = new EventSource(location.href);
    source.onopen = tellLive;
    source.onmessage = (event) => show(event.data);
    source.addEventListener("pace", (event) => {
      pace = Number(event.data);
      tellLive();
    });
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) onRefused();
      else later("lost", again);
    };
  }

  // After a pause, or after the hub was away, what is there now comes first.
  async function resume() {
    try {
      await fetchOnce();
      listen();
    } catch (error) {
      if (error instanceof Refused) later("refused", again, error.message);
      else later("lost", again);
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
