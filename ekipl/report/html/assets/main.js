// The page: tabs, keys, and newer data while a run goes on.

let data = JSON.parse(document.getElementById("data").textContent);

const runAt = () => data.runs[Number(state.run)] || data.runs[0];

function tabsOf() {
  const run = runAt();
  const tabs = [];
  if (data.sweep) tabs.push(["sweep", "Sweep", () => sweep(data)]);
  if (data.comparison) tabs.push(["compare", "Compare", () => comparison(data)]);
  tabs.push(["overview", "Overview", () => overview(data, runAt())]);
  if (run.groups && (run.groups.steps.length || run.command === "train"))
    tabs.push(["groups", "Groups", () => groupsOf(runAt())]);
  if (run.answers && run.answers.points.length)
    tabs.push(["answers", run.command === "train" ? "Evaluation" : "Answers", () => answersOf(runAt())]);
  tabs.push(["settings", "Settings", () => [section("Settings", table(["setting", "value"], runAt().settings))]]);
  return tabs;
}

function draw() {
  const tabs = tabsOf();
  const chosen = tabs.find(([key]) => key === state.tab) || tabs[0];
  const nav = el(
    "nav",
    { "aria-label": "Parts of the page" },
    tabs.map(([key, name]) =>
      el(
        "button",
        {
          type: "button",
          class: "tab",
          "aria-current": key === chosen[0] ? "page" : null,
          onclick: () => {
            setState({ tab: key });
            draw();
          },
        },
        name,
      ),
    ),
  );
  const forOne = !["sweep", "compare"].includes(chosen[0]);
  const picker =
    data.runs.length > 1 && forOne
      ? choice(
          "Run",
          data.runs.map((run, i) => [i, run.name]),
          state.run || 0,
          (value) => {
            setState({ run: value, step: "", a: "", b: "", problem: "" });
            draw();
          },
        )
      : null;
  const left =
    data.left_out.length && chosen[0] !== "groups"
      ? el("p", { class: "note" }, `To keep the page small it holds ${data.left_out.join("; ")}.`)
      : null;
  groupsOf.move = null;
  document
    .getElementById("page")
    .replaceChildren(
      el(
        "header",
        { class: "top" },
        el(
          "div",
          {},
          el("h1", {}, visible(data.title)),
          data.live ? el("span", { class: "live", id: "live" }, "live") : null,
        ),
        nav,
      ),
      el("main", {}, picker, fill(el("div", { id: "content" }), {}, chosen[2]()), left),
      el("footer", {}, "Made by ekipl view. This file loads nothing and sends nothing."),
    );
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    document.getElementById("search")?.focus();
  } else if (event.key === "Escape" && typing) event.target.blur();
  else if (!typing && groupsOf.move && event.key === "ArrowLeft") groupsOf.move(-1);
  else if (!typing && groupsOf.move && event.key === "ArrowRight") groupsOf.move(1);
});

window.addEventListener("hashchange", () => {
  readState();
  draw();
});

const POLL = 3000; // milliseconds between two questions to the server of a live page

async function follow() {
  const mark = document.getElementById("live");
  try {
    const answer = await fetch("data.json", { headers: { "If-None-Match": follow.tag || "" } });
    if (answer.status === 200) {
      follow.tag = answer.headers.get("ETag");
      const busy = document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
      const newer = await answer.json();
      if (follow.seen && !busy) {
        const top = window.scrollY;
        data = { ...newer, live: true };
        draw();
        window.scrollTo(0, top);
      } else if (busy) follow.tag = ""; // later, when nobody types
      follow.seen = true;
    }
    if (mark) mark.textContent = "live";
  } catch (error) {
    if (mark) mark.textContent = "not reached";
  }
  setTimeout(follow, POLL);
}

readState();
document.title = data.title;
draw();
if (data.live) follow();
