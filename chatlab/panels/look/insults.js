// The insult panel: left who takes part and how, right a strip a setting, the newest last.
// A row a member, a square an insult in the order in which they came into the channel.

const NAMES = 75; // pixels left of the squares; what is left between them and the counts is theirs
const LEAST = 30; // insults that an axis has room for
const SHAPES = "http://www.w3.org/2000/svg";
const MARK = "#1f2328", LOSS = "#c1121f", WAITS = "#c4c9cf";

function shape(tag, attributes) {
  const made = document.createElementNS(SHAPES, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** 1, round numbers between, and the last. */
function tickNumbers(total) {
  let step = 1;
  for (const next of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 1e5]) {
    step = next;
    if (total / step <= 8) break;
  }
  const found = [1];
  for (let n = step; n < total - step * 0.6; n += step) if (n > 1) found.push(n);
  if (total > 1) found.push(total);
  return found;
}

/** The squares of one row: ``numbers`` are [place from 0, letter]. */
function drawRow(svg, numbers, colour, pitch, tall) {
  const gap = pitch > 8 ? 2 : pitch > 3 ? pitch * 0.15 : 0;
  const wide = Math.min(pitch - gap, 30);
  const paths = { done: "", work: "", mark: "", cross: "" };
  for (const [at, letter] of numbers) {
    const x = at * pitch + gap / 2, how = letter.toLowerCase();
    if (how === "x") {
      const half = Math.max(1.5, Math.min(6, wide / 2, tall / 2 - 2));
      const cx = x + wide / 2, cy = tall / 2;
      paths.cross += `M${cx - half} ${cy - half}l${2 * half} ${2 * half}m0 ${-2 * half}l${-2 * half} ${2 * half}`;
    } else if (how === "w") {
      const edge = Math.min(1, wide / 4);
      paths.work += `M${x + edge} 2h${wide - 2 * edge}v${tall - 4}h${2 * edge - wide}z`;
    } else paths.done += `M${x} 1h${wide}v${tall - 2}h${-wide}z`;
    if (letter !== how && how !== "x" && how !== "q") {
      paths.mark += `M${x} ${tall - 5}h${wide}v4h${-wide}z`;
    }
  }
  svg.replaceChildren(
    shape("path", { d: paths.done, fill: colour }),
    shape("path", { d: paths.work, fill: "none", stroke: colour, "stroke-width": Math.min(2, wide / 2) }),
    shape("path", { d: paths.mark, fill: MARK }),
    shape("path", { d: paths.cross, fill: "none", stroke: LOSS, "stroke-width": 2 }),
  );
}

function render({ model, el }) {
  const ask = (verb, args = {}) => model.send({ do: verb, ...args });
  let view = {};

  /** A button of the view, by its label. */
  function press(label, shown = label, classes = "") {
    const made = h("button" + classes, { type: "button", "aria-label": label, onclick: () => {
      const found = named(made.getAttribute("aria-label"));
      if (found) ask(found.do, found.args);
    } }, shown);
    return made;
  }
  function named(label) {
    return (view.buttons ?? []).find((button) => button.label === label);
  }
  function update(button) {
    const found = named(button.getAttribute("aria-label"));
    button.disabled = Boolean(view.over) || !found || !found.on;
    button.title = found?.title || button.getAttribute("aria-label");
    if (found && "pressed" in found) button.setAttribute("aria-pressed", String(found.pressed));
  }
  function choice(option, values) {
    const made = values.map((value) => press(`${option} ${value}`, String(value)));
    const group = h("div.choice", { role: "group", "aria-label": option }, h("span.what", {}, option), ...made);
    return [group, made];
  }

  // -- left

  const backend = h("span.soft");
  const users = h("div.users");
  const all = [press("all join"), press("all leave")];
  const sender = h("select.sender", {
    title: "who sends", "aria-label": "who sends",
    onchange: () => ask("sender", { name: sender.value }),
  });
  const sends = [press("send 1"), press("send 30")];
  const [prefetch, prefetches] = choice("prefetch", [0, 1, 10]);
  const [ack, acks] = choice("ack", ["manual", "auto"]);
  const waiting = h("output.waiting", { "aria-label": "waiting", title: "sent, and nobody works on them yet" });
  const left = h("div.left", {},
    h("div.title", {}, h("strong", {}, "insult channel"), backend),
    h("div.who", {}, h("span.what", {}, "members"), h("span.what.work", {}, "work on each")),
    users,
    h("div.line", {}, ...all),
    h("div.line", {}, h("span.what", {}, "who sends"), sender),
    h("div.line", {}, ...sends),
    prefetch, ack, waiting);

  function makeUser(user) {
    const slider = h("input", {
      type: "range", min: 0, max: 1, step: 0.05, "aria-label": `work of ${user.name}`,
      title: `seconds of work on each insult, ${user.name}`,
      onkeydown: (event) => event.stopPropagation(), // the page would take the arrows
    });
    const words = h("span.time");
    let waits = 0;
    slider.oninput = () => {
      say(words, seconds(Number(slider.value)));
      slider.dataset.held = "yes";
    };
    slider.onchange = () => { // by keyboard it changes step by step: wait for the last
      clearTimeout(waits);
      waits = setTimeout(() => {
        delete slider.dataset.held;
        ask("work", { name: user.name, seconds: Number(slider.value) });
      }, 350);
    };
    const chip = h("span.chip");
    chip.style.background = user.colour;
    return h("div.user", {}, chip, h("span.name", { title: user.name }, user.name), slider, words,
      press(`join ${user.name}`, "join", ".part"));
  }
  function updateUser(element, user) {
    const [, name, slider, words, button] = element.children;
    name.classList.toggle("chatlab-in", user.joined);
    slider.disabled = Boolean(view.over);
    if (!slider.dataset.held) {
      slider.value = String(user.work);
      say(words, seconds(user.work));
    }
    name.title = user.where === "online" ? user.name : `${user.name} is ${user.where}`;
    element.classList.toggle("chatlab-gone", user.where !== "online");
    button.setAttribute("aria-label", `${user.joined ? "leave" : "join"} ${user.name}`);
    say(button, user.joined ? "leave" : "join");
    update(button);
  }
  function seconds(work) {
    return work === 0 ? "none" : work < 1 ? `${Math.round(work * 1000)} ms` : `${work} s`;
  }

  // -- right

  const older = press("older", "", ".older");
  older.onclick = () => ask("older");
  const strips = h("div.strips");
  const right = h("div.right", { tabindex: 0, role: "region", "aria-label": "strips" }, older, strips);
  const legend = h("div.legend", {},
    "filled = done · outlined = in work · dark foot = redelivered · × = lost · fairness = Jain index, 1 = equal");

  function makeStrip() {
    return h("div.strip", { role: "group" },
      h("div.heading", {}, h("span.setting"), h("span.fairness"), h("b.index")), h("div.rows"), h("div.ticks"));
  }
  function updateStrip(element, strip) {
    const [heading, rows, ticks] = element.children;
    say(heading.firstChild, strip.title);
    say(heading.children[1], strip.fairness ? "fairness" : "");
    say(heading.lastChild, strip.fairness);
    heading.firstChild.title = strip.title;
    const shown = strip.rows.map((row) => `${row.name} ${row.count}`).join(", ");
    element.setAttribute("aria-label", `${strip.title}: ${shown || "nobody"}`);
    // Strips share an axis, unless that makes the shorter one unreadable.
    const near = view.strips.map((one) => one.how.length).filter((n) => n <= 3 * strip.how.length);
    const total = Math.max(LEAST, ...near);
    const look = [strip.who, strip.how, total, view.strips.length, strip.newest, raster].join("|");
    if (element.dataset.look === look && element.dataset.rows === JSON.stringify(strip.rows)) return;
    element.dataset.look = look;
    element.dataset.rows = JSON.stringify(strip.rows);
    const pitch = raster / total;
    const tall = view.strips.length > 2 ? 19 : view.strips.length > 1 ? 24 : 32;
    const lists = new Map();
    for (let at = 0; at < strip.how.length; at++) {
      const letter = strip.how[at], how = letter.toLowerCase();
      const row = { q: "waiting", f: "failed", x: "lost" }[how] ?? strip.rows[strip.who.charCodeAt(at) - 48]?.key;
      if (!lists.has(row)) lists.set(row, []);
      lists.get(row).push([at, letter]);
    }
    const rest = [["waiting", WAITS], ["failed", "#76797e"], ["lost", LOSS]]
      .filter(([name]) => strip[name] || (name === "waiting" && strip.newest))
      .map(([name, colour]) => ({ key: " " + name, name, colour, count: strip[name], rest: true }));
    keep(rows, [...strip.rows, ...rest], makeRow, (line, row) => {
      const [chip, name, svg, count, again] = line.children;
      chip.style.background = row.rest ? "transparent" : row.colour;
      line.style.height = `${tall}px`;
      svg.setAttribute("width", raster);
      svg.setAttribute("height", tall);
      svg.setAttribute("viewBox", `0 0 ${raster} ${tall}`);
      drawRow(svg, lists.get(row.rest ? row.name : row.key) ?? [], row.colour, pitch, tall);
      say(count, row.count.toLocaleString("en"));
      say(again, row.again ? `${row.again} again` : "");
      again.title = row.again ? `${row.again} of them redelivered` : "";
      count.style.fontSize = tall > 20 ? "21px" : "17px";
      line.classList.toggle("chatlab-loss", row.name === "lost" && Boolean(row.rest));
    });
    const first = strip.total - strip.how.length;
    ticks.replaceChildren(...(strip.how.length ? tickNumbers(strip.how.length) : []).map((n) => {
      const tick = h("span", {}, (first + n).toLocaleString("en"));
      tick.style.left = `${(n - 0.5) * pitch}px`;
      return tick;
    }));
  }
  function makeRow(row) {
    const svg = shape("svg", { "aria-hidden": "true" });
    return h("div.row" + (row.rest ? ".rest" : ""), {}, h("span.chip"),
      h("span.name", { title: row.name }, row.name), svg, h("b.count"), h("span.again"));
  }

  const [note, drawNote] = footnote();
  el.append(h("div.panel.insults", { "data-lm-suppress-shortcuts": "true" },
    h("div.both", {}, left, right), legend, note));

  let last = "", raster = 0;
  /** How wide the squares of a row may be together, beside the longest count. */
  function room() {
    const counts = view.strips.flatMap((strip) => [...strip.rows.map((row) => row.count), strip.waiting]);
    const again = view.strips.some((strip) => strip.rows.some((row) => row.again));
    const digits = Math.max(0, ...counts).toLocaleString("en").length;
    return Math.max(160, right.clientWidth - 20 - NAMES - 12 - 14 * Math.max(2, digits) - (again ? 58 : 0));
  }
  const watch = new ResizeObserver(() => draw(view));
  watch.observe(right);

  function draw(now) {
    if (!now.strips) return;
    view = now;
    raster = room();
    say(backend, view.backend);
    keep(users, view.users, makeUser, updateUser);
    offer(sender, view.senders, view.sender);
    sender.disabled = Boolean(view.over);
    [...all, ...sends, ...prefetches, ...acks].forEach(update);
    say(waiting, `waiting: ${view.waiting.toLocaleString("en")}`);
    waiting.classList.toggle("chatlab-some", view.waiting > 0);
    older.hidden = !view.older;
    say(older, `${view.older} older`);
    older.setAttribute("aria-label", "older");
    const items = view.strips.map((strip, at) => ({ ...strip, newest: at === view.strips.length - 1 }));
    keep(strips, items, makeStrip, updateStrip);
    const newest = items.length ? String(items[items.length - 1].key) : "";
    if (newest !== last) right.scrollTop = right.scrollHeight;
    last = newest;
    drawNote(view);
  }
  const stop = follow(model, draw);
  return () => {
    watch.disconnect();
    stop();
  };
}

export default { render };
