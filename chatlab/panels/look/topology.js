// The topology of a group: what the broker has, a line per queue, and how old this is.

const SHOWN = 3; // empty places, so that a queue that holds nothing is seen to be one

// The notebook's own keyboard shortcuts are not meant here.
const QUIET = { "data-lm-suppress-shortcuts": "true" };

function render({ model, el }) {
  const kind = h("div");
  const group = h("strong");
  const type = h("span");
  const pill = h("div.exchange", {}, kind, h("div.exchange-name", {}, group, " ", type));
  const arrow = h("div.arrow", { "aria-hidden": "true" });
  const lines = h("div.stores", { role: "list", "aria-label": "queues" });
  const words = h("div.soft.words");
  const buttons = h("div.asked");
  const age = h("div.soft.age", { role: "status" });
  const [note, drawNote] = footnote(model);
  const middle = h("div.flow", {}, lines, words, buttons);
  const panel = h("div.panel.topology", QUIET, h("div.row", {}, pill, arrow, middle, age), note);
  el.append(panel);

  let looks = -1;
  let seen = performance.now();

  function draw(view) {
    if (!view.lines) return;
    if (view.looks !== looks) {
      looks = view.looks;
      seen = performance.now();
    }
    pill.hidden = arrow.hidden = !view.kind;
    say(kind, view.kind);
    say(group, view.group);
    say(type, view.detail);
    pill.title = `${view.kind} ${view.group} ${view.detail}`;
    const places = view.lines.map((line) => line.filled + line.outlined);
    lines.style.setProperty("--places", Math.max(SHOWN, ...places));
    keep(lines, view.lines, makeLine, updateLine);
    say(words, view.words);
    words.hidden = !view.words;
    keep(buttons, view.buttons.map((button) => ({ key: button.do, ...button })),
      (button) => h("button", { onclick: () => model.send({ do: button.do }) }),
      (element, button) => {
        say(element, button.label);
        element.title = button.title;
        element.disabled = Boolean(view.over);
      });
    panel.classList.toggle("chatlab-silent", Boolean(view.silent));
    drawNote(view);
    tell(view);
  }

  /** How old it is; grows by itself when the kernel says nothing. */
  function tell(view) {
    const seconds = (performance.now() - seen) / 1000;
    const ago = seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0);
    const who = view.keeper === "memory" ? "as this process has it" : `as ${view.keeper} reports it`;
    say(age, view.silent || (view.keeper ? `${who}, ${ago} s ago` : ""));
  }

  function makeLine(line) {
    return h("div.store", { role: "listitem" }, h("span.store-name", {}, line.name),
      h("span.squares", { "aria-hidden": "true" }), h("span.counts", {}, h("span"), h("span.unacked")),
      h("span.takes"));
  }
  function updateLine(element, line) {
    const [, squares, counts, takes] = element.children;
    const marks = [];
    if (line.squares) {
      const empty = Math.max(0, SHOWN - line.filled - line.outlined);
      marks.push(...Array(line.outlined).fill("outlined"), ...Array(line.filled).fill("filled"),
        ...Array(empty).fill("empty"));
    }
    keep(squares, marks.map((mark, place) => ({ key: place, mark })), () => h("i"),
      (square, { mark }) => { square.className = `chatlab-${mark}`; });
    say(counts.firstChild, line.ready);
    counts.firstChild.classList.toggle("chatlab-some", line.some);
    say(counts.lastChild, line.unacked ? (line.ready ? ` · ${line.unacked}` : line.unacked) : "");
    say(takes, line.consumer === null ? "" : `→ ${line.consumer || "nobody"}`);
    takes.classList.toggle("chatlab-nobody", line.consumer === "");
    element.setAttribute("aria-label", `${line.name}: ${counts.textContent} ${takes.textContent}`);
  }

  const stop = follow(model, draw);
  const clock = setInterval(() => tell(model.get("view")), 200);
  return () => {
    clearInterval(clock);
    stop();
  };
}

export default { render };
