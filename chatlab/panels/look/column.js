// A chat window: head (who, with whom, how it is), messages, the line to write on.

const NEW_CHAT = "new chat …";
/** So many lines stay on the page while the reader looks at old ones and new ones come. */
const HELD_LINES = 400;

function render({ model, el }) {
  const ask = (verb, args = {}) => model.send({ do: verb, ...args });

  const input = h("input.input", {
    type: "text",
    maxlength: 65536,
    "aria-label": "message",
    onkeydown: (event) => {
      if (event.key === "Enter" && !event.isComposing) send();
    },
  });
  const button = h("button.send", { onclick: send }, "Send");
  const state = h("select.state", {
    title: "state",
    "aria-label": "state",
    onkeydown: opensByArrow,
    onchange: () => ask("state", { state: state.value }),
  });
  const chats = h("select.chats", {
    "aria-label": "conversation",
    onkeydown: opensByArrow,
    onchange: () => (chats.value === NEW_CHAT ? ask("look_around") : ask("talk", { chat: chats.value })),
  });
  const chip = h("span.chip");
  const name = h("strong.name");
  const dropped = h("div.notice", { hidden: true });
  const older = h("button.older", { onclick: () => ask("older"), hidden: true });
  const lines = h("div.lines", { role: "log", "aria-live": "polite", "aria-label": "messages" });
  const away = h("div.away", { role: "status" });
  const scroll = h("div.scroll", { tabindex: 0, onscroll: seen }, dropped, older, lines, away);
  const unread = h("button.unread", { hidden: true, onclick: () => toEnd() });
  const there = h("div.ones");
  const nobody = h("div.notice", {}, "nobody else is there yet");
  const closing = h("button.close", { onclick: () => ask("close_list") }, "close");
  const list = h("div.there", { role: "group", "aria-label": "who is there", hidden: true },
    h("div.there-head", {}, h("b", {}, "Who is there?"), closing), there, nobody);
  const [note, drawNote] = footnote(model);
  // In the order of the keyboard: write, send, state, conversation; the style puts them where
  // the eye expects them.
  const column = h("div.panel.column", { role: "group" },
    h("div.foot", {}, input, button),
    h("div.head", {}, chip, name, state, chats),
    h("div.middle", {}, scroll, unread, list), note);
  el.classList.add("chatlab-column-place");
  el.append(column);

  let epoch = null;
  let done = 0;
  let received = 0; // of these, the newest that was in sight
  let latest = 0;

  function send() {
    const text = input.value;
    if (!text || input.disabled) return;
    ask("send", { text });
    input.value = "";
    input.focus();
    toEnd();
  }
  function unsent(message) {
    if (message.unsent && !input.value) input.value = message.unsent;
  }
  function atEnd() {
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 24;
  }
  function toEnd() {
    received = latest;
    draw(model.get("view"), true);
  }
  function seen() {
    if (atEnd() && lines.dataset.behind !== "true") received = latest;
    const missed = latest - received;
    unread.hidden = !missed;
    say(unread, `${missed} new below`);
  }

  function draw(view, follows = false) {
    if (!view.name) return;
    if (view.epoch !== epoch) { // another conversation or scene
      epoch = view.epoch;
      lines.replaceChildren();
      received = view.received;
      follows = true;
    }
    const answered = view.done !== done;
    done = view.done;
    const over = Boolean(view.over);
    drawHead(view, answered, over);
    drawFoot(view, over);
    drawList(view, over);
    drawLines(view, follows || (atEnd() && lines.dataset.behind !== "true"), over);
    drawNote(view);
  }

  function drawHead(view, answered, over) {
    chip.style.background = view.colour;
    say(name, view.name);
    name.title = view.name;
    column.setAttribute("aria-label", `chat window of ${view.name}`);
    offer(state, view.states, view.state, answered);
    const menu = [...view.chats, { value: NEW_CHAT, label: NEW_CHAT }];
    if (!view.chat) menu.unshift({ value: "", label: "no chat" });
    offer(chats, menu, view.chat, answered);
    chats.title = view.backend ? `${view.title} on ${view.backend}` : "conversation";
    const news = view.chats.reduce((sum, one) => sum + one.unread, 0);
    chats.classList.toggle("chatlab-news", news > 0);
    if (news) chats.title += ` · ${news} unread in other conversations`;
    state.disabled = chats.disabled = over;
    column.classList.toggle("chatlab-hatched", view.where !== "online" || over);
  }

  function drawFoot(view, over) {
    const online = view.where === "online" && !over;
    input.disabled = button.disabled = !online || !view.chat;
    input.placeholder = over ? "over"
      : !online ? `${view.name} is ${view.where}`
        : view.chat ? `write as ${view.name} …` : "choose a conversation";
  }

  function drawList(view, over) {
    list.hidden = !view.list;
    scroll.inert = view.list;
    closing.disabled = over;
    keep(there, view.there.map((one) => ({ key: `${one.kind} ${one.name}`, ...one })),
      (one) => h("button.one", { onclick: () => ask("open", { name: one.name, kind: one.kind }) }),
      (element, one) => {
        say(element, one.says);
        element.title = one.says;
        element.disabled = over || view.where !== "online";
      });
    nobody.hidden = view.there.length > 0;
  }

  function drawLines(view, follows, over) {
    older.hidden = !view.older;
    older.disabled = over;
    say(older, `${view.older} older`);
    dropped.hidden = !view.dropped || view.older > 0;
    say(dropped, `— ${view.dropped} earlier lines are in the journal —`);
    say(away, view.away ? `— ${view.away} —` : "");
    away.title = view.why;
    latest = view.received;
    if (follows) {
      lines.dataset.behind = "false";
      keep(lines, view.lines, makeLine, updateLine);
      scroll.scrollTop = scroll.scrollHeight;
    } else holdLines(view.lines);
    seen();
  }

  /** The reader looks at old lines: these stay where they are, whatever comes. */
  function holdLines(now) {
    const top = [...lines.children].find((line) => line.offsetTop + line.offsetHeight > scroll.scrollTop);
    const was = top ? top.offsetTop : 0;
    const keys = new Set(now.map((line) => String(line.key)));
    const held = [...lines.children].filter((line) => !keys.has(line.dataset.key));
    const known = new Set([...lines.children].map((line) => line.dataset.key));
    const joins = now.some((line) => known.has(String(line.key)));
    if (joins && held.length <= HELD_LINES && lines.dataset.behind !== "true") {
      keep(lines, now, makeLine, updateLine, held);
    } else lines.dataset.behind = "true"; // too many have come: the button leads to the newest
    if (top) scroll.scrollTop += top.offsetTop - was;
  }

  function makeLine(line) {
    if (line.kind === "note") return h("div.notice");
    const text = h("span.text");
    if (line.kind === "other") text.append(h("b", {}, line.who), " ");
    text.append(h("bdi"));
    const more = h("button.more", { onclick: () => ask("whole", { key: line.key }), hidden: true });
    return h(`div.line.${line.kind}`, {}, text, more, h("span.status"));
  }
  function updateLine(element, line) {
    if (line.kind === "note") {
      say(element, `— ${line.text} —`);
      return;
    }
    const [text, more, status] = element.children;
    say(text.lastChild, line.text);
    more.hidden = !line.more && !line.whole;
    say(more, line.whole ? "show less"
      : line.more ? `… ${line.more.toLocaleString("en")} more characters` : "");
    say(status, line.status ? `${line.at} ${line.status}` : line.at);
    status.classList.toggle("chatlab-bad", line.bad);
  }

  model.on("msg:custom", unsent);
  const stop = follow(model, (view) => draw(view));
  const placed = new ResizeObserver(() => { // from nothing to something: it is on the page now
    if (lines.dataset.behind !== "true" && latest === received) scroll.scrollTop = scroll.scrollHeight;
  });
  placed.observe(scroll);
  return () => {
    placed.disconnect();
    model.off("msg:custom", unsent);
    stop();
  };
}

export default { render };
