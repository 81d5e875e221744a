// A chat window: head (who, with whom, how it is), messages, the line to write on.

function render({ model, el }) {
  const ask = (verb, args = {}) => model.send({ do: verb, ...args });

  const chip = h("span.chip");
  const name = h("strong.name");
  const chats = h("select.chats", {
    title: "conversation",
    "aria-label": "conversation",
    onchange: () => {
      if (chats.value === LIST) ask("look_around");
      else ask("talk", { chat: chats.value });
    },
  });
  const state = h("select.state", {
    title: "state",
    "aria-label": "state",
    onchange: () => ask("state", { state: state.value }),
  });
  const older = h("button.older", { onclick: () => ask("older"), hidden: true });
  const lines = h("div.lines", { role: "log", "aria-live": "polite" });
  const there = h("div.there");
  const away = h("div.away");
  const scroll = h("div.scroll", { tabindex: -1, onscroll: seen }, older, lines, there, away);
  const unread = h("button.unread", { hidden: true, onclick: () => toEnd(true) });
  const input = h("input.input", {
    type: "text",
    maxlength: 65536,
    onkeydown: (event) => {
      event.stopPropagation(); // a notebook's shortcuts are not meant
      if (event.key === "Enter" && !event.isComposing) send();
    },
  });
  const button = h("button.send", { onclick: send }, "Send");
  const foot = h("div.foot", {}, input, button);
  const [note, drawNote] = footnote();
  const column = h("div.panel.column", {}, 
    h("div.head", {}, chip, name, chats, state),
    h("div.middle", {}, scroll, unread), note, foot);
  // Reading order is the order of the eye; by keyboard one writes first.
  input.tabIndex = button.tabIndex = state.tabIndex = chats.tabIndex = 0;
  el.append(column);

  const LIST = "who is there …";
  let newest = "";
  let missed = 0;

  function send() {
    const text = input.value;
    if (!text || input.disabled) return;
    ask("send", { text });
    input.value = "";
    toEnd(true);
  }
  function atEnd() {
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 24;
  }
  function toEnd(force) {
    if (force) scroll.scrollTop = scroll.scrollHeight;
    seen();
  }
  function seen() {
    if (atEnd()) missed = 0;
    unread.hidden = !missed;
    say(unread, `${missed} new below`);
  }

  function draw(view) {
    if (!view.name) return;
    const follows = atEnd();
    chip.style.background = view.colour;
    say(name, view.name);
    offer(chats, [...(view.chat ? [] : [""]), ...view.chats, LIST], view.chat);
    chats.title = view.backend ? `${view.chat} on ${view.backend}` : "conversation";
    offer(state, view.states, view.state);
    say(state.options[state.selectedIndex] ?? state, state.value);
    const online = view.where === "online" && !view.over;
    column.classList.toggle("chatlab-hatched", view.where !== "online");
    state.disabled = Boolean(view.over);
    input.disabled = button.disabled = !online || !view.chat;
    input.placeholder = !online ? `${view.name} is ${view.over ? "gone" : view.where}`
      : view.chat ? `write as ${view.name} …` : "choose a conversation";

    older.hidden = !view.older;
    say(older, `${view.older} older`);
    const height = scroll.scrollHeight;
    const first = lines.firstChild?.dataset.key;
    keep(lines, view.lines, makeLine, updateLine);
    if (first && lines.firstChild?.dataset.key !== first && !follows) {
      scroll.scrollTop += scroll.scrollHeight - height; // older ones came above
    }
    keep(there, view.there.map((one) => ({ key: one.kind + one.name, ...one })),
      (one) => h("button.one", { onclick: () => ask("open", { name: one.name, kind: one.kind }) }),
      (element, one) => say(element, one.kind === "group" ? `join ${one.name}` : `chat with ${one.name}`));
    say(away, view.away ? `— ${view.away} —` : "");
    drawNote(view);

    const others = view.lines.filter((line) => line.kind === "other");
    const last = others.length ? others[others.length - 1].key : "";
    if (last !== newest && newest !== "" && !follows) {
      const at = others.findIndex((line) => line.key === newest);
      missed += others.length - 1 - at;
    }
    newest = last;
    if (follows) scroll.scrollTop = scroll.scrollHeight;
    seen();
  }

  function makeLine(line) {
    if (line.kind === "note") return h("div.notice", {}, `— ${line.text} —`);
    const text = h("span.text");
    if (line.kind === "other") text.append(h("b", {}, line.who), " ");
    text.append(line.text);
    return h(`div.line.${line.kind}`, {}, text, h("span.status"));
  }
  function updateLine(element, line) {
    if (line.kind === "note") return;
    say(element.lastChild, line.status ? `${line.at} ${line.status}` : line.at);
    const bad = /^(not sent|\?|nobody)|miss/.test(line.status);
    element.lastChild.classList.toggle("chatlab-bad", bad);
  }

  const stop = follow(model, draw);
  requestAnimationFrame(() => toEnd(true));
  return stop;
}

export default { render };
