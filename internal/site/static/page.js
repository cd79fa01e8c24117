// The page polls the list of what changed last, and reads the shown task and
// its log through the public API.
"use strict";

const $ = id => document.getElementById(id);
const api = (path, options) => fetch("/api/queue/v1" + path, options);
const names = new Map();      // taskId -> metadata.name
const settled = new Set(["completed", "failed", "exception"]);
let shown = null;             // {taskId, state, abort}
let moving = "";              // the group of the page's address, while tasks of it may still change

function element(tag, props = {}, ...children) {
  const e = Object.assign(document.createElement(tag), props);
  e.append(...children);
  return e;
}

async function nameOf(taskId) {
  if (!names.has(taskId)) {
    const r = await api(`/task/${taskId}`);
    names.set(taskId, r.ok ? (await r.json()).metadata.name : taskId);
  }
  return names.get(taskId);
}

const badge = (state, reason) => element("span", { className: "state " + state, textContent: reason ? `${state}: ${reason}` : state });
const clock = time => {
  const at = new Date(time), today = at.toDateString() === new Date().toDateString();
  return element("time", { dateTime: time, title: time, textContent: today ? at.toLocaleTimeString() : at.toLocaleDateString() });
};
const link = href => element("a", { href, textContent: href });

// put shows children in place of what is there, unless it looks the same: who
// has the keyboard on a link keeps it.
function put(parent, ...children) {
  const next = element("div", {}, ...children);
  if (next.innerHTML !== parent.innerHTML) parent.replaceChildren(...next.childNodes);
}

// groupBox lists tasks of one group; their names are known by now.
function groupBox(id, tasks) {
  const title = element("h3", {}, "group ", element("a", { href: "/tasks/groups/" + id, textContent: id }));
  return element("div", { className: "group" }, title, ...tasks.map(t => {
    const a = element("a", { className: "task", href: "/tasks/" + t.taskId }, element("span", { textContent: names.get(t.taskId), title: t.taskId }), ...(t.changed ? [clock(t.changed)] : []), badge(t.state, t.reason));
    if (shown && shown.taskId === t.taskId) a.setAttribute("aria-current", "true");
    a.onclick = e => { e.preventDefault(); history.pushState(null, "", a.href); show(t.taskId); };
    return a;
  }));
}

async function refresh() {
  try {
    const page = await (await fetch("/recent.json")).json();
    put($("about"), `Version ${page.version}, services: ${page.serves.join(", ")}. API at ${location.origin}/api, references at `,
      link("/references/manifest.json"), ", metrics at ", link("/metrics"), ".");
    $("empty").hidden = page.tasks.length > 0 || page.hidden;
    $("hidden").hidden = !page.hidden;
    const groups = new Map();
    for (const t of page.tasks) {
      if (!groups.has(t.taskGroupId)) groups.set(t.taskGroupId, []);
      groups.get(t.taskGroupId).push(t);
    }
    await Promise.all(page.tasks.map(t => nameOf(t.taskId)));
    put($("groups"), ...[...groups].map(([id, tasks]) => groupBox(id, tasks)));
    if (moving) await showGroup(moving);
    const now = shown && page.tasks.find(t => t.taskId === shown.taskId);
    if (now && now.state !== shown.state) show(now.taskId);
  } catch (e) {
    $("about").textContent = "The server does not answer; trying again.";
  }
  setTimeout(refresh, 2000);
}

async function show(taskId) {
  if (shown) shown.abort.abort();
  const mine = shown = { taskId, state: "", abort: new AbortController() };
  $("task").hidden = false;
  const r = await api(`/task/${taskId}/status`);
  if (!r.ok) {
    $("task-title").textContent = r.status === 404 ? "No such task" : "This task cannot be shown";
    $("facts").replaceChildren(); $("artifacts").replaceChildren(); $("log").textContent = "";
    return;
  }
  const { status } = await r.json();
  mine.state = status.state;
  $("task-title").replaceChildren(await nameOf(taskId), " ", badge(status.state, status.state === "exception" && status.runs.length ? status.runs.at(-1).reasonResolved : ""));
  const run = status.runs.at(-1);
  const facts = { "Task": taskId, "Group": element("a", { href: "/tasks/groups/" + status.taskGroupId, textContent: status.taskGroupId }), "Task queue": status.taskQueueId, "Priority": status.priority, "Run": run ? `${run.runId} (${run.reasonResolved || run.state})` : "none yet" };
  if (run && run.workerId) facts["Worker"] = `${run.workerGroup}/${run.workerId}`;
  if (run && run.started) facts["Started"] = run.started;
  if (run && run.resolved) facts["Resolved"] = run.resolved;
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([k, v]) => [element("dt", { textContent: k }), element("dd", {}, v)]));
  await Promise.all([artifacts(taskId, run), log(mine, run)]);
}

async function artifacts(taskId, run) {
  const list = run ? await api(`/task/${taskId}/runs/${run.runId}/artifacts`) : null;
  const found = list && list.ok ? (await list.json()).artifacts : [];
  $("artifacts").replaceChildren(...found.map(a => element("li", {}, element("a", {
    href: `/api/queue/v1/task/${taskId}/runs/${run.runId}/artifacts/${encodeURIComponent(a.name)}`, textContent: a.name }), ` (${a.storageType})`)));
  if (!found.length) $("artifacts").append(element("li", { textContent: "none yet" }));
}

// maxLog is how many characters of a log are shown: a browser stops at some
// hundred megabytes.
const maxLog = 4e6;

async function log(mine, run) {
  const pre = $("log"), left = $("log-left");
  let shownSize = 0;
  left.textContent = "";
  pre.textContent = run && run.started ? "" : "The log appears when a worker has started the task.";
  if (!run || !run.started) return;
  try {
    const r = await api(`/task/${mine.taskId}/runs/${run.runId}/artifacts/public%2Flogs%2Flive.log`, { signal: mine.abort.signal });
    if (!r.ok) { pre.textContent = settled.has(mine.state) ? "This run has no log." : "The log is not there yet."; return; }
    const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || shown !== mine) return;
      const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
      pre.append(value);
      for (shownSize += value.length; shownSize > maxLog; pre.firstChild.remove()) {
        shownSize -= pre.firstChild.length;
        left.textContent = "The beginning is not shown. The whole log is among the artifacts.";
      }
      if (atEnd) pre.scrollTop = pre.scrollHeight;
    }
  } catch (e) {
    if (e.name !== "AbortError" && shown === mine) pre.append("\n[the log cannot be read: " + e.message + "]");
  }
}

async function showGroup(taskGroupId) {
  const tasks = [];
  let token = "";
  do {
    const r = await api(`/task-group/${taskGroupId}/list${token && "?continuationToken=" + encodeURIComponent(token)}`);
    if (!r.ok) { $("one-group").replaceChildren(element("p", { textContent: r.status === 404 ? "No such task group." : "This task group cannot be shown." })); return; }
    const page = await r.json();
    tasks.push(...page.tasks);
    token = page.continuationToken || "";
  } while (token && tasks.length < 5000);
  if (moving !== taskGroupId) return; // another page by now
  if (tasks.every(t => settled.has(t.status.state))) moving = "";
  for (const t of tasks) names.set(t.status.taskId, t.task.metadata.name);
  put($("one-group"), groupBox(taskGroupId, tasks.map(t => t.status)));
}

function followLocation() {
  const parts = location.pathname.split("/").filter(Boolean);
  $("one-group").replaceChildren();
  moving = parts[0] === "tasks" && parts[1] === "groups" && parts[2] || "";
  if (moving) showGroup(moving);
  else if (parts[0] === "tasks" && parts[1]) { show(parts[1]); return; }
  if (shown) shown.abort.abort();
  shown = null;
  $("task").hidden = true;
}
addEventListener("popstate", followLocation);
followLocation();
refresh();
